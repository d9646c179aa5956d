//! Pages that are shown in an outage too.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use insta::assert_snapshot;
use session_axum::{PublicSession, Session, SessionError, SessionRejection, StoreErrorKind};

use crate::support::{COUNT, Site, answer};

/// A page that any cache may keep, as far as its handler knows.
async fn page(session: PublicSession) -> ([(header::HeaderName, &'static str); 1], String) {
    assert_eq!(session.session().is_none(), session.outage().is_some());
    let text = match session.outage() {
        Some(outage) => format!("without: {outage}; {:?}", session.get(COUNT)),
        None => format!("count {:?}, {}", session.get(COUNT), session.contains(COUNT)),
    };
    let owner = session.owner().and_then(|owner| owner.as_str().map(str::to_owned));
    ([(header::CACHE_CONTROL, "public, max-age=600")], format!("{text}, owner {owner:?}"))
}

async fn write(session: PublicSession) -> Result<String, SessionError> {
    Ok(session.require()?.update(COUNT, |count| *count += 1)?.to_string())
}

async fn log_in(session: PublicSession) -> Result<(), SessionError> {
    Ok(session.require()?.authenticate("ada")?)
}

async fn log_out(session: PublicSession) -> Result<(), SessionError> {
    Ok(session.require()?.destroy()?)
}

fn site() -> Site {
    let routes = Router::new()
        .route("/page", get(page).post(write))
        .route("/enter", get(log_in))
        .route("/leave", get(log_out));
    Site::with_routes(routes)
}

const ALL: [&str; 7] =
    ["create", "create_entered", "load", "commit", "touch", "delete", "end_many"];

#[tokio::test]
async fn a_public_page_is_as_usual_while_the_store_works() {
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
async fn a_public_page_goes_on_without_the_session_in_an_outage() {
    let site = site();
    let cookie = site.begin().await;
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        site.store.fail(&ALL, kind);
        let answer = site.send("GET /page", &cookie).await;
        assert_eq!(answer.status, StatusCode::OK, "{kind:?}");
        assert_eq!(answer.set_cookie(), None, "{kind:?}");
        assert!(answer.body.starts_with("without: "), "{kind:?}: {}", answer.body);
    }
    site.store.fail(&ALL, StoreErrorKind::Unavailable);
    // Kept by no cache, whatever the handler said: it is not what the page is like.
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
async fn what_needs_the_session_on_a_public_page_is_503_in_an_outage() {
    let site = site();
    let cookie = site.begin().await;
    site.store.fail(&ALL, StoreErrorKind::Timeout);
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
        assert_eq!(site.store.take_calls(), ["load"], "{route} did nothing to the store");
    }
    site.store.recover();
    assert_eq!(site.send("GET /page", &cookie).await.body, "count Some(1), true, owner None");
}

#[tokio::test]
async fn a_visitor_without_a_cookie_has_nothing_to_load_on_a_public_page() {
    let site = site();
    site.store.fail(&ALL, StoreErrorKind::Unavailable);
    for cookie in ["", "__Host-session=malformed"] {
        let answer = site.send("GET /page", cookie).await;
        assert_eq!(answer.body, "count None, false, owner None", "{cookie:?}");
    }
    // What they write is an error of the commit, and no cookie.
    let answer = site.send("POST /page", "").await;
    assert_eq!((answer.status, answer.set_cookie()), (StatusCode::SERVICE_UNAVAILABLE, None));
}

/// The store comes back in the middle of the request.
#[tokio::test]
async fn who_asks_later_in_the_request_gets_the_same_answer() {
    async fn both(first: PublicSession, second: Result<Session, SessionRejection>) -> String {
        let second = second.map(drop).map_err(|rejection| rejection.to_string());
        format!("{:?}, {second:?}", first.outage().map(ToString::to_string))
    }
    let site = Site::with_routes(Router::new().route("/both", get(both)));
    let cookie = site.begin().await;
    site.store.fail_once("load", StoreErrorKind::Timeout);
    assert_snapshot!(site.send("GET /both", &cookie).await.body, @r#"Some("the session store did not answer in time"), Err("the session store did not answer in time")"#);
    assert_eq!(site.store.take_calls(), ["load"], "it is asked once");
    assert_eq!(site.send("GET /both", &cookie).await.body, "None, Ok(())");
}

/// What a handler keeps after the response is no way around it.
#[tokio::test]
async fn a_public_session_that_is_kept_stays_without() {
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let page = async move |session: PublicSession| {
        *keep.lock().unwrap() = Some(session);
    };
    let site = Site::with_routes(Router::new().route("/keep", get(page)));
    let cookie = site.begin().await;
    site.store.fail_once("load", StoreErrorKind::Unavailable);
    assert_eq!(site.send("GET /keep", &cookie).await.set_cookie(), None);
    let session = kept.lock().unwrap().take().unwrap();
    let error = session.clone().require().unwrap_err();
    assert!(error.is_retryable());
    assert!(session.session().is_none() && session.outage().is_some());
}

#[tokio::test]
async fn a_public_page_needs_the_layer_too() {
    let router: Router = Router::new().route("/", get(async |_: PublicSession| "never"));
    let request = axum::http::Request::get("/").body(axum::body::Body::empty()).unwrap();
    assert_eq!(answer(router, request).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}
