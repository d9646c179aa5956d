//! The layer over HTTP, without a socket.

#![expect(clippy::unwrap_used, reason = "an unexpected result ends the test")]

mod bearer;
mod commit;
mod cookie;
mod cookie_jar;
mod copies;
mod dropped;
mod error_page;
mod errors;
mod flash;
mod guard;
mod layers;
mod lock;
mod next_path;
mod outage;
mod same_origin;
mod server_error;
mod service;
mod session_or_outage;
mod signed_in;
mod stack;
mod support;
#[cfg(feature = "testing")]
mod testing;
