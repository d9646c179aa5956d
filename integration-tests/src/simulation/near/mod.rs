//! A simulation of the near cache: what no delay, loss or order of messages may let anybody read.
//!
//! Several servers with the real cache share one store. Over each connection messages keep their order, in both
//! directions, and over different ones they do not; a connection hangs, or is cut, which its server notices later.
//! What is read is checked against what was acknowledged, see `history`.

mod history;
mod network;
mod server;

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use self::history::History;
use super::Found;

/// Many histories of servers with a near cache.
#[derive(Clone, Debug)]
pub struct NearSimulation {
    histories: u64,
    seed: u64,
    broken: Option<NearBroken>,
}

/// The near cache with one of its rules broken, to prove that the simulation would find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NearBroken {
    /// An answer is kept although an invalidation has overtaken it.
    NoToken,
    /// The copies of a lost connection stay until the bound has passed.
    NoFlushOnDisconnect,
    /// A new connection vouches for what was read over the one before.
    OneHorizonForAll,
    /// A copy is used however long ago its connection proved itself.
    NoBound,
    /// Some reads are not tracked by the server, as `GETEX` is not.
    UntrackedReads,
    /// No client is marked.
    NoMarker,
    /// The mark tells what was written last, and a copy that is as new is good enough.
    MarkerWithRevision,
    /// What a server changes itself it waits to be told.
    OwnChangesNotForgotten,
}

/// How often histories met what they are there to meet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NearCounters {
    /// Sessions that were opened without asking the store.
    pub hits: u64,
    /// Those that were older than the store by then, and allowed to be.
    pub stale: u64,
    /// Reads for a client with the mark.
    pub marked: u64,
    /// Answers that were overtaken, or whose connection was lost, and are not kept.
    pub not_kept: u64,
    /// Connections that were lost.
    pub losses: u64,
    /// Connections that hung.
    pub hangs: u64,
    /// Ends of which a server was told.
    pub ends_heard: u64,
}

/// What came of many histories.
#[derive(Clone, Debug, Default)]
pub struct NearReport {
    /// How many histories were played.
    pub histories: u64,
    /// How many of them violated a promise.
    pub violations: u64,
    /// What they met.
    pub counters: NearCounters,
    /// One of the first violations, by its seed.
    pub found: Vec<Found>,
}

impl NearSimulation {
    /// Makes a simulation of so many histories, with the seeds 0, 1 and so on.
    #[must_use]
    pub const fn new(histories: u64) -> Self {
        Self { histories, seed: 0, broken: None }
    }

    /// Sets the seed of the first history; each further one is greater by one.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Plays a broken variant of the cache, until it is found.
    #[must_use]
    pub const fn with_broken(mut self, broken: NearBroken) -> Self {
        self.broken = Some(broken);
        self
    }

    /// Plays the histories, on all processors.
    pub fn run(&self) -> NearReport {
        let next = AtomicU64::new(0);
        let report = Mutex::new(NearReport::default());
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= self.histories {
                    return;
                }
                let seed = self.seed.wrapping_add(number);
                let (counters, found) = History::play(seed, self.broken);
                let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                report.add(counters, found);
                if self.broken.is_some() && report.violations > 0 {
                    return;
                }
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
}

impl NearReport {
    fn add(&mut self, counters: NearCounters, found: Option<Found>) {
        self.histories += 1;
        self.counters.hits += counters.hits;
        self.counters.stale += counters.stale;
        self.counters.marked += counters.marked;
        self.counters.not_kept += counters.not_kept;
        self.counters.losses += counters.losses;
        self.counters.hangs += counters.hangs;
        self.counters.ends_heard += counters.ends_heard;
        self.violations += u64::from(found.is_some());
        self.found.extend(found);
        self.found.sort_by_key(|found| found.seed);
        self.found.truncate(1);
    }
}

impl NearBroken {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoToken,
        Self::NoFlushOnDisconnect,
        Self::OneHorizonForAll,
        Self::NoBound,
        Self::UntrackedReads,
        Self::NoMarker,
        Self::MarkerWithRevision,
        Self::OwnChangesNotForgotten,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoToken => "no-token",
            Self::NoFlushOnDisconnect => "no-flush-on-disconnect",
            Self::OneHorizonForAll => "one-horizon-for-all",
            Self::NoBound => "no-bound",
            Self::UntrackedReads => "untracked-reads",
            Self::NoMarker => "no-marker",
            Self::MarkerWithRevision => "marker-with-revision",
            Self::OwnChangesNotForgotten => "own-changes-not-forgotten",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|broken| broken.name() == name)
    }
}

impl fmt::Display for NearBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
