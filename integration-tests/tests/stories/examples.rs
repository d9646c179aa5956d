//! Example programs of session-axum as two processes on one Redis, over real HTTP.

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use integration_tests::{PATIENCE, RedisServer, redis_config};
use reqwest::{Client, Response, StatusCode};
use session_axum::{Backend, MemoryStore, RedisStore, SessionCookie};
use tokio::{net::TcpListener, time::timeout};

#[expect(dead_code, unexpected_cfgs, reason = "a program of another crate")]
#[path = "../../../session-axum/examples/login.rs"]
mod login_program;
#[expect(dead_code, unexpected_cfgs, reason = "a program of another crate")]
#[path = "../../../session-axum/examples/websocket.rs"]
mod websocket;

fn login_app(store: impl Backend) -> Router {
    login_program::app(store, SessionCookie::insecure_for_development()).unwrap()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    addr
}

async fn store(redis: &RedisServer) -> RedisStore {
    RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap()
}

/// A browser that has signed in as `ada`.
async fn device(addr: SocketAddr) -> Client {
    let device = Client::builder().cookie_store(true).no_proxy().build().unwrap();
    let form = [("user", "ada")];
    let response = device.post(format!("http://{addr}/login")).form(&form).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    device
}

/// Reads from an event stream until it contains a text.
async fn until_event(stream: &mut Response, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = timeout(Duration::from_secs(30), stream.chunk()).await.expect(text);
        seen.push_str(std::str::from_utf8(&chunk.unwrap().expect(text)).unwrap());
    }
}

/// Opens the page at one server, and signs the device out at another.
async fn end_device_elsewhere(servers: [SocketAddr; 2]) {
    let [here, there] = servers;
    let laptop = device(here).await;
    let mut page = laptop.get(format!("http://{here}/live")).send().await.unwrap();
    until_event(&mut page, "this device").await;
    // Cookies belong to a host with all its ports.
    let phone = device(there).await;
    until_event(&mut page, r#"action="/devices/end""#).await;
    let end = phone.post(format!("http://{there}/devices/end-others")).send().await.unwrap();
    assert!(end.text().await.unwrap().contains("One other device is signed out."));
    until_event(&mut page, "Your session has ended").await;
    assert_eq!(page.chunk().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn page_shows_that_its_device_was_signed_out_elsewhere() {
    let app = serve(login_app(MemoryStore::default())).await;
    end_device_elsewhere([app, app]).await;
    let redis = RedisServer::start().await;
    let first = serve(login_app(store(&redis).await)).await;
    let second = serve(login_app(store(&redis).await)).await;
    end_device_elsewhere([first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_closes_when_the_session_ends_at_another_server() {
    let redis = RedisServer::start().await;
    let servers = [
        websocket::tests::serve(store(&redis).await).await,
        websocket::tests::serve(store(&redis).await).await,
    ];
    websocket::tests::count_and_sign_out(servers).await;
}
