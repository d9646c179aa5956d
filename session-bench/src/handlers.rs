//! Handlers without a router, for benchmarks that call the layer in the process.

use std::{convert::Infallible, hint::black_box};

use axum::{body::Body, extract::FromRequestParts as _, response::Response};
use http::Request;
use session_axum::Session;

use crate::{COUNT, NAME};

/// Leaves the session alone.
///
/// # Errors
///
/// None.
pub async fn untouched(request: Request<()>) -> Result<Response, Infallible> {
    black_box(&request);
    Ok(Response::new(Body::empty()))
}

/// Reads one of the four small values.
///
/// # Errors
///
/// None.
///
/// # Panics
///
/// Panics if the store fails, or if the session lacks the value.
pub async fn read(request: Request<()>) -> Result<Response, Infallible> {
    let session = session(request).await;
    black_box(session.get(NAME).expect("the session has the value"));
    Ok(Response::new(Body::empty()))
}

/// Increments another of the four small values.
///
/// # Errors
///
/// None.
///
/// # Panics
///
/// Panics if the store fails.
pub async fn write(request: Request<()>) -> Result<Response, Infallible> {
    let session = session(request).await;
    session.update(COUNT, |count| *count += 1).expect("the session is open");
    Ok(Response::new(Body::empty()))
}

async fn session(request: Request<()>) -> Session {
    let (mut parts, ()) = request.into_parts();
    Session::from_request_parts(&mut parts, &()).await.expect("the store answers")
}
