//! The number of allocations that the layer adds to a request.
//!
//! Valgrind shows where they are made:
//!
//! ```sh
//! valgrind --tool=dhat target/debug/deps/allocations-…
//! ```
//!
//! The file that it writes opens in its viewer, `dh_view.html`. Each allocation of a request is
//! there twice [`ROUNDS`] times.

#![expect(clippy::unwrap_used, reason = "an unexpected result ends the test")]

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

/// The allocations that a request to a route may make beyond those of a router without the layer. A
/// change that needs fewer lowers the number. One of them is only made where axum has all its
/// features, as when the workspace is built: axum's own extensions then fill the request's table,
/// and the layer's makes it grow.
const ALLOWED: [(&str, u64); 3] = [("/untouched", 7), ("/read", 8), ("/write", 16)];

const COUNT: Key<u64> = Key::new("count");

/// Odd, so that the median is one of the counts.
const ROUNDS: usize = 301;

#[test]
fn layer_allocates_no_more_than_allowed() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    // It stands still, so that no request records the use of its session.
    let clock = ManualClock::new(Timestamp::from_millis(now.try_into().unwrap()));
    let store = MemoryStore::default();
    let sessions = Sessions::builder(store).with_clock(Arc::new(clock)).build().unwrap();
    let bare = routes();
    let wrapped = routes().layer(Identity::new());
    let layered = routes().layer(SessionLayer::new(sessions));

    let begun = runtime.block_on(layered.clone().oneshot(request("/write", None))).unwrap();
    let cookie = begun.headers()[header::SET_COOKIE].to_str().unwrap();
    let cookie = HeaderValue::from_str(cookie.split(';').next().unwrap()).unwrap();

    let base = median(&runtime, &bare, "/untouched", &cookie);
    let any_layer = median(&runtime, &wrapped, "/untouched", &cookie) - base;
    println!("without the layer {base}, and {any_layer} more with any layer");
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

/// The handlers return the same, and differ in their use of the session.
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

/// Returns the median number of allocations of a request, without the store's occasional
/// housekeeping.
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
        // The first half is a warm-up.
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
