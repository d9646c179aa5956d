//! The interface of the servers: their routes, and the function that creates them.

use std::{fmt, future::Future, pin::Pin};

use axum::Router;

use crate::BoxError;

/// A function that creates the routes of a server, given the URL of Redis. It runs in the process of
/// the server.
pub(crate) type MakeRouter = fn(String) -> RouterFuture;

type RouterFuture = Pin<Box<dyn Future<Output = Result<Router, BoxError>> + Send>>;

/// The work of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// Leaves the session alone.
    Untouched,
    /// Reads one of four small values.
    Read,
    /// Increments one of four small values, and responds with the new value.
    Write,
    /// Signs a user in: the session moves to a new ID and belongs to the user. The name of the user
    /// follows the path.
    Login,
}

impl Route {
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Untouched => "/untouched",
            Self::Read => "/read",
            Self::Write => "/write",
            Self::Login => "/login",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.path()[1..])
    }
}

/// The paths of routes for preparation and checks, and the full path of the login.
pub(crate) mod paths {
    /// Signs in the user in the path.
    pub(crate) const LOGIN: &str = "/login/{user}";
    /// Creates a session with four small values, and sets the cookie.
    pub(crate) const CREATE: &str = "/create";
    /// Responds with the value that [`Write`](super::Route::Write) increments.
    pub(crate) const COUNT: &str = "/count";
    /// Sets one of [`KEYS`] further values.
    pub(crate) const SET: &str = "/set/{key}";
    /// Responds with the number of values that [`SET`] has set.
    pub(crate) const FOUND: &str = "/found";
    /// The number of values that [`SET`] can set, numbered from 0.
    pub(crate) const KEYS: usize = 20;
}

/// Returns the TLS URL of the Redis server at `REDIS_URL`.
pub(crate) fn redis_tls_url() -> Result<String, BoxError> {
    std::env::var(REDIS_TLS_URL).map_err(|error| format!("{REDIS_TLS_URL}: {error}").into())
}

const REDIS_TLS_URL: &str = "REDIS_TLS_URL";
