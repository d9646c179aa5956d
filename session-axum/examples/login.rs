//! A page on which users sign in, count their visits, see their devices, and sign out, here or
//! elsewhere. The page follows the devices by a stream of events: a device that is signed out
//! elsewhere shows it without a reload.
//!
//! ```sh
//! cargo run -p session-axum --example login
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example login --features redis
//! ```
//!
//! In memory, sessions end with the program. In Redis, sessions outlive the program, and any number
//! of instances share them. `PORT` chooses another port than 3000.

mod login {
    pub(super) mod devices;
    pub(super) mod live;
    pub(super) mod pages;
    #[cfg(test)]
    mod tests;
}

use std::{env, error::Error, process::ExitCode, sync::Arc};

use axum::{
    Form, Router,
    http::{HeaderMap, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use login::{devices, live, pages};
use serde::Deserialize;
use session_axum::{
    Backend, ConfigError, FlashLevel, Key, Lifetime, MemoryStore, RequireSignIn, Session,
    SessionCookie, SessionError, SessionKey, SessionLayer, SessionRejection, SignedIn,
};
use tokio::net::TcpListener;
use tower_http::csrf::{CsrfLayer, ProtectionError};

/// The number of times that the visitor pressed the button.
const VISITS: Key<u64> = Key::new("visits");

/// The name of the device in the list of devices. It is shown, and never compared.
const DEVICE: Key<String> = Key::new("device");

/// The page. In an outage of the store it has an answer of its own; the other handlers leave the
/// answer to the library, a 503.
async fn index(session: Result<Session, SessionRejection>) -> Result<Response, SessionError> {
    let Ok(session) = session else {
        let retry = [(header::RETRY_AFTER, "5")];
        return Ok((StatusCode::SERVICE_UNAVAILABLE, retry, pages::outage()).into_response());
    };
    let visits = session.get(VISITS).unwrap_or_default();
    let flashes = session.take_flashes().await?;
    let mut notices: Vec<_> = flashes.iter().map(|flash| (flash.level(), flash.text())).collect();
    let page = match session.owner_as::<String>() {
        Some(user) => {
            let devices = session.sessions().list(&user).await?;
            let devices = devices::list(&devices, session.key());
            pages::member(&user, visits, &notices, &devices)
        }
        None => {
            if notices.is_empty() && session.had_unknown_id() {
                notices.push((FlashLevel::Warning, ENDED));
            }
            pages::visitor(visits, &notices, None)
        }
    };
    Ok(page.into_response())
}

/// The note for a browser whose session was ended elsewhere, or has expired.
const ENDED: &str =
    "Your session has ended: it was signed out on another device, or not used for too long.";

#[derive(Deserialize)]
struct SignIn {
    user: String,
    /// The checkbox "Keep me signed in". Absent if it is not checked.
    remember: Option<String>,
}

/// Signs in. A real application checks a password or a passkey here.
async fn login(
    session: Session,
    headers: HeaderMap,
    Form(form): Form<SignIn>,
) -> Result<Response, SessionError> {
    let user = form.user.trim();
    if let Err(problem) = check_name(user) {
        let visits = session.get(VISITS).unwrap_or_default();
        let page = pages::visitor(visits, &[], Some(problem));
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    // The session gets a new ID: an ID that an attacker planted or saw before the login is
    // worthless afterwards. The values of a visitor stay, and the values of another user are
    // removed. The login begins with the default lifetime, even if the last login asked for another
    // one.
    session.authenticate(user)?;
    if form.remember.is_some() {
        session.set_lifetime(Lifetime::remember_me())?;
    }
    session.set(DEVICE, devices::name(&headers))?;
    session.flash(FlashLevel::Success, "You are signed in, and your session has a new ID.")?;
    Ok(Redirect::to("/").into_response())
}

/// Counts a visit. Two concurrent visits count as two, in the same process or in different ones.
async fn visit(session: Session) -> Result<Redirect, SessionError> {
    session.update(VISITS, |visits| *visits += 1)?;
    if session.had_unknown_id() {
        // The response replaces the cookie by which the next page would know.
        session.flash(FlashLevel::Warning, ENDED)?;
    }
    Ok(Redirect::to("/"))
}

/// Signs out: the session is gone from the store, and the cookie from the browser.
async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

#[derive(Deserialize)]
struct EndDevice {
    key: SessionKey,
}

/// Signs out one device, which may be the current one. Only an ID opens a session, so the page can
/// show the key. The key of another user's session has no effect.
async fn end_device(
    SignedIn(user): SignedIn<String>,
    session: Session,
    Form(form): Form<EndDevice>,
) -> Result<Redirect, SessionError> {
    if session.key() == Some(form.key) {
        session.destroy()?;
    } else {
        let was_there = session.sessions().revoke(user, form.key).await?;
        let notice = if was_there { "That device is signed out." } else { "It was gone already." };
        session.flash(FlashLevel::Info, notice)?;
    }
    Ok(Redirect::to("/"))
}

/// Signs out everywhere else.
async fn end_other_devices(session: Session) -> Result<Redirect, SessionError> {
    let notice = match session.sessions().revoke_others(&session).await? {
        0 => "You were signed in nowhere else.".to_owned(),
        1 => "One other device is signed out.".to_owned(),
        others => format!("{others} other devices are signed out."),
    };
    session.flash(FlashLevel::Info, notice)?;
    Ok(Redirect::to("/"))
}

fn check_name(user: &str) -> Result<(), &'static str> {
    match user.chars().count() {
        0 => Err("Enter a name."),
        1..=64 => Ok(()),
        _ => Err("The name is too long: 64 characters at most."),
    }
}

pub(crate) fn app(store: impl Backend, cookie: SessionCookie) -> Result<Router, ConfigError> {
    // `SameSite=Lax` keeps the cookie out of another site's POST. The form itself still arrives, and
    // could sign the visitor in to another account: the layer refuses it.
    let csrf = CsrfLayer::new().with_rejection_response(|_: ProtectionError| {
        (StatusCode::FORBIDDEN, pages::foreign()).into_response()
    });
    // Forms alone are behind this guard, and a redirect leads no form back. The example `members` has
    // pages behind a guard, and a login that leads back to them.
    let devices = Router::new()
        .route("/devices/end", post(end_device))
        .route("/devices/end-others", post(end_other_devices))
        .route_layer(RequireSignIn::redirect_to("/")?);
    Ok(Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/visit", post(visit))
        .route("/logout", post(logout))
        .route("/live", get(live::events))
        .merge(devices)
        .layer(SessionLayer::new(store).with_cookie(cookie))
        .route("/style.css", get(pages::style))
        .route("/live.js", get(pages::script))
        .layer(csrf)
        .layer(map_response(pages::secure)))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(cause) = error.source() {
                eprintln!("because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let port: u16 = port.parse().map_err(|_| format!("PORT is {port:?}, not a port"))?;
    // For plain HTTP on localhost. In production use the default, which works over HTTPS only:
    // `__Host-session`, with `Secure`.
    let app = app(store().await?, SessionCookie::insecure_for_development())?;
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("port {port} cannot be used: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Returns the Redis store at `REDIS_URL`, or a memory store if the variable is not set.
async fn store() -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    match env::var("REDIS_URL") {
        Ok(url) => redis(url).await,
        Err(_) => Ok(Arc::new(MemoryStore::default())),
    }
}

#[cfg(feature = "redis")]
async fn redis(url: String) -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    Ok(Arc::new(session_axum::RedisStore::connect(url).await?))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: String) -> Result<Arc<dyn Backend>, Box<dyn Error>> {
    Err("REDIS_URL is set, but this program was built without Redis. Run \
         `cargo run -p session-axum --example login --features redis`, or unset REDIS_URL."
        .into())
}
