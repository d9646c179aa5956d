//! How often a request allocates because of the layer.
//!
//! Where the allocations are made, valgrind tells, of this test as it is built:
//!
//! ```sh
//! valgrind --tool=dhat target/debug/deps/allocations-…
//! ```
//!
//! The file that it writes opens in its viewer, `dh_view.html`; what each request allocates
//! is there twice [`ROUNDS`] times.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

use std::{
    convert::Infallible,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header},
    routing::get,
};
use session_axum::{
    Key, ManualClock, MemoryStore, Session, SessionError, SessionLayer, Sessions, Timestamp,
};
use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt as _, layer::util::Identity};

/// What a request to a route may allocate more often than one to a router without the layer. Not one more: whoever
/// needs less lowers the number. One of them is only where axum has all its features, as when the workspace is built: its
/// own extensions then fill the request's table, and the layer's makes it grow.
const ALLOWED: [(&str, u64); 3] = [("/untouched", 7), ("/read", 8), ("/write", 17)];

const COUNT: Key<u64> = Key::new("count");

/// Odd, for a median that occurred.
const ROUNDS: usize = 301;

#[test]
fn a_request_allocates_no_more_often_than_it_did() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    // It stands still: no request is the one that moves a deadline.
    let clock = ManualClock::new(Timestamp::from_millis(now.try_into().unwrap()));
    let sessions = Sessions::new(MemoryStore::default()).with_clock(Arc::new(clock));
    let bare = routes();
    let wrapped = routes().layer(Identity::new());
    let layered = routes().layer(SessionLayer::new(sessions));

    let begun = runtime.block_on(layered.clone().oneshot(request("/write", None))).unwrap();
    let cookie = begun.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap();

    let base = median(&runtime, &bare, "/untouched", &cookie);
    let of_any_layer = median(&runtime, &wrapped, "/untouched", &cookie) - base;
    println!("without the layer {base}, and {of_any_layer} more of axum's with any layer");
    let mut too_many = Vec::new();
    for (path, allowed) in ALLOWED {
        let more = median(&runtime, &layered, path, &cookie) - base;
        println!("{path}: {more} more, allowed are {allowed}");
        if more > allowed {
            too_many.push(path);
        }
    }
    assert!(too_many.is_empty(), "too many allocations: {too_many:?}");
}

/// The handlers answer the same, so that they differ in what they do to the session.
fn routes() -> Router {
    Router::new()
        .route("/untouched", get(async || {}))
        .route("/read", get(read))
        .route("/write", get(write))
}

async fn read(session: Session) -> Result<(), StatusCode> {
    session.get(COUNT).map(drop).ok_or(StatusCode::NOT_FOUND)
}

async fn write(session: Session) -> Result<(), SessionError> {
    session.update(COUNT, |count| *count += 1)?;
    Ok(())
}

/// How often a request allocates, as a rule: the store's housekeeping, now and then, is not in it.
fn median<S>(runtime: &Runtime, service: &S, path: &str, cookie: &HeaderValue) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone,
{
    let mut counts: Vec<u64> = (0..2 * ROUNDS)
        .map(|_| {
            let (service, request) = (service.clone(), request(path, Some(cookie)));
            let allocated = allocation_counter::measure(|| {
                let response = runtime.block_on(service.oneshot(request)).unwrap();
                assert_eq!(response.status(), StatusCode::OK);
            });
            allocated.count_total
        })
        // The first half warms up.
        .skip(ROUNDS)
        .collect();
    counts.sort_unstable();
    println!("{path}: from {} to {}", counts[0], counts[ROUNDS - 1]);
    counts[ROUNDS / 2]
}

fn request(path: &str, cookie: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::get(path).body(Body::empty()).unwrap();
    if let Some(cookie) = cookie {
        request.headers_mut().insert(header::COOKIE, cookie.clone());
    }
    request
}
