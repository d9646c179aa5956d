//! The memory of sessions, in Redis and in the process of the server.

use futures_util::future::try_join_all;
use session_bench::{Progress, RedisInfo, RedisServer, process};

use crate::{
    BoxError,
    candidate::{Candidate, Keeps},
    child::ServerProcess,
    cores::Cores,
    load::{self, Connection},
    options::Options,
    route::Route,
};

/// The memory per session of a server.
pub(crate) struct Footprint {
    pub(crate) candidate: &'static Candidate,
    /// The growth of the process per session in bytes, where the system reports the memory of
    /// processes.
    pub(crate) in_process: Option<f64>,
    /// The memory in Redis, for a server that keeps its sessions there.
    pub(crate) in_redis: Option<InRedis>,
}

/// The memory of a session in Redis.
pub(crate) struct InRedis {
    /// The growth of the memory in use, in bytes: key, value, time to live, and a share of the tables.
    pub(crate) used: f64,
    /// The mean `MEMORY USAGE` of a key, in bytes.
    pub(crate) by_key: f64,
    /// The number of keys per session.
    pub(crate) keys: f64,
}

/// Measures all candidates that keep sessions, each in a new process, and with a new Redis unless
/// `REDIS_URL` is set.
pub(crate) async fn measure(
    options: &Options,
    candidates: &[&'static Candidate],
    cores: Option<&Cores>,
) -> Result<Vec<Footprint>, BoxError> {
    let candidates = candidates.iter().filter(|candidate| candidate.keeps != Keeps::Nothing);
    let mut progress = Progress::new(candidates.clone().count());
    let mut all = Vec::new();
    for candidate in candidates {
        let redis = RedisServer::find().await?;
        let server = ServerProcess::start(candidate, redis.url(), cores)?;
        let mut info = RedisInfo::open(redis.url()).await?;
        // One-time allocations are complete before the first measurement.
        create(&server, WARM_UP).await?;
        let before = (process::resident_memory(server.id()), info.settled_memory().await?);
        let cookies = create(&server, options.footprint_sessions).await?;
        let after = (process::resident_memory(server.id()), info.settled_memory().await?);
        all_are_there(&server, &cookies).await?;
        let each = |before, after| difference(before, after) / cookies.len() as f64;
        let in_redis = candidate.uses_redis().then_some(InRedis {
            used: each(before.1.used, after.1.used),
            by_key: info.memory_of_keys().await?,
            keys: each(before.1.keys, after.1.keys),
        });
        let in_process = before.0.zip(after.0).map(|(before, after)| each(before, after));
        all.push(Footprint { candidate, in_process, in_redis });
        progress.step(&format!("{}: {} sessions more", candidate.name, cookies.len()));
    }
    Ok(all)
}

async fn create(server: &ServerProcess, sessions: usize) -> Result<Vec<String>, BoxError> {
    let creating = (0..CONNECTIONS).map(async |number| {
        let mut connection = Connection::open(server.addr()).await?;
        let mut cookies = Vec::new();
        for _ in (number..sessions).step_by(CONNECTIONS) {
            cookies.push(connection.create_session().await?);
        }
        Ok::<_, BoxError>(cookies)
    });
    Ok(try_join_all(creating).await?.concat())
}

/// Checks every hundredth session, because a store that dropped sessions would look small.
async fn all_are_there(server: &ServerProcess, cookies: &[String]) -> Result<(), BoxError> {
    let mut connection = Connection::open(server.addr()).await?;
    for cookie in cookies.iter().step_by(100) {
        let request = load::request(Route::Read.path(), Some(cookie));
        if connection.send(&request).await?.body().is_empty() {
            return Err("a session is no longer there".into());
        }
    }
    Ok(())
}

fn difference(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}

const CONNECTIONS: usize = 16;
/// The number of sessions created before the first measurement.
const WARM_UP: usize = 1_000;
