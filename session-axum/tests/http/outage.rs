use axum::{Router, http::StatusCode, routing::get};
use insta::assert_snapshot;
use session_axum::{Session, SessionRejection, StoreErrorKind};

use crate::support::{Site, answer, id};

#[tokio::test]
async fn an_outage_is_503_and_leaves_the_cookie() {
    let site = Site::new();
    let cookie = site.begin().await;
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        site.store.fail(&["load"], kind);
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
async fn what_needs_no_session_works_through_an_outage() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.store.fail(&["create", "load", "commit", "touch", "delete"], StoreErrorKind::Unavailable);
    assert_eq!(site.send("GET /plain", &cookie).await.status, StatusCode::OK);
    // Nor does a visitor who never had one.
    assert_eq!(site.send("GET /read", "").await.status, StatusCode::OK);
    assert_eq!(site.send("GET /read", "__Host-session=malformed").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_handler_can_answer_an_outage_itself() {
    async fn page(session: Result<Session, SessionRejection>) -> String {
        match session {
            Ok(session) => format!("as usual, signed in: {}", session.owner().is_some()),
            Err(rejection) => format!("back in a moment: {rejection}"),
        }
    }
    let site = Site::with_routes(Router::new().route("/page", get(page)));
    let cookie = site.begin().await;
    assert_eq!(site.send("GET /page", &cookie).await.body, "as usual, signed in: false");
    site.store.fail(&["load"], StoreErrorKind::Unavailable);
    // A shared cache must not give this to others.
    assert_snapshot!(site.send("GET /page", &cookie).await.text(), @"
    200 OK
    vary: cookie
    cache-control: no-store
    back in a moment: the session store is unavailable
    ");
}

#[tokio::test]
async fn an_unreadable_record_is_no_session_and_no_error() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.store.fail(&["load"], StoreErrorKind::Corrupt);
    let answer = site.send("GET /read", &cookie).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "0"));
    assert!(answer.removes_the_cookie());
    assert_eq!(
        site.send("POST /count", &cookie).await.cookie(),
        format!("__Host-session={}", id(1))
    );
}

#[tokio::test]
async fn a_missing_layer_is_500_and_says_what_to_add() {
    let router: Router = Router::new().route("/", get(async |_: Session| "never"));
    let request = axum::http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    assert_snapshot!(answer(router, request).await.text(), @"
    500 Internal Server Error
    no session on this route: add `.layer(SessionLayer::new(store))` to its router
    ");
}
