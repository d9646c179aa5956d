//! Server-side sessions for Axum and any tower HTTP service.
