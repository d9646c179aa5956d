use std::time::Duration;

use session_bench::{Progress, RedisInfo, process};

use crate::{
    BoxError,
    candidate::{Candidate, Keeps, Measured},
    child::ServerProcess,
    commands::Monitor,
    cores::Cores,
    load::{self, Connection, Load, Visitor},
    options::Options,
    route::{Route, paths},
    sample::{Sample, quantiles},
};

/// The chosen candidates, and their measurements in turn.
pub(crate) struct Comparison<'o> {
    options: &'o Options,
    redis_url: &'o str,
    redis: RedisInfo,
    pub(crate) servers: Vec<Server>,
    pub(crate) cases: Vec<Case>,
}

/// A running candidate, with the cookies of its sessions.
pub(crate) struct Server {
    pub(crate) candidate: &'static Candidate,
    process: ServerProcess,
    cookies: Vec<String>,
    /// The number of writes answered with success, and the number found in the sessions at the end.
    pub(crate) writes: Writes,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Writes {
    pub(crate) acknowledged: u64,
    pub(crate) found: Option<u64>,
}

/// A measured route of a server, with the results.
pub(crate) struct Case {
    server: usize,
    pub(crate) measured: &'static Measured,
    visitors: Vec<Visitor>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) commands: Option<f64>,
}

impl<'o> Comparison<'o> {
    /// Starts all servers and creates their sessions.
    pub(crate) async fn start(
        options: &'o Options,
        candidates: &[&'static Candidate],
        redis_url: &'o str,
        cores: Option<&Cores>,
    ) -> Result<Self, BoxError> {
        let mut progress = Progress::new(candidates.len());
        let (mut servers, mut cases) = (Vec::new(), Vec::new());
        for candidate in candidates {
            let process = ServerProcess::start(candidate, redis_url, cores)?;
            let sessions = options.sessions;
            let cookies = create_sessions(&process, sessions).await?;
            for measured in candidate.measured {
                let visitors = if measured.route == Route::Login {
                    // Logins change the IDs, so they need separate sessions.
                    users(&create_sessions(&process, sessions).await?)
                } else {
                    visitors(measured.route.path(), &cookies)
                };
                let (server, samples) = (servers.len(), Vec::new());
                cases.push(Case { server, measured, visitors, samples, commands: None });
            }
            servers.push(Server { candidate, process, cookies, writes: Writes::default() });
            progress.step(&format!("{}: {sessions} sessions", candidate.name));
        }
        let redis = RedisInfo::open(redis_url).await?;
        Ok(Self { options, redis_url, redis, servers, cases })
    }

    /// Measures all cases in turn, round by round, so that a change in the speed of the machine affects
    /// all alike.
    pub(crate) async fn run_rounds(&mut self) -> Result<(), BoxError> {
        let mut progress = Progress::new(self.options.rounds * self.cases.len());
        for round in 0..self.options.rounds {
            // Cases that are compared stand next to each other. Every second round runs in reverse, and
            // the first case changes every two rounds.
            let mut order: Vec<usize> = (0..self.cases.len()).collect();
            order.sort_by_key(|&case| self.neighbourhood(case));
            order.rotate_left(round % self.cases.len());
            if round % 2 == 1 {
                order.reverse();
            }
            for case in order {
                let sample = self.measure(case).await?;
                let case = &self.cases[case];
                progress.step(&format!(
                    "round {}: {} {}, {:.0} requests/s",
                    round + 1,
                    self.servers[case.server].candidate.name,
                    case.measured.route,
                    sample.per_second,
                ));
            }
        }
        Ok(())
    }

    /// Returns the group in which a round measures a case. First come all routes that leave the session
    /// alone, then sessions in memory and the server without sessions, then sessions in Redis, route by
    /// route.
    fn neighbourhood(&self, case: usize) -> (u8, u8) {
        let case = &self.cases[case];
        match (self.server(case).candidate.keeps, case.measured.route) {
            (_, Route::Untouched) => (0, 0),
            (Keeps::Nothing | Keeps::InMemory, _) => (1, 0),
            (Keeps::InRedis, route) => (2, route as u8),
        }
    }

    async fn measure(&mut self, case: usize) -> Result<Sample, BoxError> {
        let case = &mut self.cases[case];
        let server = &mut self.servers[case.server];
        let server_id = server.process.id();
        let load = Load {
            connections: self.options.connections,
            warm_up: Options::WARM_UP,
            span: self.options.span,
            keep_cookies: case.measured.route == Route::Login,
        };
        let (server_before, redis_before) =
            (process::cpu_time(server_id), self.redis.cpu_time().await?);
        let outcome = load::drive(server.process.addr(), &mut case.visitors, load).await?;
        let (server_after, redis_after) =
            (process::cpu_time(server_id), self.redis.cpu_time().await?);
        if case.measured.route == Route::Write {
            server.writes.acknowledged += outcome.answered;
        }
        let requests = u32::try_from(outcome.answered).unwrap_or(u32::MAX).max(1);
        let each = |before: Duration, after: Duration| after.saturating_sub(before) / requests;
        let mut sample = Sample::of(outcome.latencies, self.options.span);
        sample.server_cpu =
            server_before.zip(server_after).map(|(before, after)| each(before, after));
        sample.redis_cpu = server.candidate.uses_redis().then(|| each(redis_before, redis_after));
        case.samples.push(sample);
        Ok(sample)
    }

    /// Counts the Redis commands per request, outside of the measurement.
    pub(crate) async fn count_commands(&mut self) -> Result<(), BoxError> {
        let mut monitor = None;
        for case in &mut self.cases {
            let server = &mut self.servers[case.server];
            if !server.candidate.uses_redis() {
                continue;
            }
            let monitor = match &mut monitor {
                Some(monitor) => monitor,
                None => monitor.insert(Monitor::open(self.redis_url).await?),
            };
            let mut connection = Connection::open(server.process.addr()).await?;
            monitor.since_last().await?;
            let counted = case.visitors.len().min(COUNTED);
            for visitor in case.visitors.iter_mut().take(COUNTED) {
                let answer = connection.send(visitor.request()).await?;
                visitor.keep_cookie(&answer);
            }
            if case.measured.route == Route::Write {
                server.writes.acknowledged += counted as u64;
            }
            let commands = u32::try_from(monitor.since_last().await?)?;
            case.commands = Some(f64::from(commands) / counted as f64);
        }
        Ok(())
    }

    /// Reads the number of writes from each session.
    pub(crate) async fn look_for_lost_writes(&mut self) -> Result<(), BoxError> {
        for server in &mut self.servers {
            if server.writes.acknowledged == 0 {
                continue;
            }
            let mut connection = Connection::open(server.process.addr()).await?;
            let mut found = 0;
            for cookie in &server.cookies {
                let request = load::request(paths::COUNT, Some(cookie));
                found += connection.send(&request).await?.number()?;
            }
            server.writes.found = Some(found);
        }
        Ok(())
    }

    pub(crate) fn server(&self, case: &Case) -> &Server {
        &self.servers[case.server]
    }

    /// Returns the case of a candidate's route, if the candidate takes part.
    fn case(&self, candidate: &str, route: Route) -> Option<&Case> {
        self.cases.iter().find(|case| {
            self.server(case).candidate.name == candidate && case.measured.route == route
        })
    }

    /// Returns the requests per second of a case as a share of another's: the lower quartile, the
    /// median and the upper quartile over the rounds. Each round has a share of its own, because a
    /// round measures both close to each other in time.
    pub(crate) fn share(&self, case: &Case, candidate: &str, route: Route) -> Option<[f64; 3]> {
        let rounds = case.samples.iter().zip(&self.case(candidate, route)?.samples);
        quantiles(rounds.map(|(ours, theirs)| ours.per_second / theirs.per_second))
    }
}

async fn create_sessions(server: &ServerProcess, count: usize) -> Result<Vec<String>, BoxError> {
    let mut connection = Connection::open(server.addr()).await?;
    let mut cookies = Vec::with_capacity(count);
    for _ in 0..count {
        cookies.push(connection.create_session().await?);
    }
    Ok(cookies)
}

/// Creates a visitor for each session.
fn visitors(path: &str, cookies: &[String]) -> Vec<Visitor> {
    cookies.iter().map(|cookie| Visitor::new(path.to_owned(), cookie)).collect()
}

/// Creates a visitor for each session, who signs in repeatedly, always as the same user.
fn users(cookies: &[String]) -> Vec<Visitor> {
    let path = |user| format!("{}/user-{user}", Route::Login.path());
    cookies.iter().enumerate().map(|(user, cookie)| Visitor::new(path(user), cookie)).collect()
}

/// The most requests per case whose commands are counted.
const COUNTED: usize = 50;
