//! The program over real HTTP.

use std::{future::pending, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, Version},
    serve::Listener,
};
use futures_util::{SinkExt as _, StreamExt as _};
use session_axum::{Backend, MemoryStore};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode,
    },
};
use tower::ServiceExt as _;

use super::app;

/// A browser with the cookie of a signed-in user.
pub(crate) struct Tab {
    addr: SocketAddr,
    cookie: String,
}

/// Serves the program until the end of the test.
pub(crate) async fn serve(store: impl Backend) -> SocketAddr {
    serve_app(app(store)).await
}

async fn serve_app(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    addr
}

/// A listener with one connection, which holds few bytes that nobody has read.
struct OnePipe(Option<DuplexStream>);

impl Listener for OnePipe {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.take() {
            Some(pipe) => (pipe, ()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends a `POST` without a body, and returns the response's head.
async fn post(addr: SocketAddr, path: &str, cookie: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncookie: {cookie}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    stream.read_to_string(&mut head).await.unwrap();
    head
}

impl Tab {
    pub(crate) async fn sign_in(addr: SocketAddr) -> Self {
        let head = post(addr, "/login", "").await;
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        Self { addr, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    /// Returns the same browser at another process.
    pub(crate) fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, cookie: self.cookie.clone() }
    }

    pub(crate) async fn sign_out(&self) {
        assert!(post(self.addr, "/logout", &self.cookie).await.starts_with("HTTP/1.1 303"));
    }

    fn handshake(&self) -> Request<()> {
        let mut request = format!("ws://{}/socket", self.addr).into_client_request().unwrap();
        request.headers_mut().insert("cookie", self.cookie.parse().unwrap());
        request
    }

    pub(crate) async fn connect(&self) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        client_async(self.handshake(), stream).await.unwrap().0
    }

    /// Returns the status of a refused handshake.
    async fn refusal(addr: SocketAddr, request: Request<()>) -> u16 {
        let stream = TcpStream::connect(addr).await.unwrap();
        match client_async(request, stream).await {
            Err(Error::Http(response)) => response.status().as_u16(),
            _ => panic!("the handshake was not refused"),
        }
    }
}

pub(crate) async fn ask(socket: &mut WebSocketStream<TcpStream>, text: &str) -> String {
    socket.send(Message::text(text)).await.unwrap();
    socket.next().await.unwrap().unwrap().into_text().unwrap().as_str().to_owned()
}

/// Checks that the socket closes because the session has ended.
pub(crate) async fn expect_end(socket: &mut WebSocketStream<TcpStream>) {
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Policy, "your session has ended"));
}

/// Counts in two tabs, and signs out at one of the servers.
pub(crate) async fn count_and_sign_out(servers: [SocketAddr; 2]) {
    let tab = Tab::sign_in(servers[0]).await;
    let mut sockets = [tab.connect().await, tab.at(servers[1]).connect().await];
    for count in (1..20).step_by(2) {
        assert_eq!(ask(&mut sockets[0], "count").await, count.to_string());
        assert_eq!(ask(&mut sockets[1], "count").await, (count + 1).to_string());
    }
    assert_eq!(ask(&mut sockets[0], "read").await, "20");
    tab.at(servers[1]).sign_out().await;
    for socket in &mut sockets {
        expect_end(socket).await;
    }
}

#[tokio::test]
async fn sockets_count_together_and_close_at_the_end_of_the_session() {
    let addr = serve(MemoryStore::default()).await;
    count_and_sign_out([addr, addr]).await;
}

#[tokio::test]
async fn handshake_of_another_site_or_without_a_login_is_refused() {
    let addr = serve(MemoryStore::default()).await;
    let tab = Tab::sign_in(addr).await;
    for origin in ["https://evil.example", "null", &format!("http://evil.{addr}")] {
        let mut request = tab.handshake();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        assert_eq!(Tab::refusal(addr, request).await, 403, "{origin}");
    }
    let mut request = tab.handshake();
    request.headers_mut().insert("origin", format!("http://{addr}").parse().unwrap());
    client_async(request, TcpStream::connect(addr).await.unwrap()).await.unwrap();
    let mut request = tab.handshake();
    request.headers_mut().remove("cookie");
    assert_eq!(Tab::refusal(addr, request).await, 401);
}

/// The server waits until the client reads an answer. Nobody does.
#[tokio::test]
async fn client_that_reads_nothing_keeps_no_ended_session_open() {
    let app = app(MemoryStore::default());
    let tab = Tab::sign_in(serve_app(app.clone()).await).await;
    let (client, server) = duplex(512);
    tokio::spawn(axum::serve(OnePipe(Some(server)), app).into_future());
    let (mut socket, _) = client_async(tab.handshake(), client).await.unwrap();
    while let Ok(sent) =
        timeout(Duration::from_millis(500), socket.send(Message::text("read"))).await
    {
        sent.unwrap();
    }
    tab.sign_out().await;
    let closed = timeout(Duration::from_secs(30), socket.flush()).await;
    closed.expect("the server closes the connection").unwrap_err();
}

/// A `CONNECT` (RFC 8441, 5). This request has no connection, so the upgrade itself is refused.
#[tokio::test]
async fn handshake_over_http_2_reaches_the_handler() {
    let app = app(MemoryStore::default());
    let send = async |method: &str, path: &str, cookie: &str| {
        let request = Request::builder().method(method).version(Version::HTTP_2);
        let request = request.uri(format!("https://shop.example{path}")).header("cookie", cookie);
        let request = request.header("sec-websocket-version", "13").body(Body::empty());
        app.clone().oneshot(request.unwrap()).await.unwrap()
    };
    let login = send("POST", "/login", "").await;
    let cookie = login.headers()["set-cookie"].to_str().unwrap();
    let handshake = send("CONNECT", "/socket", cookie.split(';').next().unwrap()).await;
    assert_eq!(handshake.status(), StatusCode::UPGRADE_REQUIRED);
}
