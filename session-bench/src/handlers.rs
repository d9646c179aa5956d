//! Handlers without a router, for what calls the layer in the process.

use std::{convert::Infallible, hint::black_box};

use axum::extract::FromRequestParts as _;
use http::{Request, Response};
use session_axum::Session;

use crate::{COUNT, NAME};

/// Asks for no session.
///
/// # Errors
///
/// None.
pub async fn untouched(request: Request<()>) -> Result<Response<()>, Infallible> {
    black_box(&request);
    Ok(Response::new(()))
}

/// Reads one of the four small values.
///
/// # Errors
///
/// None.
///
/// # Panics
///
/// If there is no session with the values.
pub async fn read(request: Request<()>) -> Result<Response<()>, Infallible> {
    let session = session(request).await;
    black_box(session.get(NAME).expect("the session has the value"));
    Ok(Response::new(()))
}

/// Increments one of them.
///
/// # Errors
///
/// None.
///
/// # Panics
///
/// If the store does not answer.
pub async fn write(request: Request<()>) -> Result<Response<()>, Infallible> {
    let session = session(request).await;
    session.update(COUNT, |count| *count += 1).expect("the session is open");
    Ok(Response::new(()))
}

async fn session(request: Request<()>) -> Session {
    let (mut parts, ()) = request.into_parts();
    Session::from_request_parts(&mut parts, &()).await.expect("the store answers")
}
