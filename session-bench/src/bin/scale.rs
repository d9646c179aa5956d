//! Measures the stores with many sessions, with many sessions of one owner, and with a session of many
//! values.
//!
//! See the README of this package.

use std::{
    env,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use session_bench::{
    BoxError, Progress, RedisInfo, RedisServer, Table, Work, create_session, fill, process, request,
};
use session_core::{CookieChange, Key, SessionId, Sessions};
use session_memory::MemoryStore;
use session_redis::RedisStore;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        [] => compare(1_000_000),
        ["--sessions", sessions] => sessions.parse().map_err(BoxError::from).and_then(compare),
        _ => {
            println!("{HELP}");
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scale: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures both stores, one after the other.
fn compare(sessions: usize) -> Result<(), BoxError> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let sessions = sessions.max(2 * FEW);
    runtime.block_on(async {
        let mut progress = Progress::new(2 * STEPS);
        let id = std::process::id();
        // Large enough for all sessions.
        let store = MemoryStore::with_capacity(sessions as u64 * 4_096)?;
        let before = process::resident_memory(id);
        let mut in_memory = Scale::begin(Sessions::new(store), &mut progress).await?;
        in_memory.grow(sessions, &mut progress).await?;
        let after = process::resident_memory(id);
        in_memory.bytes = before.zip(after).map(|(before, after)| each(before, after, sessions));
        in_memory.finish(&mut progress).await?;

        let redis = RedisServer::find().await?;
        let mut info = RedisInfo::open(redis.url()).await?;
        let store = RedisStore::connect(redis.url()).await?;
        let before = info.settled_memory().await?;
        let mut in_redis = Scale::begin(Sessions::new(store), &mut progress).await?;
        in_redis.grow(sessions, &mut progress).await?;
        let after = info.settled_memory().await?;
        in_redis.bytes = Some(each(before.used, after.used, sessions));
        in_redis.finish(&mut progress).await?;

        println!("{}", table(sessions, &in_memory, &in_redis));
        Ok(())
    })
}

/// The measurements of a store.
struct Scale {
    sessions: Sessions,
    /// A sample of the sessions, from early ones to late ones.
    some: Vec<SessionId>,
    bytes: Option<f64>,
    /// The latencies of reads and writes: with few sessions, then with many.
    reads: Vec<Latency>,
    writes: Vec<Latency>,
    list: Duration,
    end: Duration,
    /// The latencies of a session of many values: of reads, then of writes.
    large: Vec<Latency>,
}

/// The median and the 99th percentile.
#[derive(Clone, Copy, Debug)]
struct Latency {
    p50: Duration,
    p99: Duration,
}

impl Scale {
    /// Creates the first few sessions, and measures requests.
    async fn begin(sessions: Sessions, progress: &mut Progress) -> Result<Self, BoxError> {
        let mut scale = Self {
            sessions,
            some: Vec::new(),
            bytes: None,
            reads: Vec::new(),
            writes: Vec::new(),
            list: Duration::ZERO,
            end: Duration::ZERO,
            large: Vec::new(),
        };
        scale.create(FEW).await?;
        scale.look().await;
        progress.step(&format!("{FEW} sessions"));
        Ok(scale)
    }

    /// Creates the other sessions, and measures requests again.
    async fn grow(&mut self, sessions: usize, progress: &mut Progress) -> Result<(), BoxError> {
        self.create(sessions - FEW).await?;
        progress.step(&format!("{sessions} sessions"));
        self.look().await;
        progress.step("looked at them");
        Ok(())
    }

    /// Measures an owner of many sessions, and a session of many values.
    async fn finish(&mut self, progress: &mut Progress) -> Result<(), BoxError> {
        let sessions = &self.sessions;
        at_once(OWNED, |_| async {
            let session = sessions.open([]).await?;
            session.authenticate(OWNER)?;
            let _ = session.finish().await?;
            Ok(())
        })
        .await?;
        progress.step(&format!("{OWNED} sessions of one owner"));
        let start = Instant::now();
        let found = sessions.list(OWNER).await?.len();
        self.list = start.elapsed();
        let start = Instant::now();
        let ended = sessions.revoke_all(OWNER).await?;
        self.end = start.elapsed();
        if (found, ended) != (OWNED, OWNED) {
            return Err(format!("of {OWNED} sessions {found} were found, {ended} ended").into());
        }
        progress.step("ended them");

        let session = sessions.open([]).await?;
        fill(&session)?;
        for number in 4..VALUES {
            session.set(Key::<String>::new(&format!("value-{number:04}")), "x".repeat(32))?;
        }
        let CookieChange::Set { id, .. } = session.finish().await? else {
            return Err("a new session tells its ID".into());
        };
        for work in [Work::Read, Work::Write] {
            self.large.push(latency(sessions, std::slice::from_ref(&id), work).await);
        }
        progress.step(&format!("a session of {VALUES} values"));
        Ok(())
    }

    async fn create(&mut self, count: usize) -> Result<(), BoxError> {
        let sessions = &self.sessions;
        let kept = (count / SOME).max(1);
        let created = at_once(count, |number| async move {
            let id = create_session(sessions).await?;
            Ok((number % kept == 0).then_some(id))
        })
        .await?;
        self.some.extend(created.into_iter().flatten());
        Ok(())
    }

    async fn look(&mut self) {
        self.reads.push(latency(&self.sessions, &self.some, Work::Read).await);
        self.writes.push(latency(&self.sessions, &self.some, Work::Write).await);
    }
}

/// Runs `work` so many times, [`TASKS`] of them concurrently, and returns the results.
async fn at_once<T, F>(count: usize, work: impl Fn(usize) -> F) -> Result<Vec<T>, BoxError>
where
    F: Future<Output = Result<T, BoxError>>,
{
    let work = &work;
    let tasks = (0..TASKS).map(async |first| {
        let mut kept = Vec::new();
        for number in (first..count).step_by(TASKS) {
            kept.push(work(number).await?);
        }
        Ok::<_, BoxError>(kept)
    });
    Ok(try_join_all(tasks).await?.into_iter().flatten().collect())
}

/// Measures requests, one after the other.
async fn latency(sessions: &Sessions, ids: &[SessionId], work: Work) -> Latency {
    let mut spans = Vec::with_capacity(REQUESTS);
    for id in ids.iter().cycle().take(REQUESTS) {
        let start = Instant::now();
        request(sessions, id, work).await;
        spans.push(start.elapsed());
    }
    spans.sort_unstable();
    Latency { p50: spans[REQUESTS / 2], p99: spans[REQUESTS * 99 / 100] }
}

fn table(sessions: usize, in_memory: &Scale, in_redis: &Scale) -> Table {
    let mut table = Table::new(1, &["", "memory", "Redis"]);
    let mut row = |name: String, of: &dyn Fn(&Scale) -> Option<String>| {
        table.row([Some(name), of(in_memory), of(in_redis)]);
    };
    row(format!("bytes per session, of {sessions}"), &|scale| {
        scale.bytes.map(|bytes| format!("{bytes:.0}"))
    });
    for (place, count) in [FEW, sessions].into_iter().enumerate() {
        row(format!("read, of {count} sessions"), &|scale| Some(latency_text(scale.reads[place])));
        row(format!("write, of {count} sessions"), &|scale| {
            Some(latency_text(scale.writes[place]))
        });
    }
    row(format!("list an owner's {OWNED} sessions"), &|scale| Some(millis(scale.list)));
    row(format!("end an owner's {OWNED} sessions"), &|scale| Some(millis(scale.end)));
    row(format!("read, of {VALUES} values"), &|scale| Some(latency_text(scale.large[0])));
    row(format!("write, of {VALUES} values"), &|scale| Some(latency_text(scale.large[1])));
    table
}

fn latency_text(Latency { p50, p99 }: Latency) -> String {
    let micros = |span: Duration| span.as_secs_f64() * 1e6;
    format!("{:.1} / {:.1} µs", micros(p50), micros(p99))
}

fn millis(span: Duration) -> String {
    format!("{:.0} ms", span.as_secs_f64() * 1e3)
}

fn each(before: u64, after: u64, sessions: usize) -> f64 {
    after.saturating_sub(before) as f64 / sessions as f64
}

const OWNER: &str = "somebody with many devices";
const FEW: usize = 1_000;
const OWNED: usize = 10_000;
const VALUES: usize = 500;
const REQUESTS: usize = 20_000;
/// The number of concurrent operations where the latency is not measured.
const TASKS: usize = 64;
/// The least number of sessions that a call of `create` adds to the sample, if it creates so many.
const SOME: usize = 5_000;
/// The number of steps of progress per store.
const STEPS: usize = 6;

const HELP: &str = "\
Usage: scale [--sessions N]
Measures the stores with 1,000 sessions and with N (1000000), an owner of 10,000 sessions and a session of 500
values. Redis: REDIS_URL, or else a redis-server on the PATH is started.";
