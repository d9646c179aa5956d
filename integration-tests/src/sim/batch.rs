use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use futures_util::FutureExt as _;
use session_core::StoreError;

use super::{
    broken::Broken,
    counters::Counters,
    draw::Grain,
    history::{Outcome, Stage},
    plan::Plan,
    stores::{Redis, Stores},
};

/// A series of histories, each with a different seed.
#[derive(Clone, Debug)]
pub struct Simulation {
    histories: u64,
    seed: u64,
    broken: Option<Broken>,
    stops: bool,
}

/// The result of a series of histories.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The number of completed histories.
    pub histories: u64,
    /// The number of histories that violated a promise.
    pub violations: u64,
    /// The events of all histories.
    pub counters: Counters,
    /// The first violations, by their seeds.
    pub found: Vec<Found>,
}

/// A violation of a promise.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed of the history.
    pub seed: u64,
    /// The number of the invariant.
    pub rule: &'static str,
    /// A description of the violation.
    pub text: String,
    /// The steps of the shortest history with this violation.
    pub trace: Vec<String>,
}

impl Simulation {
    /// Creates a simulation of this many histories, with the seeds 0, 1 and so on.
    #[must_use]
    pub const fn new(histories: u64) -> Self {
        Self { histories, seed: 0, broken: None, stops: false }
    }

    /// Sets the seed of the first history; each further one is greater by one.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Plays a broken variant of the protocol.
    #[must_use]
    pub const fn with_broken(mut self, broken: Broken) -> Self {
        self.broken = Some(broken);
        self
    }

    /// Stops after the first violation.
    #[must_use]
    pub const fn stopping_at_the_first(mut self) -> Self {
        self.stops = true;
        self
    }

    /// Plays the histories on memory stores, on all processors. `progress` receives the number of
    /// completed histories now and then.
    ///
    /// # Panics
    ///
    /// Never: a memory store does not fail.
    pub fn run(&self, progress: impl Fn(u64) + Sync) -> Report {
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let report = Mutex::new(Report::default());
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= self.histories {
                    break;
                }
                let stage = self.stage(Stores::Memory);
                let mut chunk = Report::default();
                for number in first..(first + CHUNK).min(self.histories) {
                    let play = self.play(&stage, number, Grain::Fine, &mut chunk);
                    play.now_or_never().expect("nothing waits").expect("memory does not fail");
                    if self.stops && chunk.violations > 0 {
                        stop.store(true, Ordering::Relaxed);
                        break;
                    }
                }
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.add(chunk);
                progress(report.histories);
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        report.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays the histories on a Redis, each under a separate prefix, and deletes their keys.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if Redis itself fails.
    pub async fn run_on_redis(
        &self,
        url: &str,
        progress: impl Fn(u64),
    ) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let run = std::process::id();
        let connection = Redis::connect(url).await?;
        for number in 0..self.histories {
            let prefix = format!("simulation:{run}:{number}:");
            let stores = Stores::Redis(Redis::new(url, prefix, connection.clone()));
            let mut stage = self.stage(stores);
            // Redis expires keys by its own clock, which does not jump back with the clock of a history.
            stage.expiry_is_final = false;
            self.play(&stage, number, Grain::Coarse, &mut report).await?;
            stage.stores.clear().await?;
            progress(report.histories);
            if self.stops && report.violations > 0 {
                break;
            }
        }
        Ok(report)
    }

    fn stage(&self, stores: Stores) -> Stage {
        Stage { stores, broken: self.broken, expiry_is_final: true, traced: false }
    }

    async fn play(
        &self,
        stage: &Stage,
        number: u64,
        grain: Grain,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let seed = self.seed.wrapping_add(number);
        let plan = Plan::draw(seed, grain);
        let outcome = stage.play(&plan).await?;
        report.histories += 1;
        report.counters.add(&outcome.counters);
        if outcome.violation.is_some() {
            report.violations += 1;
            if report.found.len() < MAX_FOUND {
                let Outcome { violation, trace, .. } = stage.shrink(plan, outcome).await?;
                let violation =
                    violation.expect("one that was found is told, also if it does not show again");
                let (rule, text) = (violation.rule, violation.text);
                report.found.push(Found { seed, rule, text, trace });
            }
        }
        Ok(())
    }
}

impl Report {
    fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.violations += other.violations;
        self.counters.add(&other.counters);
        self.found.extend(other.found);
        self.found.sort_by_key(|found| found.seed);
        self.found.truncate(MAX_FOUND);
    }
}

/// The number of histories that a thread takes at a time.
const CHUNK: u64 = 64;

/// The number of violations that are shortened and reported.
const MAX_FOUND: usize = 20;
