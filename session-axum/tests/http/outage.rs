use axum::{Router, http::StatusCode, routing::get};
use insta::assert_snapshot;
use session_axum::{MemoryStore, Session, SessionLayer, SessionRejection, StoreErrorKind};
use session_core::testing::Verb;

use crate::support::{Site, answer, id};

#[tokio::test]
async fn outage_is_503_and_keeps_the_cookie() {
    let site = Site::new();
    let cookie = site.begin().await;
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        site.store.fail(&[Verb::Load], kind);
        let answer = site.send("GET /read", &cookie).await;
        insta::allow_duplicates! {
            assert_snapshot!(answer.text(), @"
            503 Service Unavailable
            retry-after: 1
            vary: cookie
            cache-control: no-store
            sessions are unavailable, try again in a moment
            ");
        }
    }
    site.store.recover();
    let answer = site.send("GET /read", &cookie).await;
    assert_eq!((&*answer.body, answer.set_cookie()), ("1", None));
}

#[tokio::test]
async fn route_without_a_session_works_in_an_outage() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.store.fail_all(StoreErrorKind::Unavailable);
    assert_eq!(site.send("GET /plain", &cookie).await.status, StatusCode::OK);
    // A visitor without a session has nothing to load.
    assert_eq!(site.send("GET /read", "").await.status, StatusCode::OK);
    assert_eq!(site.send("GET /read", "__Host-session=malformed").await.status, StatusCode::OK);
}

#[tokio::test]
async fn handler_can_answer_an_outage_itself() {
    async fn page(session: Result<Session, SessionRejection>) -> String {
        match session {
            Ok(session) => format!("as usual, signed in: {}", session.owner().is_some()),
            Err(rejection) => format!("back in a moment: {rejection}"),
        }
    }
    let site = Site::with_routes(Router::new().route("/page", get(page)));
    let cookie = site.begin().await;
    assert_eq!(site.send("GET /page", &cookie).await.body, "as usual, signed in: false");
    site.store.fail(&[Verb::Load], StoreErrorKind::Unavailable);
    // A shared cache must not show this page to others.
    assert_snapshot!(site.send("GET /page", &cookie).await.text(), @"
    200 OK
    vary: cookie
    cache-control: no-store
    back in a moment: the session store is unavailable
    ");
}

#[tokio::test]
async fn unreadable_record_is_no_session_and_keeps_the_cookie() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Load], StoreErrorKind::Corrupt);
    let answer = site.send("GET /read", &cookie).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "0"));
    // A newer version may be able to read it.
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(
        site.send("POST /count", &cookie).await.cookie(),
        format!("__Host-session={}", id(1))
    );
}

#[tokio::test]
async fn missing_layer_is_500_and_names_the_remedy() {
    let request = || axum::http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    let without: Router = Router::new().route("/", get(async |_: Session| "never"));
    assert_snapshot!(answer(without, request()).await.text(), @"
    500 Internal Server Error
    no session on this route: call `.layer(SessionLayer::new(store))` on its router, after its routes and after the layers that use the session
    ");
    let too_early: Router = Router::new()
        .route("/other", get(async |_: Session| "a session"))
        .layer(SessionLayer::new(MemoryStore::default()))
        .route("/", get(async |_: Session| "never"));
    assert!(answer(too_early, request()).await.text().contains("after its routes"));
}
