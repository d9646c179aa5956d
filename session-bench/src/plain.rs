use axum::{Router, http::header::SET_COOKIE, routing::get};

use crate::candidate::{Route, paths};

/// The server without sessions: the same routes and about the same answers.
pub(crate) fn router() -> Router {
    // As long as ours, so that requests are as long.
    let cookie = concat!("__Host-session=", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; Path=/");
    Router::new()
        .route(paths::CREATE, get(async move || [(SET_COOKIE, cookie)]))
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(async || "Ada Lovelace".to_owned()))
}
