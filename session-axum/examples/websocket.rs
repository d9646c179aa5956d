//! A counter over a web socket. The socket closes when the session ends, in whatever process that
//! happens.
//!
//! ```sh
//! cargo run -p session-axum --example websocket
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example websocket --features redis
//! ```
//!
//! Open <http://127.0.0.1:3000> in two tabs, sign in, count in both, and sign out in one of them.

use std::{error::Error, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    response::{Html, Redirect, Response},
    routing::{any, get, post},
};
use session_axum::{
    Backend, Key, Live, MemoryStore, SameOrigin, Session, SessionCookie, SessionError,
    SessionLayer, SignedIn,
};
use tokio::{net::TcpListener, time::timeout};
use tower_http::csrf::CsrfLayer;

const COUNT: Key<u64> = Key::new("count");

/// Begins a connection. The handle is made before the upgrade, while the session of the request is
/// at hand.
async fn connect(
    _: SameOrigin,
    SignedIn(_): SignedIn<String>,
    session: Session,
    upgrade: WebSocketUpgrade,
) -> Result<Response, SessionError> {
    let live = session.live().await?;
    Ok(upgrade.max_message_size(1024).max_frame_size(1024).on_upgrade(|socket| talk(socket, live)))
}

/// Serves a connection until the client leaves or the session ends.
///
/// The wait for the end goes on beside each receive and each send: a client that does not read cannot
/// keep the socket open.
async fn talk(mut socket: WebSocket, mut live: Live) {
    let session = live.clone();
    tokio::select! {
        () = converse(&mut socket, &session) => {}
        _ = live.ended() => {
            let reason = "your session has ended".into();
            let close = CloseFrame { code: close_code::POLICY, reason };
            // The client may have left already, or does not read.
            let _ = timeout(CLOSE_TIMEOUT, socket.send(Message::Close(Some(close)))).await;
        }
    }
}

/// Answers the messages of a client until the client leaves.
async fn converse(socket: &mut WebSocket, live: &Live) {
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        let answer = answer(text.as_str(), live).await;
        if socket.send(Message::text(answer)).await.is_err() {
            return;
        }
    }
}

/// The time in which a client takes the reason for the close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a message of the user. A count adds up with those of all other tabs, and is stored before
/// the answer. Each message is a use of the session, which moves its idle deadline.
async fn answer(text: &str, live: &Live) -> String {
    let answered = match text {
        "count" => live.update(COUNT, |count| *count += 1).await,
        _ => match live.touch().await {
            Ok(()) => live.read(|session| session.get(COUNT).unwrap_or_default()).await,
            Err(error) => Err(error),
        },
    };
    match answered {
        Ok(count) => count.to_string(),
        Err(_) => "not stored, try again".to_owned(),
    }
}

async fn index(session: Session) -> Html<&'static str> {
    Html(if session.owner().is_some() { COUNTER } else { SIGN_IN })
}

/// Signs in. A real application checks a password or a passkey here.
async fn login(session: Session) -> Result<Redirect, SessionError> {
    session.authenticate("ada")?;
    Ok(Redirect::to("/"))
}

async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

pub(crate) fn app(store: impl Backend) -> Router {
    // For plain HTTP on localhost. In production keep the default, which works over HTTPS only.
    let cookie = SessionCookie::insecure_for_development();
    Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/logout", post(logout))
        // Over HTTP/2, a handshake is a CONNECT.
        .route("/socket", any(connect))
        .layer(SessionLayer::new(store).with_cookie(cookie))
        .layer(CsrfLayer::new())
}

const SIGN_IN: &str = r#"<!doctype html><title>Sign in</title>
<form method="post" action="/login"><button>Sign in</button></form>"#;

const COUNTER: &str = r#"<!doctype html><title>Count</title>
<button id="count">Count</button> <output id="state">connecting</output>
<form method="post" action="/logout"><button>Sign out</button></form>
<script>
  const state = document.getElementById("state");
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/socket");
  socket.onopen = () => socket.send("read");
  socket.onmessage = (message) => { state.value = message.data; };
  socket.onclose = (close) => { state.value = close.reason || "disconnected"; };
  document.getElementById("count").onclick = () => socket.send("count");
</script>"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(store().await?)).await?)
}

/// Returns the Redis store at `REDIS_URL`, or a memory store if the variable is not set.
async fn store() -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    #[cfg(feature = "redis")]
    if let Ok(url) = std::env::var("REDIS_URL") {
        return Ok(Arc::new(session_axum::RedisStore::connect(url).await?));
    }
    Ok(Arc::new(MemoryStore::default()))
}

#[cfg(test)]
#[path = "websocket/tests.rs"]
pub(crate) mod tests;
