use axum::{Router, http::header::SET_COOKIE, routing::get};

use crate::route::{Route, paths};

/// Creates the server without sessions: routes to create and read, with about the same responses as the
/// other servers.
pub(crate) fn router() -> Router {
    // The cookie is as long as ours, so that requests are as long too.
    let cookie = concat!("__Host-session=", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; Path=/");
    Router::new()
        .route(paths::CREATE, get(async move || [(SET_COOKIE, cookie)]))
        .route(Route::Untouched.path(), get(async || "untouched"))
        .route(Route::Read.path(), get(async || "Ada Lovelace".to_owned()))
}
