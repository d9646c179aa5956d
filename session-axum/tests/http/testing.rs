//! Cookies and bearer tokens for tests of an application's handlers.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
    routing::get,
};
use session_axum::{
    BearerToken, MemoryStore, Session, SessionCookie, SessionLayer, SignedIn, StoreErrorKind,
    Transport, testing::FaultStore,
};

use crate::support::{COUNT, answer};

async fn home(SignedIn(user): SignedIn<u64>, session: Session) -> String {
    format!("user {user}, count {:?}", session.get(COUNT))
}

/// The settings of an application that changed the name of its cookie.
fn shop() -> SessionLayer {
    let cookie = SessionCookie::default().with_name("__Host-shop").unwrap();
    SessionLayer::new(MemoryStore::default()).with_cookie(cookie)
}

#[tokio::test]
async fn cookie_signs_in_under_the_layers_own_name() {
    let layer = shop();
    let request = Request::get("/").header(header::COOKIE, layer.signed_in_cookie(7).await);
    let app = Router::new().route("/", get(home)).layer(layer);
    let answer = answer(app, request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "user 7, count None"));
}

#[tokio::test]
async fn cookie_opens_a_session_with_values() {
    let layer = shop();
    let cookie = layer
        .session_cookie(|session| {
            session.authenticate(8)?;
            session.set(COUNT, 3)
        })
        .await;
    let request = Request::get("/").header(header::COOKIE, cookie);
    let app = Router::new().route("/", get(home)).layer(layer);
    let answer = answer(app, request.body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "user 8, count Some(3)"));
}

#[tokio::test]
async fn each_cookie_opens_a_session_of_its_own() {
    let layer = shop();
    assert_ne!(layer.signed_in_cookie(7).await, layer.signed_in_cookie(7).await);
    assert_eq!(layer.sessions().list(7).await.unwrap().len(), 2);
}

/// The ID in the cookie is a secret also in the output of a test.
#[tokio::test]
async fn cookie_hides_its_id_in_debug() {
    assert!(shop().signed_in_cookie(7).await.is_sensitive());
}

#[tokio::test]
#[should_panic(expected = "a session without a change has no ID")]
async fn session_without_a_change_has_no_cookie() {
    shop().session_cookie(|_| Ok(())).await;
}

#[tokio::test]
async fn bearer_token_signs_in() {
    let both = Transport::CookieOrBearer(SessionCookie::default(), BearerToken::default());
    for transport in [BearerToken::default().into(), both] {
        let layer = shop().with_transport(transport);
        let token = layer.signed_in_bearer(7).await;
        assert!(token.is_sensitive());
        let request = Request::get("/").header(header::AUTHORIZATION, token);
        let app = Router::new().route("/", get(home)).layer(layer);
        let answer = answer(app, request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "user 7, count None"));
    }
}

#[tokio::test]
#[should_panic(expected = "the layer lacks a bearer token")]
async fn layer_of_a_cookie_has_no_bearer_token() {
    shop().signed_in_bearer(7).await;
}

#[tokio::test]
#[should_panic(expected = "the layer lacks a cookie")]
async fn layer_of_a_bearer_token_has_no_cookie() {
    shop().with_transport(BearerToken::default()).signed_in_cookie(7).await;
}

#[tokio::test]
async fn fault_store_fails_the_read_of_a_signed_in_user() {
    let store = Arc::new(FaultStore::new_working(MemoryStore::default()));
    let layer = SessionLayer::new(Arc::clone(&store));
    let cookie = layer.signed_in_cookie(7).await;
    let app = Router::new().route("/", get(home)).layer(layer);
    for (outage, status) in [
        (Some(StoreErrorKind::Unavailable), StatusCode::SERVICE_UNAVAILABLE),
        (None, StatusCode::OK),
    ] {
        store.set_outage(outage);
        let request = Request::get("/").header(header::COOKIE, &cookie);
        let answer = answer(app.clone(), request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, status);
    }
}
