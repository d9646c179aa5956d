//! The copies of sessions in this process, and the rules that decide whether a copy may still be
//! used.
//!
//! The module uses no I/O and no clock of its own, so that the simulation of the integration tests
//! can drive the same code as the store.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{Entry, SessionKey, Timestamp};
use session_memory::table::{EvictingTable, Held};

pub use super::freshness::{ConnectionFreshness, ReadMark};
use crate::metrics::NearCacheMetrics;

/// The copies of sessions, each of them valid until the server reports a change.
///
/// A reply is kept only if the read was announced before the command was sent
/// ([`fetch`](Self::fetch)), and if the announcement still stands. Every change of the session
/// withdraws the announcement. So if an invalidation overtakes a reply inside this process, only
/// the request that sent the read uses the reply.
pub struct NearCopies {
    staleness: Duration,
    table: EvictingTable<Kept>,
    /// The announcements. All concurrent reads of a key share one announcement, until the first of
    /// these reads ends. Every change of a copy holds the lock of the key's share, so that checking
    /// the announcement and keeping the reply are atomic.
    fetches: Box<[Mutex<HashMap<SessionKey, u64>>]>,
    tokens: AtomicU64,
    /// The number of hits, split by share, because every request on every processor counts one.
    hits: Box<[Count]>,
    counts: Counts,
    metrics: NearCacheMetrics,
}

#[derive(Default)]
struct Counts {
    misses: AtomicU64,
    invalidations: AtomicU64,
    flushes: AtomicU64,
}

/// A counter on separate cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// A place in the table.
enum Kept {
    /// A copy of a session, with the mark of the read.
    Copy { entry: Entry, mark: ReadMark },
    /// The place of a session that this process has changed. The next copy takes the place, which
    /// is faster than a removal and an insertion. `bytes` are those of the former copy, because
    /// moka would have to reorder a place of another size.
    Vacant { bytes: usize },
}

impl Held for Kept {
    fn bytes(&self) -> usize {
        match self {
            Self::Copy { entry, .. } => entry.memory_bytes() + OVERHEAD,
            Self::Vacant { bytes } => *bytes,
        }
    }

    /// Returns `None`: the copy of an expired session is never used, and is evicted like any other.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A usable copy.
#[derive(Debug)]
pub struct Found {
    /// The entry that was read.
    pub entry: Entry,
    /// `true` if the connection needs a new proof and this caller must request it, by reading the
    /// same key from the server.
    pub wants_proof: bool,
}

impl NearCopies {
    /// Creates a cache of `capacity` bytes. A copy is used only if its connection has
    /// [proved](ConnectionFreshness::prove) within the last `staleness` that all invalidations have
    /// arrived.
    #[must_use]
    pub fn new(capacity: u64, staleness: Duration) -> Self {
        Self {
            staleness,
            table: EvictingTable::new(capacity, |_, _| {}),
            fetches: (0..SHARES).map(|_| Mutex::default()).collect(),
            tokens: AtomicU64::new(0),
            hits: (0..SHARES).map(|_| Count::default()).collect(),
            counts: Counts::default(),
            metrics: NearCacheMetrics::new(),
        }
    }

    /// Returns how long a copy may still be used after another process has changed the session.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        self.staleness
    }

    /// Returns the copy of a session if the copy may be used at the instant `at`, and if the
    /// session is live at `now`.
    #[must_use]
    pub fn find(&self, key: &SessionKey, at: Instant, now: Timestamp) -> Option<Found> {
        let found = self.table.find(key, now, |kept| self.usable(kept, at, now));
        let count = if found.is_some() { &self.hits[share(key)].0 } else { &self.counts.misses };
        count.fetch_add(1, Ordering::Relaxed);
        self.metrics.on_find(found.is_some());
        found
    }

    /// Checks a copy, under the lock of the copy. The removal of an invalidated copy waits for that
    /// lock, and the connection delivers the replies behind the invalidation only after the
    /// removal. A proof that is visible here therefore covers this copy.
    fn usable(&self, kept: &Kept, at: Instant, now: Timestamp) -> Option<Found> {
        let Kept::Copy { entry, mark } = kept else { return None };
        let freshness = mark.freshness();
        let (proof_age, age) = (freshness.proof_age(at), mark.age(at));
        let is_too_old = proof_age > self.staleness || age > self.staleness * MAX_AGE;
        if is_too_old || !mark.holds() || !entry.is_live(now) {
            return None;
        }
        let wants_proof =
            proof_age > self.staleness / 2 && freshness.begin_proof(at, self.staleness / 8);
        Some(Found { entry: entry.clone(), wants_proof })
    }

    /// Announces a read before the command is sent, so that the reply may be kept.
    pub fn fetch(&self, key: &SessionKey) -> Fetch<'_> {
        // A read joins a standing announcement: no change has withdrawn the announcement, so the
        // session is unchanged since.
        let token = *self
            .fetches(key)
            .entry(*key)
            .or_insert_with(|| self.tokens.fetch_add(1, Ordering::Relaxed));
        Fetch { copies: self, key: *key, token }
    }

    /// Removes the copy of a session that the server reports as changed, as
    /// [`forget`](Self::forget) does. A vacant place stays, because the report may be that of the
    /// change by this process.
    pub fn invalidate(&self, key: &SessionKey) {
        self.counts.invalidations.fetch_add(1, Ordering::Relaxed);
        self.metrics.on_invalidation();
        self.remove(key, |kept| matches!(kept, Kept::Vacant { .. }).then_some(()));
    }

    /// Removes the copy of a session, and withdraws the announcement of reads under way.
    pub fn forget(&self, key: &SessionKey) {
        self.remove(key, |_| None);
    }

    fn remove(&self, key: &SessionKey, refuse: impl FnOnce(&Kept) -> Option<()>) {
        let mut fetches = self.fetches(key);
        fetches.remove(key);
        let _ = self.table.remove(key, Timestamp::default(), refuse);
        self.metrics.on_entries(|| self.table.len());
    }

    /// Removes the copy as [`forget`](Self::forget) does, and keeps the place for the next copy.
    fn vacate(&self, key: &SessionKey) {
        let mut fetches = self.fetches(key);
        fetches.remove(key);
        let vacate = |kept: &Kept| match kept {
            Kept::Copy { .. } => Ok(Kept::Vacant { bytes: kept.bytes() }),
            Kept::Vacant { .. } => Err(()),
        };
        let now = Timestamp::default();
        if self.table.update(key, now, vacate).is_err() {
            let _ = self.table.remove(key, now, |_| None::<()>);
        }
    }

    /// Removes the copies of sessions that this process is about to change, now and when the
    /// returned value is dropped. The second removal covers reads that stored the former session
    /// meanwhile. The cache does not wait for an invalidation instead, because the client may send
    /// the next request before the invalidation arrives.
    ///
    /// The places stay for the next copies, because sessions that change are used.
    pub fn changing<'c>(&'c self, keys: &'c [SessionKey]) -> Changing<'c> {
        Changing::begin(self, keys, Self::vacate)
    }

    /// Does the same as [`changing`](Self::changing) for sessions that this process is about to
    /// end, and gives up their places.
    pub fn ending<'c>(&'c self, keys: &'c [SessionKey]) -> Changing<'c> {
        Changing::begin(self, keys, Self::forget)
    }

    /// Invalidates all copies that were read over a connection.
    pub fn flush(&self, freshness: &ConnectionFreshness) {
        if freshness.flush() {
            self.counts.flushes.fetch_add(1, Ordering::Relaxed);
            self.metrics.on_flush();
        }
    }

    /// Invalidates all copies that were read over a connection, and all later ones.
    pub fn disconnect(&self, freshness: &ConnectionFreshness) {
        if freshness.end() {
            self.counts.flushes.fetch_add(1, Ordering::Relaxed);
            self.metrics.on_flush();
        }
    }

    /// Returns the statistics of the cache.
    #[must_use]
    pub fn stats(&self) -> crate::near_cache::NearCacheStats {
        crate::near_cache::NearCacheStats {
            hits: self.hits.iter().map(|count| count.0.load(Ordering::Relaxed)).sum(),
            misses: self.counts.misses.load(Ordering::Relaxed),
            invalidations: self.counts.invalidations.load(Ordering::Relaxed),
            flushes: self.counts.flushes.load(Ordering::Relaxed),
            entries: self.table.len() as u64,
            bytes: self.table.bytes(),
        }
    }

    /// Replaces the copy of a session. Returns `false`, and leaves no copy, if the new copy exceeds
    /// the capacity. The caller holds the lock of the key's share.
    fn put(&self, key: &SessionKey, kept: Kept) -> bool {
        // The table expects the time of sessions, which a read over the network does not know. Zero
        // is safe: a copy has no deadline, and the first use of the copy records the real time.
        let now = Timestamp::default();
        let mut kept = Some(kept);
        let replaced = self.table.update(key, now, |_| kept.take().ok_or(()));
        let is_kept = match (replaced, kept) {
            (Ok(_), Some(kept)) => matches!(self.table.insert(key, kept, now), Ok(true)),
            (Ok(_), None) => true,
            (Err(_), _) => {
                // The former copy is out of date, so the copy must not stay.
                let _ = self.table.remove(key, now, |_| None::<()>);
                false
            }
        };
        self.metrics.on_entries(|| self.table.len());
        is_kept
    }

    fn fetches(&self, key: &SessionKey) -> MutexGuard<'_, HashMap<SessionKey, u64>> {
        // A poisoned lock is safe to use: every change of the map is a single call.
        self.fetches[share(key)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for NearCopies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NearCopies")
            .field("staleness", &self.staleness)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// A read under way. If the value is dropped without `keep`, the reply is not kept.
#[derive(Debug)]
#[must_use]
pub struct Fetch<'c> {
    copies: &'c NearCopies,
    key: SessionKey,
    token: u64,
}

impl Fetch<'_> {
    /// Keeps the reply, unless the session has changed since the announcement. `mark` was taken
    /// from the connection when the read was sent. Returns `true` if the reply is kept.
    pub fn keep(self, entry: &Entry, mark: &ReadMark) -> bool {
        if !mark.holds() {
            return false;
        }
        let fetches = self.copies.fetches(&self.key);
        // If a joined read has ended, or a change has withdrawn the announcement, the token is
        // gone.
        let is_valid = fetches.get(&self.key) == Some(&self.token);
        if !is_valid {
            return false;
        }
        self.copies.put(&self.key, Kept::Copy { entry: entry.clone(), mark: mark.clone() })
    }
}

impl Drop for Fetch<'_> {
    fn drop(&mut self) {
        let mut fetches = self.copies.fetches(&self.key);
        if fetches.get(&self.key) == Some(&self.token) {
            fetches.remove(&self.key);
        }
    }
}

/// The sessions that this process is changing. The value is dropped when the change is complete or
/// abandoned.
#[derive(Debug)]
#[must_use]
pub struct Changing<'c> {
    copies: &'c NearCopies,
    keys: &'c [SessionKey],
    remove: fn(&NearCopies, &SessionKey),
}

impl<'c> Changing<'c> {
    fn begin(
        copies: &'c NearCopies,
        keys: &'c [SessionKey],
        remove: fn(&NearCopies, &SessionKey),
    ) -> Self {
        keys.iter().for_each(|key| remove(copies, key));
        Self { copies, keys, remove }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.keys.iter().for_each(|key| (self.remove)(self.copies, key));
    }
}

fn share(key: &SessionKey) -> usize {
    usize::from(key.as_bytes()[0]) % SHARES
}

/// The age at which a copy is read again, as a multiple of the staleness.
///
/// A proof of the connection is valid for a copy if the server sends its messages about all keys in
/// the order of its replies. Redis and Valkey do. A proxy in front of several servers, or a server
/// with several threads, may not. For such a server, this age is the bound.
const MAX_AGE: u32 = 8;

/// The number of locks and counters that the keys share.
const SHARES: usize = 64;

/// The bytes of a copy in addition to the entry: the slot, and the places in the hash table and in
/// moka.
const OVERHEAD: usize = 512;

#[cfg(test)]
mod tests;
