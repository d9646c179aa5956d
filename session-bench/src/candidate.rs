use crate::{
    BoxError, floor, ours, peers, plain,
    route::{MakeRouter, Route, redis_tls_url},
};

/// A server that takes part in the comparison.
///
/// All candidates have the routes in `measured` and the path to create sessions. Candidates that keep
/// sessions have the other [paths](crate::route::paths) too, and differ in where the sessions are.
pub(crate) struct Candidate {
    /// The name in the tables and on the command line.
    pub(crate) name: &'static str,
    /// The name in the picture.
    pub(crate) title: &'static str,
    /// Creates the routes of the server. `None` if the build leaves the server out.
    pub(crate) router: Option<MakeRouter>,
    pub(crate) keeps: Keeps,
    /// The server connects to Redis by TLS, and takes part only if [its URL](redis_tls_url) is set.
    pub(crate) is_by_tls: bool,
    /// The measured routes.
    pub(crate) measured: &'static [Measured],
}

impl Candidate {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        CANDIDATES.iter().find(|candidate| candidate.name == name)
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.name.starts_with("ours-")
    }

    pub(crate) fn uses_redis(&self) -> bool {
        self.keeps == Keeps::InRedis
    }
}

/// Returns the candidates that can run: all of them, or those with `only` in their name and the ones
/// with which they are compared.
pub(crate) fn chosen(only: Option<&str>) -> Result<Vec<&'static Candidate>, BoxError> {
    let has_tls = redis_tls_url().is_ok();
    let is_there =
        |candidate: &&Candidate| candidate.router.is_some() && (has_tls || !candidate.is_by_tls);
    let there = || CANDIDATES.iter().filter(is_there);
    let Some(only) = only else {
        return Ok(there().collect());
    };
    let named: Vec<_> = there().filter(|candidate| candidate.name.contains(only)).collect();
    if named.is_empty() {
        return Err(format!("no server has {only:?} in its name").into());
    }
    let needed = |candidate: &&Candidate| {
        named.iter().any(|other| {
            let mut against = other.measured.iter().flat_map(|measured| measured.against);
            other.name == candidate.name || against.any(|a| a.candidate == candidate.name)
        })
    };
    Ok(there().filter(needed).collect())
}

/// The place where a server keeps its sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Keeps {
    Nothing,
    InMemory,
    InRedis,
}

/// A measured route, and the routes with which it is compared.
pub(crate) struct Measured {
    pub(crate) route: Route,
    pub(crate) against: &'static [Against],
}

/// Another candidate's route, and the least share of that route's requests per second, if there is a
/// target.
pub(crate) struct Against {
    pub(crate) candidate: &'static str,
    pub(crate) route: Route,
    pub(crate) at_least: Option<f64>,
}

/// All candidates, in the order of the tables. A round keeps this order within a group of routes, so
/// candidates that are compared stand together.
pub(crate) const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: NO_SESSIONS,
        title: "no sessions",
        router: Some(|_| Box::pin(async { Ok(plain::router()) })),
        keeps: Keeps::Nothing,
        is_by_tls: false,
        measured: &[
            Measured { route: Route::Read, against: &[] },
            // Nearly the same work as a read: the distance of the share from 1 is the noise of the
            // machine.
            Measured { route: Route::Untouched, against: &[of(NO_SESSIONS, Route::Read, None)] },
        ],
    },
    Candidate {
        name: "ours-memory",
        title: "session-axum, MemoryStore",
        router: Some(|_| Box::pin(async { Ok(ours::on_memory()) })),
        keeps: Keeps::InMemory,
        is_by_tls: false,
        measured: &[
            Measured {
                route: Route::Untouched,
                against: &[of(NO_SESSIONS, Route::Untouched, Some(0.98))],
            },
            Measured { route: Route::Read, against: &[of(NO_SESSIONS, Route::Read, Some(0.95))] },
            Measured { route: Route::Write, against: &[of(NO_SESSIONS, Route::Read, Some(0.88))] },
            Measured { route: Route::Login, against: &[of(NO_SESSIONS, Route::Read, None)] },
        ],
    },
    Candidate {
        name: "tower-sessions-moka",
        title: "tower-sessions, MokaStore",
        router: peers::TOWER_SESSIONS_MOKA,
        keeps: Keeps::InMemory,
        is_by_tls: false,
        measured: &[
            Measured {
                route: Route::Untouched,
                against: &[of(NO_SESSIONS, Route::Untouched, None)],
            },
            Measured { route: Route::Read, against: &[of(NO_SESSIONS, Route::Read, None)] },
            Measured { route: Route::Write, against: &[of(NO_SESSIONS, Route::Read, None)] },
            Measured { route: Route::Login, against: &[of(NO_SESSIONS, Route::Read, None)] },
        ],
    },
    Candidate {
        name: FLOOR,
        title: "floor",
        router: Some(|url| Box::pin(floor::router(url))),
        keeps: Keeps::InRedis,
        is_by_tls: false,
        measured: &[
            Measured { route: Route::Read, against: &[] },
            Measured { route: Route::Write, against: &[] },
            Measured { route: Route::Login, against: &[] },
        ],
    },
    Candidate {
        name: OURS_ON_REDIS,
        title: "session-axum, RedisStore",
        router: Some(|url| Box::pin(ours::on_redis(url))),
        keeps: Keeps::InRedis,
        is_by_tls: false,
        measured: &[
            Measured {
                route: Route::Untouched,
                against: &[of(NO_SESSIONS, Route::Untouched, Some(0.98))],
            },
            Measured {
                route: Route::Read,
                against: &[
                    of(FLOOR, Route::Read, Some(0.95)),
                    of(TOWER_SESSIONS, Route::Read, Some(1.3)),
                ],
            },
            Measured {
                route: Route::Write,
                against: &[
                    of(FLOOR, Route::Write, Some(0.92)),
                    of(TOWER_SESSIONS, Route::Write, Some(1.7)),
                ],
            },
            Measured {
                route: Route::Login,
                against: &[of(FLOOR, Route::Login, None), of(TOWER_SESSIONS, Route::Login, None)],
            },
        ],
    },
    Candidate {
        name: "ours-redis-near",
        title: "session-axum, near cache",
        router: Some(|url| Box::pin(ours::on_redis_with_near_cache(url))),
        keeps: Keeps::InRedis,
        is_by_tls: false,
        measured: &[
            Measured {
                route: Route::Read,
                against: &[of(NO_SESSIONS, Route::Read, Some(0.92)), of(FLOOR, Route::Read, None)],
            },
            Measured {
                route: Route::Write,
                against: &[
                    of(FLOOR, Route::Write, None),
                    of(OURS_ON_REDIS, Route::Write, Some(0.98)),
                ],
            },
            Measured { route: Route::Login, against: &[of(FLOOR, Route::Login, None)] },
        ],
    },
    Candidate {
        name: "ours-redis-tls",
        title: "session-axum, RedisStore by TLS",
        router: Some(|_| Box::pin(async { ours::on_redis_by_tls(redis_tls_url()?).await })),
        keeps: Keeps::InRedis,
        is_by_tls: true,
        measured: &[
            Measured {
                route: Route::Read,
                against: &[
                    of(OURS_ON_REDIS, Route::Read, Some(0.9)),
                    of(TOWER_SESSIONS_TLS, Route::Read, None),
                ],
            },
            Measured {
                route: Route::Write,
                against: &[
                    of(OURS_ON_REDIS, Route::Write, Some(0.9)),
                    of(TOWER_SESSIONS_TLS, Route::Write, None),
                ],
            },
        ],
    },
    Candidate {
        name: TOWER_SESSIONS_TLS,
        title: "tower-sessions, RedisStore by TLS",
        router: peers::TOWER_SESSIONS_REDIS_TLS,
        keeps: Keeps::InRedis,
        is_by_tls: true,
        measured: &[
            Measured { route: Route::Read, against: &[of(TOWER_SESSIONS, Route::Read, None)] },
            Measured { route: Route::Write, against: &[of(TOWER_SESSIONS, Route::Write, None)] },
        ],
    },
    Candidate {
        name: TOWER_SESSIONS,
        title: "tower-sessions, RedisStore",
        router: peers::TOWER_SESSIONS_REDIS,
        keeps: Keeps::InRedis,
        is_by_tls: false,
        measured: OTHERS_ON_REDIS,
    },
    Candidate {
        name: "axum_session-redis",
        title: "axum_session, RedisPool",
        router: peers::AXUM_SESSION_REDIS,
        keeps: Keeps::InRedis,
        is_by_tls: false,
        measured: OTHERS_ON_REDIS,
    },
];

const OTHERS_ON_REDIS: &[Measured] = &[
    Measured { route: Route::Untouched, against: &[of(NO_SESSIONS, Route::Untouched, None)] },
    Measured { route: Route::Read, against: &[of(FLOOR, Route::Read, None)] },
    Measured { route: Route::Write, against: &[of(FLOOR, Route::Write, None)] },
    Measured { route: Route::Login, against: &[of(FLOOR, Route::Login, None)] },
];

const fn of(candidate: &'static str, route: Route, at_least: Option<f64>) -> Against {
    Against { candidate, route, at_least }
}

pub(crate) const NO_SESSIONS: &str = "no-sessions";
pub(crate) const FLOOR: &str = "redis-floor";
pub(crate) const OURS_ON_REDIS: &str = "ours-redis";
pub(crate) const TOWER_SESSIONS: &str = "tower-sessions-redis";
pub(crate) const TOWER_SESSIONS_TLS: &str = "tower-sessions-redis-tls";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_compared_with_what_is_measured() {
        let all = || CANDIDATES.iter().flat_map(|c| c.measured.iter().map(move |m| (c.name, m)));
        for against in all().flat_map(|(_, measured)| measured.against) {
            let (candidate, route) = (against.candidate, against.route);
            let is_there = all().any(|(name, m)| name == candidate && m.route == route);
            assert!(is_there, "{candidate} {route} is not measured");
        }
    }

    #[test]
    fn those_who_are_compared_with_are_chosen_too() {
        let names = chosen(Some("ours-memory")).unwrap().iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names, [NO_SESSIONS, "ours-memory"]);
        assert!(chosen(Some("nobody")).is_err());
    }
}
