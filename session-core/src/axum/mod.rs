//! The session as Axum sees it: an extractor, and errors as responses.
//!
//! ```text
//!  layer ──puts a SessionExtension into the request──▶ extractor ──open──▶ SessionSource ──▶ Session
//! ```
//!
//! Cookies and the end of the request are the layer's: see `session-axum`.

mod extract;
mod response;

pub use {
    extract::{SessionExtension, SessionSource},
    response::SessionRejection,
};
