//! The extractors `SignedIn` and `Option<_>`.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{Request, StatusCode},
    routing::{get, post},
};
use insta::assert_snapshot;
use session_axum::{Session, SessionError, SessionRejection, SignedIn, StoreErrorKind};
use session_core::testing::subscribe;

use crate::support::{Site, answer};

async fn demand(SignedIn(user): SignedIn<u64>) -> String {
    user.to_string()
}

async fn ask(user: Option<SignedIn<u64>>) -> String {
    format!("{user:?}")
}

async fn enter(session: Session) -> Result<(), SessionError> {
    session.authenticate(7_u64)
}

async fn has_session(session: Option<Session>) -> String {
    session.is_some().to_string()
}

fn routes() -> Router {
    Router::new()
        .route("/demand", get(demand))
        .route("/ask", get(ask))
        .route("/enter", post(enter))
        .route("/has-session", get(has_session))
}

#[tokio::test]
async fn handler_receives_the_owner_as_its_type() {
    let site = Site::with_routes(routes());
    let cookie = site.send("POST /enter", "").await.cookie();
    assert_eq!(site.send("GET /demand", &cookie).await.body, "7");
    assert_eq!(site.send("GET /ask", &cookie).await.body, "Some(SignedIn(7))");
}

#[tokio::test]
async fn visitor_is_401_or_none() {
    let site = Site::with_routes(routes());
    let visitor = site.begin().await;
    for cookie in ["", "__Host-session=dead", &visitor] {
        let text = site.send("GET /demand", cookie).await.text();
        insta::allow_duplicates! {
            assert_snapshot!(text, @"
            401 Unauthorized
            cache-control: no-store
            vary: cookie
            sign in first
            ");
        }
        assert_eq!(site.send("GET /ask", cookie).await.body, "None", "{cookie:?}");
    }
}

#[tokio::test]
async fn outage_is_503_and_never_a_visitor() {
    let site = Site::with_routes(routes());
    let cookie = site.send("POST /enter", "").await.cookie();
    site.store.fail_all(StoreErrorKind::Unavailable);
    for path in ["/demand", "/ask", "/has-session"] {
        let answer = site.send(&format!("GET {path}"), &cookie).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.set_cookie(), None, "{path}");
    }
    site.store.recover();
    assert_eq!(site.send("GET /demand", &cookie).await.body, "7");
}

#[tokio::test]
async fn owner_of_another_type_is_500_and_stays_out_of_the_log() {
    let site = Site::with_routes(routes());
    let cookie = site.send("POST /login", "").await.cookie();
    let log = Log::default();
    let _guard = subscribe(log.subscriber());
    for path in ["/demand", "/ask"] {
        let text = site.send(&format!("GET {path}"), &cookie).await.text();
        insta::allow_duplicates! {
            assert_snapshot!(text, @"
            500 Internal Server Error
            vary: cookie
            the session cannot be used
            ");
        }
    }
    let text = log.text();
    assert_eq!(text.matches("is not of the type `u64`").count(), 2, "{text}");
    assert!(!text.contains("ada"), "{text}");
}

#[tokio::test]
async fn route_without_the_layer_has_no_session() {
    let send = async |path| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        answer(routes(), request).await
    };
    for path in ["/demand", "/ask"] {
        let answer = send(path).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{path}");
        assert_eq!(answer.body, SessionRejection::MissingLayer.to_string(), "{path}");
    }
    assert_eq!(send("/has-session").await.body, "false");
    assert_eq!(Site::with_routes(routes()).send("GET /has-session", "").await.body, "true");
}

/// The lines that the library logs in this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        let log = self.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
