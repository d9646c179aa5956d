//! What the layer answers over HTTP, without a socket.

#![expect(clippy::unwrap_used, reason = "what a test does not expect ends it")]

mod commit;
mod cookie;
mod lock;
mod outage;
mod session_or_outage;
mod service;
mod support;
