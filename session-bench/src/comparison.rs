use std::time::Duration;

use crate::{
    BoxError,
    candidate::{Against, CANDIDATES, CREATE, Candidate, Measured, Route},
    child::ServerProcess,
    commands::Monitor,
    environment,
    load::{self, Connection, Requests},
    options::Options,
    progress::Progress,
    sample::{Sample, median, quantiles},
    table::Table,
};

/// All candidates, measured in turns.
pub(crate) struct Comparison<'o> {
    options: &'o Options,
    redis_url: &'o str,
    servers: Vec<Server>,
    cases: Vec<Case>,
}

/// A candidate that runs, with the sessions that were created on it.
struct Server {
    candidate: &'static Candidate,
    process: ServerProcess,
    cookies: Vec<String>,
    /// How many writes it answered with success, and how many of them were there at the end.
    writes: Writes,
}

#[derive(Clone, Copy, Default)]
struct Writes {
    acknowledged: u64,
    found: Option<u64>,
}

/// A route of a server, and what was measured of it.
struct Case {
    server: usize,
    measured: &'static Measured,
    requests: Requests,
    samples: Vec<Sample>,
    commands: Option<f64>,
}

impl<'o> Comparison<'o> {
    /// Starts all servers and creates their sessions.
    pub(crate) async fn start(options: &'o Options, redis_url: &'o str) -> Result<Self, BoxError> {
        let chosen = chosen(options.only.as_deref())?;
        let mut progress = Progress::new(chosen.len());
        let (mut servers, mut cases) = (Vec::new(), Vec::new());
        for candidate in chosen {
            let process = ServerProcess::start(candidate, redis_url)?;
            let cookies = create_sessions(&process, options.sessions).await?;
            cases.extend(candidate.measured.iter().map(|measured| {
                let path = measured.route.path();
                let requests = cookies.iter().map(|cookie| load::request(path, Some(cookie)));
                Case {
                    server: servers.len(),
                    measured,
                    requests: requests.collect(),
                    samples: Vec::new(),
                    commands: None,
                }
            }));
            servers.push(Server { candidate, process, cookies, writes: Writes::default() });
            let sessions = options.sessions;
            progress.step(&format!("{}: {sessions} sessions", candidate.name));
        }
        Ok(Self { options, redis_url, servers, cases })
    }

    /// Measures all in turns, so that a change of the machine's mood meets all alike.
    pub(crate) async fn run_rounds(&mut self) -> Result<(), BoxError> {
        let mut progress = Progress::new(self.options.rounds * self.cases.len());
        for round in 0..self.options.rounds {
            // Neighbours stay neighbours, and none is always the first.
            let mut order: Vec<usize> = (0..self.cases.len()).collect();
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

    async fn measure(&mut self, case: usize) -> Result<Sample, BoxError> {
        let case = &mut self.cases[case];
        let server = &mut self.servers[case.server];
        let cpu_before = environment::cpu_time(server.process.id());
        let outcome = load::drive(
            server.process.addr(),
            &case.requests,
            self.options.connections,
            Options::WARM_UP,
            self.options.span,
        )
        .await?;
        let cpu_after = environment::cpu_time(server.process.id());
        if case.measured.route == Route::Write {
            server.writes.acknowledged += outcome.answered;
        }
        let cpu = cpu_before.zip(cpu_after).map(|(before, after)| {
            let requests = u32::try_from(outcome.answered).unwrap_or(u32::MAX);
            after.saturating_sub(before) / requests.max(1)
        });
        let sample = Sample::of(outcome.latencies, self.options.span, cpu);
        case.samples.push(sample);
        Ok(sample)
    }

    /// Counts, apart from the measurement, how many commands a request sends to Redis.
    pub(crate) async fn count_commands(&mut self) -> Result<(), BoxError> {
        let mut monitor = None;
        for case in &mut self.cases {
            let server = &mut self.servers[case.server];
            if !server.candidate.uses_redis {
                continue;
            }
            let monitor = match &mut monitor {
                Some(monitor) => monitor,
                None => monitor.insert(Monitor::open(self.redis_url).await?),
            };
            let mut connection = Connection::open(server.process.addr()).await?;
            monitor.since_last().await?;
            for request in case.requests.iter().cycle().take(COUNTED) {
                connection.send(request).await?;
            }
            if case.measured.route == Route::Write {
                server.writes.acknowledged += COUNTED as u64;
            }
            let commands = u32::try_from(monitor.since_last().await?)?;
            case.commands = Some(f64::from(commands) / COUNTED as f64);
        }
        Ok(())
    }

    /// Reads from each session how often it was written to, by one more write.
    pub(crate) async fn look_for_lost_writes(&mut self) -> Result<(), BoxError> {
        for server in &mut self.servers {
            if server.writes.acknowledged == 0 {
                continue;
            }
            let mut connection = Connection::open(server.process.addr()).await?;
            let mut found = 0;
            for cookie in &server.cookies {
                let request = load::request(Route::Write.path(), Some(cookie));
                let response = connection.send(&request).await?;
                found += str::from_utf8(response.body())?.parse::<u64>()? - 1;
            }
            server.writes.found = Some(found);
        }
        Ok(())
    }

    /// The result.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(&[
            "server",
            "route",
            "requests/s",
            "p50",
            "p99",
            "server CPU",
            "Redis commands",
            "share",
            "quartiles",
            "of",
            "target",
        ]);
        for case in &self.cases {
            let number = |of: fn(&Sample) -> f64| median(case.samples.iter().map(of));
            let micros = |micros: f64| format!("{micros:.0} µs");
            let cpu = case.samples.iter().filter_map(|sample| sample.cpu);
            let against = case.measured.against.as_ref();
            let share = against.and_then(|against| self.share(case, against));
            let target = against.and_then(|against| against.at_least);
            table.row([
                Some(self.servers[case.server].candidate.name.to_owned()),
                Some(case.measured.route.to_string()),
                number(|sample| sample.per_second).map(|number| format!("{number:.0}")),
                number(|sample| micros_of(sample.p50)).map(micros),
                number(|sample| micros_of(sample.p99)).map(micros),
                median(cpu.map(micros_of)).map(|micros| format!("{micros:.1} µs")),
                case.commands.map(|commands| format!("{commands:.2}")),
                share.map(|[_, share, _]| format!("{share:.3}")),
                share.map(|[lower, _, upper]| format!("{lower:.3}–{upper:.3}")),
                against.map(|against| format!("{} {}", against.candidate, against.route)),
                share.zip(target).map(|([_, share, _], target)| {
                    let verdict = if share >= target { "met" } else { "missed" };
                    format!("{target:.2} {verdict}")
                }),
            ]);
        }
        table
    }

    /// Says what became of the writes that were answered with success.
    pub(crate) fn lost_writes(&self) -> String {
        let mut text = String::new();
        for Server { candidate, writes, .. } in &self.servers {
            let (name, acknowledged) = (candidate.name, writes.acknowledged);
            if let Some(found) = writes.found {
                text += &format!("{name}: {found} of {acknowledged} acknowledged writes found\n");
            }
        }
        text
    }

    /// The share of another's requests per second: the median of what it was in each round, as the two
    /// were measured close to each other in time.
    fn share(&self, case: &Case, against: &Against) -> Option<[f64; 3]> {
        let other = self.cases.iter().find(|other| {
            self.servers[other.server].candidate.name == against.candidate
                && other.measured.route == against.route
        })?;
        let rounds = case.samples.iter().zip(&other.samples);
        quantiles(rounds.map(|(ours, theirs)| ours.per_second / theirs.per_second))
    }
}

/// The candidates with `only` in their name, and those that they are compared with.
fn chosen(only: Option<&str>) -> Result<Vec<&'static Candidate>, BoxError> {
    let Some(only) = only else {
        return Ok(CANDIDATES.iter().collect());
    };
    let named: Vec<_> =
        CANDIDATES.iter().filter(|candidate| candidate.name.contains(only)).collect();
    if named.is_empty() {
        return Err(format!("no server has {only:?} in its name").into());
    }
    let needed = |candidate: &&Candidate| {
        named.iter().any(|other| {
            let mut against = other.measured.iter().filter_map(|m| m.against.as_ref());
            other.name == candidate.name || against.any(|a| a.candidate == candidate.name)
        })
    };
    Ok(CANDIDATES.iter().filter(needed).collect())
}

async fn create_sessions(server: &ServerProcess, count: usize) -> Result<Vec<String>, BoxError> {
    let mut connection = Connection::open(server.addr()).await?;
    let request = load::request(CREATE, None);
    let mut cookies = Vec::with_capacity(count);
    for _ in 0..count {
        let response = connection.send(&request).await?;
        let cookie = response.cookie().ok_or("the server sets no cookie")?;
        cookies.push(cookie.to_owned());
    }
    Ok(cookies)
}

fn micros_of(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// How many requests are looked at to count their commands.
const COUNTED: usize = 50;
