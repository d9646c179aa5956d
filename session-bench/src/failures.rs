//! Failures by which a server may gain speed: lost changes and stale reads.

use std::time::Duration;

use futures_util::future::try_join_all;
use session_bench::Progress;

use crate::{
    BoxError,
    candidate::{Candidate, Keeps},
    child::ServerProcess,
    cores::Cores,
    load::{self, Connection},
    options::Options,
    route::{Route, paths},
};

/// The failures of a server.
pub(crate) struct Failures {
    pub(crate) candidate: &'static Candidate,
    pub(crate) updates: Updates,
    /// The stale reads of a server that shares its sessions with other processes.
    pub(crate) reads: Option<Reads>,
}

/// The outcome of concurrent changes of one session, each of a different value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Updates {
    /// The changes answered with success.
    pub(crate) acknowledged: u64,
    /// The changes answered with an error, so that the client learns of the failure.
    pub(crate) refused: u64,
    /// The changes found in the session afterwards.
    pub(crate) found: u64,
}

impl Updates {
    /// Returns the number of changes answered with success and missing afterwards.
    pub(crate) fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.found)
    }
}

/// The outcome of reads through one server after writes that another server has acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reads {
    pub(crate) sessions: u64,
    /// The sessions that showed an older value immediately after the response.
    pub(crate) stale_at_once: u64,
    /// The sessions that still showed an older value after [`LATER`].
    pub(crate) stale_later: u64,
}

/// Looks for lost changes and stale reads on all candidates that keep sessions.
pub(crate) async fn look_for(
    options: &Options,
    candidates: &[&'static Candidate],
    redis_url: &str,
    cores: Option<&Cores>,
) -> Result<Vec<Failures>, BoxError> {
    let candidates = candidates.iter().filter(|candidate| candidate.keeps != Keeps::Nothing);
    let mut progress = Progress::new(candidates.clone().count());
    let mut all = Vec::new();
    for candidate in candidates {
        let server = ServerProcess::start(candidate, redis_url, cores)?;
        let updates = change_at_once(&server, options.failure_rounds).await?;
        let reads = if candidate.uses_redis() {
            let other = ServerProcess::start(candidate, redis_url, cores)?;
            Some(read_elsewhere(&server, &other, options.failure_sessions).await?)
        } else {
            None
        };
        progress.step(&format!("{}: {} changes lost", candidate.name, updates.lost()));
        all.push(Failures { candidate, updates, reads });
    }
    Ok(all)
}

/// Sends 20 concurrent requests that change one session, as a page with many parts does. Each round
/// uses a new session.
async fn change_at_once(server: &ServerProcess, rounds: usize) -> Result<Updates, BoxError> {
    let opening = (0..paths::KEYS).map(|_| Connection::open(server.addr()));
    let mut connections = try_join_all(opening).await?;
    let mut updates = Updates::default();
    for _ in 0..rounds {
        let cookie = connections[0].create_session().await?;
        let requests = connections.iter_mut().enumerate().map(async |(key, connection)| {
            let path = paths::SET.replace("{key}", &key.to_string());
            let request = load::request(&path, Some(&cookie));
            connection.exchange(&request).await.map(|answer| answer.is_success())
        });
        for success in try_join_all(requests).await? {
            *(if success { &mut updates.acknowledged } else { &mut updates.refused }) += 1;
        }
        let request = load::request(paths::FOUND, Some(&cookie));
        updates.found += connections[0].send(&request).await?.number()?;
    }
    Ok(updates)
}

/// Writes to each session through one server, and reads through another server that has read the
/// session before.
async fn read_elsewhere(
    server: &ServerProcess,
    other: &ServerProcess,
    sessions: usize,
) -> Result<Reads, BoxError> {
    let mut writer = Connection::open(server.addr()).await?;
    let mut reader = Connection::open(other.addr()).await?;
    let mut reads = Reads { sessions: sessions as u64, ..Reads::default() };
    let mut written = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let cookie = writer.create_session().await?;
        let read = load::request(paths::COUNT, Some(&cookie));
        reader.send(&read).await?;
        let write = load::request(Route::Write.path(), Some(&cookie));
        let answer = writer.send(&write).await?;
        let count = answer.number()?;
        let read_after = load::request(paths::COUNT, Some(&answer.cookies_after(&cookie)));
        let is_stale = reader.send(&read_after).await?.number()? < count;
        reads.stale_at_once += u64::from(is_stale);
        written.push((read, count));
    }
    tokio::time::sleep(LATER).await;
    for (read, count) in written {
        let is_stale = reader.send(&read).await?.number()? < count;
        reads.stale_later += u64::from(is_stale);
    }
    Ok(reads)
}

/// The pause before the reads are repeated.
pub(crate) const LATER: Duration = Duration::from_secs(1);
