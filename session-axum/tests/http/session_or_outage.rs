//! Pages that are shown in an outage as well.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use insta::assert_snapshot;
use session_axum::{Session, SessionError, SessionOrOutage, SessionRejection, StoreErrorKind};
use session_core::testing::Verb;

use crate::support::{COUNT, Site, answer};

/// A page whose handler lets any cache keep it.
async fn page(session: SessionOrOutage) -> ([(header::HeaderName, &'static str); 1], String) {
    assert_eq!(session.session().is_none(), session.outage().is_some());
    let text = match session.outage() {
        Some(outage) => format!("without: {outage}; {:?}", session.get(COUNT)),
        None => format!("count {:?}, {}", session.get(COUNT), session.contains(COUNT)),
    };
    let owner = session.owner().and_then(|owner| owner.as_str().map(str::to_owned));
    ([(header::CACHE_CONTROL, "public, max-age=600")], format!("{text}, owner {owner:?}"))
}

async fn write(session: SessionOrOutage) -> Result<String, SessionError> {
    Ok(session.require()?.update(COUNT, |count| *count += 1)?.to_string())
}

async fn log_in(session: SessionOrOutage) -> Result<(), SessionError> {
    session.require()?.authenticate("ada")
}

async fn log_out(session: SessionOrOutage) -> Result<(), SessionError> {
    session.require()?.destroy()
}

fn site() -> Site {
    let routes = Router::new()
        .route("/page", get(page).post(write))
        .route("/enter", get(log_in))
        .route("/leave", get(log_out));
    Site::with_routes(routes)
}

#[tokio::test]
async fn page_has_its_session_while_the_store_works() {
    let site = site();
    let cookie = site.begin().await;
    assert_snapshot!(site.send("GET /page", &cookie).await.text(), @"
    200 OK
    cache-control: public, max-age=600
    vary: cookie
    count Some(1), true, owner None
    ");
    assert_eq!(site.send("POST /page", &cookie).await.body, "2");
    let cookie = site.send("GET /enter", &cookie).await.cookie();
    let answer = site.send("GET /page", &cookie).await;
    assert_eq!(answer.body, r#"count Some(2), true, owner Some("ada")"#);
    assert!(site.send("GET /leave", &cookie).await.removes_the_cookie());
}

#[tokio::test]
async fn page_is_shown_without_its_session_in_an_outage() {
    let site = site();
    let cookie = site.begin().await;
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        site.store.fail_all(kind);
        let answer = site.send("GET /page", &cookie).await;
        assert_eq!(answer.status, StatusCode::OK, "{kind:?}");
        assert_eq!(answer.set_cookie(), None, "{kind:?}");
        assert!(answer.body.starts_with("without: "), "{kind:?}: {}", answer.body);
    }
    site.store.fail_all(StoreErrorKind::Unavailable);
    // No cache may keep it, against the rule of the handler.
    assert_snapshot!(site.send("GET /page", &cookie).await.text(), @"
    200 OK
    cache-control: no-store
    vary: cookie
    without: the session store is unavailable; None, owner None
    ");
    site.store.recover();
    let answer = site.send("GET /page", &cookie).await;
    assert_eq!((&*answer.body, answer.set_cookie()), ("count Some(1), true, owner None", None));
}

#[tokio::test]
async fn write_without_its_session_is_503_in_an_outage() {
    let site = site();
    let cookie = site.begin().await;
    site.store.fail_all(StoreErrorKind::Timeout);
    for route in ["POST /page", "GET /enter", "GET /leave"] {
        site.store.take_calls();
        let answer = site.send(route, &cookie).await;
        insta::allow_duplicates! {
            assert_snapshot!(answer.text(), @"
            503 Service Unavailable
            retry-after: 1
            vary: cookie
            cache-control: no-store
            sessions are unavailable, try again in a moment
            ");
        }
        assert_eq!(site.store.take_calls(), [Verb::Load], "{route}");
    }
    site.store.recover();
    assert_eq!(site.send("GET /page", &cookie).await.body, "count Some(1), true, owner None");
}

#[tokio::test]
async fn visitor_without_a_cookie_meets_no_outage_in_a_read() {
    let site = site();
    site.store.fail_all(StoreErrorKind::Unavailable);
    for cookie in ["", "__Host-session=malformed"] {
        let answer = site.send("GET /page", cookie).await;
        assert_eq!(answer.body, "count None, false, owner None", "{cookie:?}");
    }
    // A write fails in the commit, and sets no cookie.
    let answer = site.send("POST /page", "").await;
    assert_eq!((answer.status, answer.set_cookie()), (StatusCode::SERVICE_UNAVAILABLE, None));
}

/// The store comes back in the middle of the request.
#[tokio::test]
async fn extractors_of_one_request_see_the_same_outage() {
    async fn both(first: SessionOrOutage, second: Result<Session, SessionRejection>) -> String {
        let second = second.map(drop).map_err(|rejection| rejection.to_string());
        format!("{:?}, {second:?}", first.outage().map(ToString::to_string))
    }
    let site = Site::with_routes(Router::new().route("/both", get(both)));
    let cookie = site.begin().await;
    site.store.fail_once(Verb::Load, StoreErrorKind::Timeout);
    assert_snapshot!(site.send("GET /both", &cookie).await.body, @r#"Some("the session store did not answer in time"), Err("the session store did not answer in time")"#);
    assert_eq!(site.store.take_calls(), [Verb::Load], "one load per request");
    assert_eq!(site.send("GET /both", &cookie).await.body, "None, Ok(())");
}

#[tokio::test]
async fn session_of_an_outage_stays_absent_after_it() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let page = async move |session: SessionOrOutage| {
        *keep.lock().unwrap() = Some(session);
    };
    let site = Site::with_routes(Router::new().route("/keep", get(page)));
    let cookie = site.begin().await;
    site.store.fail_once(Verb::Load, StoreErrorKind::Unavailable);
    assert_eq!(site.send("GET /keep", &cookie).await.set_cookie(), None);
    let session = kept.lock().unwrap().take().unwrap();
    let error = session.clone().require().unwrap_err();
    assert!(error.is_retryable());
    assert!(session.session().is_none() && session.outage().is_some());
}

#[tokio::test]
async fn page_without_the_layer_is_500() {
    let router: Router = Router::new().route("/", get(async |_: SessionOrOutage| "never"));
    let request = axum::http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    assert_eq!(answer(router, request).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}
