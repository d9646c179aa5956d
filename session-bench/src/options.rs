use std::{path::PathBuf, time::Duration};

use crate::BoxError;

/// The options of the comparison.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// The time for which a round measures each route of a candidate.
    pub(crate) span: Duration,
    pub(crate) connections: usize,
    /// The servers and the load run on separate cores.
    pub(crate) apart: bool,
    pub(crate) sessions: usize,
    /// The number of sessions created to measure their memory.
    pub(crate) footprint_sessions: usize,
    /// The number of rounds of concurrent changes of a session.
    pub(crate) failure_rounds: usize,
    /// The number of sessions written through one server and read through another.
    pub(crate) failure_sessions: usize,
    /// The text in the names of the servers to measure. The servers with which they are compared are
    /// measured too.
    pub(crate) only: Option<String>,
    /// The file for the picture of the result.
    pub(crate) picture: Option<PathBuf>,
}

impl Options {
    /// The time under load before each measurement.
    pub(crate) const WARM_UP: Duration = Duration::from_millis(200);

    /// Parses the command line. Returns `None` if the user asks for help.
    pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Option<Self>, BoxError> {
        let mut options = Self {
            rounds: 31,
            span: Duration::from_millis(500),
            connections: 64,
            apart: false,
            sessions: 1_024,
            footprint_sessions: 100_000,
            failure_rounds: 20,
            failure_sessions: 50,
            only: None,
            picture: None,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => {
                    options.rounds = 3;
                    options.span = Duration::from_millis(300);
                    options.footprint_sessions = 20_000;
                    options.failure_rounds = 5;
                    options.failure_sessions = 20;
                }
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.span = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--connections" => options.connections = value()?.parse()?,
                "--apart" => options.apart = true,
                "--sessions" => options.sessions = value()?.parse()?,
                "--only" => options.only = Some(value()?),
                "--picture" => options.picture = Some(value()?.into()),
                "--help" | "-h" => return Ok(None),
                _ => return Err(format!("unknown option {arg}\n{HELP}").into()),
            }
        }
        if options.rounds == 0 || options.span.is_zero() || options.connections == 0 {
            return Err("rounds, seconds and connections must not be zero".into());
        }
        // Each connection needs a session, because concurrent requests use different sessions.
        options.sessions = options.sessions.max(options.connections);
        Ok(Some(options))
    }
}

pub(crate) const HELP: &str = "\
Usage: session-bench [OPTIONS]
  --quick            3 rounds of 0.3 seconds each, and less of everything else
  --rounds N         measure each server N times, in turns (31)
  --seconds S        for so long each time (0.5)
  --connections N    kept open, one request at a time on each (64)
  --sessions N       spread over the connections (1024)
  --apart            under load, the servers on half of the cores and the load on the others (Linux)
  --only TEXT        only the servers with TEXT in their name, and whom they are compared with
  --picture PATH     draw the result there, as SVG
Redis: REDIS_URL, or else a redis-server on the PATH is started.";
