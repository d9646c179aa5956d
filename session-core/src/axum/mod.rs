//! The integration with Axum: the session as an extractor, and errors as responses.
//!
//! ```text
//!  layer ──puts a SessionExtension into the request──▶ extractor ──open──▶ SessionSource ──▶ Session
//! ```
//!
//! The layer in `session-axum` sets the cookies, and commits the session at the end of the request.

mod extract;
mod response;

pub use {
    extract::{SessionExtension, SessionSource},
    response::{DefaultBody, SessionRejection},
};
