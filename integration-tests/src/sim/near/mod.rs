//! A simulation of the near cache: its promises must hold for every delay, loss and order of messages.
//!
//! Several servers with the real cache share one store. Messages keep their order within one connection,
//! in both directions, and not across connections. A connection can hang, or be cut, which its server
//! notices later. Each read is checked against the acknowledged writes, see `history`.

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

/// A series of histories of servers with a near cache.
#[derive(Clone, Debug)]
pub struct NearSimulation {
    histories: u64,
    seed: u64,
    broken: Option<NearBroken>,
}

/// Variants of the near cache, each with one broken rule. The variants prove that the simulation detects
/// such errors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NearBroken {
    /// A reply is cached although an invalidation has overtaken it.
    NoToken,
    /// The copies of a lost connection stay until the bound has passed.
    NoFlushOnDisconnect,
    /// A new connection validates the copies of the previous one.
    OneHorizonForAll,
    /// A copy is used regardless of the age of its connection's last proof.
    NoBound,
    /// The server does not track some reads, as with `GETEX`.
    UntrackedReads,
    /// No client receives the marker.
    NoMarker,
    /// The marker contains the last write, and a copy that is as new suffices.
    MarkerWithRevision,
    /// A server waits for the invalidation of its own changes.
    OwnChangesNotForgotten,
}

/// The number of times that each event occurred.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NearCounters {
    /// Sessions that were opened without a request to the store.
    pub hits: u64,
    /// Opened copies that were older than the store, within the bound.
    pub stale: u64,
    /// Reads by a client with the marker.
    pub marked: u64,
    /// Replies that were not cached, because an invalidation overtook them or their connection was lost.
    pub not_kept: u64,
    /// Lost connections.
    pub losses: u64,
    /// Hanging connections.
    pub hangs: u64,
    /// Session ends that a server learned of.
    pub ends_heard: u64,
}

/// The result of a series of histories.
#[derive(Clone, Debug, Default)]
pub struct NearReport {
    /// The number of completed histories.
    pub histories: u64,
    /// The number of histories that violated a promise.
    pub violations: u64,
    /// The events of all histories.
    pub counters: NearCounters,
    /// The violation with the lowest seed among those found.
    pub found: Vec<Found>,
}

impl NearSimulation {
    /// Creates a simulation of this many histories, with the seeds 0, 1 and so on.
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

    /// Plays a broken variant of the cache, until a violation is found.
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
    /// All variants.
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

    /// Returns the name for the command line.
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

    /// Returns the variant of this name.
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
