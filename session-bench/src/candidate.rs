use std::{fmt, future::Future, pin::Pin};

use axum::Router;

use crate::{BoxError, floor, ours, plain};

/// A server that takes part in the comparison.
///
/// All have the same routes, `/create` and those of [`Route`], and differ in what keeps the session.
pub(crate) struct Candidate {
    /// Its name in the table and on the command line.
    pub(crate) name: &'static str,
    /// Makes its routes, given the URL of Redis. Runs in a process of its own.
    pub(crate) router: fn(String) -> RouterFuture,
    /// Keeps its sessions in Redis.
    pub(crate) uses_redis: bool,
    /// What is measured of it.
    pub(crate) measured: &'static [Measured],
}

impl Candidate {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CANDIDATES.iter().find(|candidate| candidate.name == name)
    }
}

/// A route that is measured, and what it is compared with.
pub(crate) struct Measured {
    pub(crate) route: Route,
    pub(crate) against: Option<Against>,
}

/// Another candidate's route, and the share of its requests per second to reach.
pub(crate) struct Against {
    pub(crate) candidate: &'static str,
    pub(crate) route: Route,
    pub(crate) at_least: Option<f64>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// Asks for no session.
    Untouched,
    /// Reads one of four small values.
    Read,
    /// Increments one of four small values, and answers how it is now.
    Write,
}

impl Route {
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Untouched => "/untouched",
            Self::Read => "/read",
            Self::Write => "/write",
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.path()[1..])
    }
}

/// Makes a session with four small values and answers its cookie.
pub(crate) const CREATE: &str = "/create";

/// All candidates, in the order in which each round measures them: who is compared stands together.
pub(crate) const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: NO_SESSIONS,
        router: |_| Box::pin(async { Ok(plain::router()) }),
        uses_redis: false,
        measured: &[
            alone(Route::Read),
            // Does the very same work: how far its share is from 1 is the noise of the machine.
            Measured {
                route: Route::Untouched,
                against: Some(Against {
                    candidate: NO_SESSIONS,
                    route: Route::Read,
                    at_least: None,
                }),
            },
        ],
    },
    Candidate {
        name: "ours-memory",
        router: |_| Box::pin(async { Ok(ours::on_memory()) }),
        uses_redis: false,
        measured: &[
            against_no_sessions(Route::Untouched, None),
            against_no_sessions(Route::Read, Some(0.90)),
            against_no_sessions(Route::Write, Some(0.80)),
        ],
    },
    Candidate {
        name: FLOOR,
        router: |url| Box::pin(floor::router(url)),
        uses_redis: true,
        measured: &[alone(Route::Read), alone(Route::Write)],
    },
    Candidate {
        name: "ours-redis",
        router: |url| Box::pin(ours::on_redis(url)),
        uses_redis: true,
        measured: &[against_floor(Route::Read, 0.90), against_floor(Route::Write, 0.90)],
    },
];

const NO_SESSIONS: &str = "no-sessions";
const FLOOR: &str = "redis-floor";

const fn alone(route: Route) -> Measured {
    Measured { route, against: None }
}

/// The server without sessions does the same whatever the route.
const fn against_no_sessions(route: Route, at_least: Option<f64>) -> Measured {
    Measured {
        route,
        against: Some(Against { candidate: NO_SESSIONS, route: Route::Read, at_least }),
    }
}

const fn against_floor(route: Route, at_least: f64) -> Measured {
    Measured { route, against: Some(Against { candidate: FLOOR, route, at_least: Some(at_least) }) }
}

type RouterFuture = Pin<Box<dyn Future<Output = Result<Router, BoxError>> + Send>>;
