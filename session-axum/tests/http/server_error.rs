//! Changes of a handler whose response is an error.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures_util::FutureExt as _;
use insta::assert_snapshot;
use session_axum::{
    Key, MemoryStore, Session, SessionError, SessionLayer, SessionOrOutage, StoreErrorKind,
};
use session_core::testing::Verb;
use tokio::time::{sleep, timeout};
use tower_http::timeout::TimeoutLayer;

use crate::support::{COUNT, Site, answer};

const PAID: Key<bool> = Key::new("paid");

#[tokio::test]
async fn server_error_stores_no_change() {
    let site = Site::with_routes(
        Router::new()
            .route("/write", post(async |session: Session| fail(session.set(COUNT, 99))))
            .route("/error", post(write_and_fail_for_the_session)),
    );
    let cookie = site.begin().await;
    for route in ["POST /write", "POST /error"] {
        for cookie in ["", &cookie] {
            let answer = site.send(route, cookie).await;
            assert_eq!((answer.status.as_u16(), answer.set_cookie()), (500, None), "{route}");
        }
    }
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Load], "nothing is written");
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn failed_login_and_failed_logout_change_nothing() {
    let site = Site::with_routes(
        Router::new()
            .route("/fail-in", post(async |session: Session| fail(session.authenticate("eve"))))
            .route("/fail-out", post(async |session: Session| fail(session.destroy()))),
    );
    let cookie = site.begin().await;
    let cookie = site.send("POST /login", &cookie).await.cookie();
    for route in ["POST /fail-in", "POST /fail-out"] {
        assert_eq!(site.send(route, &cookie).await.set_cookie(), None, "{route}");
        assert_eq!(site.send("GET /owner", &cookie).await.body, "ada", "{route}");
    }
}

#[tokio::test]
async fn commit_before_a_server_error_counts() {
    let site = Site::with_routes(Router::new().route(
        "/pay",
        post(async |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            session.commit().await?;
            fail(session.set(COUNT, 99))
        }),
    ));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /pay", &cookie).await.status, 500);
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
    // The response to a visitor carries the ID of the session that the commit began.
    let begun = site.send("POST /pay", "").await;
    assert_eq!(site.send("GET /read", &begun.cookie()).await.body, "1");
}

#[tokio::test]
async fn timeout_and_panic_inside_of_the_layer_store_nothing() {
    async fn limit(request: Request, next: Next) -> Response {
        let handled = timeout(Duration::from_millis(1), next.run(request));
        let handled = AssertUnwindSafe(handled).catch_unwind().await;
        let Ok(Ok(response)) = handled else {
            return StatusCode::GATEWAY_TIMEOUT.into_response();
        };
        response
    }
    let slow = async |session: Session| {
        session.set(COUNT, 99)?;
        sleep(Duration::from_secs(60)).await;
        Ok::<_, SessionError>(())
    };
    let panicking = async |session: Session| -> Result<(), SessionError> {
        session.set(COUNT, 99)?;
        panic!("a fault of the handler");
    };
    let site = Site::with_routes(
        Router::new()
            .route("/slow", post(slow))
            .route("/panic", post(panicking))
            .layer(from_fn(limit)),
    );
    let cookie = site.begin().await;
    for route in ["POST /slow", "POST /panic"] {
        assert_eq!(site.send(route, &cookie).await.status, 504, "{route}");
        assert_eq!(site.send("GET /read", &cookie).await.body, "1", "{route}");
    }
}

/// tower-http answers 408 by default (RFC 9110, 15.5.9).
#[tokio::test]
async fn timeout_with_408_stores_nothing() {
    let slow = async |session: Session| {
        session.set(COUNT, 99)?;
        sleep(Duration::from_secs(60)).await;
        Ok::<_, SessionError>(())
    };
    let limit = Duration::from_millis(1);
    let timeout = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, limit);
    let site = Site::with_routes(Router::new().route("/slow", post(slow)).layer(timeout));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /slow", &cookie).await.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

/// `?` has left the handler in the middle.
#[tokio::test]
async fn error_of_the_session_stores_nothing() {
    let refused = async |session: Session| {
        session.set(COUNT, 99)?;
        session.try_update(PAID, |_, _| Err("sold out"))?;
        Ok::<_, SessionError>(())
    };
    let taken = async |session: Session| {
        session.set(COUNT, 99)?;
        session.take(PAID)?.ok_or(SessionError::Taken)?;
        Ok::<_, SessionError>(())
    };
    let site = Site::with_routes(
        Router::new().route("/refused", post(refused)).route("/taken", post(taken)),
    );
    let cookie = site.begin().await;
    for route in ["POST /refused", "POST /taken"] {
        assert_eq!(site.send(route, &cookie).await.status, StatusCode::CONFLICT, "{route}");
        assert_eq!(site.send("GET /read", &cookie).await.body, "1", "{route}");
    }
}

#[tokio::test]
async fn server_errors_commit_if_the_layer_is_told_to() {
    let router = Router::new()
        .route("/write", post(async |session: Session| fail(session.set(COUNT, 99))))
        .layer(SessionLayer::new(MemoryStore::default()).with_server_errors_committed(true));
    let request = Request::post("/write").body(axum::body::Body::empty()).unwrap();
    let answer = answer(router, request).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.set_cookie().is_some());
}

/// The handler has seen the failure, so its own page is the right one, and the store must not get
/// the changes after all.
#[tokio::test]
async fn error_after_a_failed_commit_stays_and_stores_nothing() {
    for status in [StatusCode::CONFLICT, StatusCode::BAD_GATEWAY] {
        let site = Site::with_routes(Router::new().route(
            "/order",
            post(async move |session: Session| {
                session.update(COUNT, |count| *count += 1)?;
                if session.commit().await.is_err() {
                    return Ok((status, "please order by phone"));
                }
                Ok::<_, SessionError>((StatusCode::OK, "ordered"))
            }),
        ));
        let cookie = site.begin().await;
        site.store.fail_once(Verb::Commit, StoreErrorKind::Unavailable);
        let answer = site.send("POST /order", &cookie).await;
        assert_eq!((answer.status, &*answer.body), (status, "please order by phone"));
        assert_eq!(site.send("GET /read", &cookie).await.body, "1", "{status}");
    }
}

#[tokio::test]
async fn changes_after_a_repeated_commit_are_committed() {
    let site = Site::with_routes(Router::new().route(
        "/retry",
        post(async |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            if session.commit().await.is_err() {
                session.commit().await?;
            }
            session.set(PAID, true)?;
            Ok::<_, SessionError>(StatusCode::NOT_FOUND)
        }),
    ));
    let cookie = site.begin().await;
    site.store.fail_once(Verb::Commit, StoreErrorKind::Unavailable);
    assert_eq!(site.send("POST /retry", &cookie).await.status, StatusCode::NOT_FOUND);
    let calls = site.store.take_calls();
    assert_eq!(calls, [Verb::Load, Verb::Commit, Verb::Commit, Verb::Commit]);
}

#[tokio::test]
async fn success_after_a_failed_commit_is_committed_again() {
    let site = Site::with_routes(Router::new().route(
        "/ignore",
        post(async |session: SessionOrOutage| {
            let session = session.require()?;
            session.update(COUNT, |count| *count += 1)?;
            drop(session.commit().await);
            Ok::<_, SessionError>("saved")
        }),
    ));
    let cookie = site.begin().await;
    site.store.fail_once(Verb::Commit, StoreErrorKind::Unavailable);
    assert_eq!(site.send("POST /ignore", &cookie).await.body, "saved");
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
    site.store.fail(&[Verb::Commit], StoreErrorKind::Unavailable);
    assert_eq!(site.send("POST /ignore", &cookie).await.status, 503);
}

/// A page of another origin must be able to read the failure, and a client must not take the
/// failure for the lost content.
#[tokio::test]
async fn failed_commit_keeps_the_headers_of_layers() {
    let site = Site::with_routes(Router::new().route(
        "/order",
        post(async |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            let of_layers = [
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, "https://shop.example"),
                (header::CONTENT_SECURITY_POLICY, "default-src 'self'"),
                (header::VARY, "origin"),
                (header::SET_COOKIE, "other=1"),
            ];
            let of_content = [
                (header::CONTENT_ENCODING, "gzip"),
                (header::ETAG, "\"1\""),
                (header::LAST_MODIFIED, "Thu, 01 Jan 1970 00:00:00 GMT"),
                (header::LOCATION, "/thanks"),
                (header::REFRESH, "0;url=/thanks"),
                (header::CONTENT_DISPOSITION, "attachment"),
                (header::CACHE_CONTROL, "public, max-age=60"),
            ];
            let unnamed = [
                ("repr-digest", "sha-256=:AAAA:"),
                ("x-accel-redirect", "/files/invoice.pdf"),
                ("x-sendfile", "/srv/files/invoice.pdf"),
                ("clear-site-data", "\"cookies\""),
                ("hx-redirect", "/thanks"),
            ];
            Ok::<_, SessionError>((of_layers, of_content, unnamed, "ordered"))
        }),
    ));
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Commit], StoreErrorKind::Unavailable);
    let answer = site.send("POST /order", &cookie).await;
    assert_eq!(answer.header(header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
    assert_snapshot!(answer.text(), @"
    503 Service Unavailable
    cache-control: no-store
    access-control-allow-origin: https://shop.example
    content-security-policy: default-src 'self'
    vary: origin
    vary: cookie
    set-cookie: other=1
    retry-after: 1
    sessions are unavailable, try again in a moment
    ");
}

fn fail(change: Result<(), SessionError>) -> Result<StatusCode, SessionError> {
    change?;
    Ok(StatusCode::INTERNAL_SERVER_ERROR)
}

async fn write_and_fail_for_the_session(session: Session) -> Result<(), SessionError> {
    const BIG: Key<String> = Key::new("big");
    session.set(COUNT, 99)?;
    session.set(BIG, "x".repeat(65 * 1024))
}
