//! Copies of sessions that this process has read, and what decides whether one may still be used.
//!
//! There is no I/O in here, and no clock: the store and the simulation of the integration tests drive it alike.

use std::{
    collections::HashMap,
    fmt, slice,
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

/// The copies, each of them as its session was on the server until the server says otherwise.
///
/// A read that may be kept is announced before it is sent ([`fetch`](Self::fetch)); the announcement is withdrawn
/// by whatever changes the session, and an answer without one is not kept. So an answer that an invalidation has
/// overtaken, on its way through this process, is used by the request that asked and by no other.
pub struct NearCopies {
    staleness: Duration,
    table: EvictingTable<Kept>,
    /// The announcements, one for all reads of a key until the first of them ends. What changes a key's copy holds
    /// the lock of its share, so that looking for the announcement and keeping the answer are one step.
    fetches: Box<[Mutex<HashMap<SessionKey, u64>>]>,
    tokens: AtomicU64,
    /// How often something was found, by share, as that is counted on every processor with every request.
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

/// A count that has its cache lines to itself.
#[derive(Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// A copy.
struct Kept {
    entry: Entry,
    mark: ReadMark,
}

impl Held for Kept {
    fn bytes(&self) -> usize {
        self.entry.memory_bytes() + OVERHEAD
    }

    /// Returns `None`: the copy of an expired session is not used, and is evicted in its turn.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }
}

/// A copy that may be used.
#[derive(Debug)]
pub struct Found {
    /// What was read.
    pub entry: Entry,
    /// It is time to hear from the server again, and this is whose turn it is: a read of the same key does.
    pub wants_proof: bool,
}

impl NearCopies {
    /// Makes room for copies of so many bytes, each to be used only while its connection has
    /// [proved](ConnectionFreshness::prove) within the time of `staleness` that nothing is outstanding.
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

    /// How old what is found may be.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        self.staleness
    }

    /// Looks for a copy that may be used at this instant, in the session's time `now`.
    #[must_use]
    pub fn find(&self, key: &SessionKey, at: Instant, now: Timestamp) -> Option<Found> {
        let found = self.table.find(key, now, |kept| self.usable(kept, at, now));
        let count = if found.is_some() { &self.hits[share(key)].0 } else { &self.counts.misses };
        count.fetch_add(1, Ordering::Relaxed);
        self.metrics.on_find(found.is_some());
        found
    }

    /// Runs under the lock of the copy. An invalidation of the copy waits for that lock, and the
    /// connection proves nothing later before the invalidation is done: the proof is about this copy.
    fn usable(&self, kept: &Kept, at: Instant, now: Timestamp) -> Option<Found> {
        let freshness = kept.mark.freshness();
        let (proof_age, age) = (freshness.proof_age(at), kept.mark.age(at));
        let is_too_old = proof_age > self.staleness || age > self.staleness * MAX_AGE;
        if is_too_old || !kept.mark.holds() || !kept.entry.is_live(now) {
            return None;
        }
        let wants_proof =
            proof_age > self.staleness / 2 && freshness.begin_proof(at, self.staleness / 8);
        Some(Found { entry: kept.entry.clone(), wants_proof })
    }

    /// Announces a read whose answer may be kept, before it is sent.
    pub fn fetch(&self, key: &SessionKey) -> Fetch<'_> {
        // It joins the one that stands: nothing was changed since, or it would have been withdrawn.
        let token = *self
            .fetches(key)
            .entry(*key)
            .or_insert_with(|| self.tokens.fetch_add(1, Ordering::Relaxed));
        Fetch { copies: self, key: *key, token }
    }

    /// As [`forget`](Self::forget), of a session that the server says was changed.
    pub fn invalidate(&self, key: &SessionKey) {
        self.counts.invalidations.fetch_add(1, Ordering::Relaxed);
        self.metrics.on_invalidation();
        self.forget(key);
    }

    /// Removes the copy of a session, and keeps no answer that is under way.
    pub fn forget(&self, key: &SessionKey) {
        let mut fetches = self.fetches(key);
        fetches.remove(key);
        let _ = self.table.remove(key, Timestamp::default(), |_| None::<()>);
        self.metrics.on_entries(|| self.table.len());
    }

    /// Removes the copies of sessions that this process changes: now, and when it has done so. The server's word
    /// comes after its answer, and the client may be faster.
    pub fn changing<'c>(&'c self, keys: &'c [SessionKey]) -> Changing<'c> {
        let changing = Changing { copies: self, keys };
        changing.remove();
        changing
    }

    /// As [`changing`](Self::changing), of one session.
    pub fn changing_one<'c>(&'c self, key: &'c SessionKey) -> Changing<'c> {
        self.changing(slice::from_ref(key))
    }

    /// Gives up all that was read over a connection.
    pub fn flush(&self, freshness: &ConnectionFreshness) {
        if freshness.flush() {
            self.counts.flushes.fetch_add(1, Ordering::Relaxed);
            self.metrics.on_flush();
        }
    }

    /// Gives up all that was read over a connection, and all that will be.
    pub fn disconnect(&self, freshness: &ConnectionFreshness) {
        if freshness.end() {
            self.counts.flushes.fetch_add(1, Ordering::Relaxed);
            self.metrics.on_flush();
        }
    }

    /// What became of the copies so far.
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

    /// Replaces the copy of a session, and returns `true` unless the new one exceeds the capacity. The
    /// caller holds the lock of the key's share.
    fn put(&self, key: &SessionKey, kept: Kept) -> bool {
        // The time is that of sessions, which a read over the network does not know. A copy has no
        // deadline, and its first use is recorded.
        let now = Timestamp::default();
        let mut kept = Some(kept);
        let replaced = self.table.update(key, now, |_| kept.take().ok_or(()));
        let is_kept = match (replaced, kept) {
            (Ok(_), Some(kept)) => matches!(self.table.insert(key, kept, now), Ok(true)),
            (Ok(_), None) => true,
            (Err(_), _) => {
                // The former copy is out of date.
                let _ = self.table.remove(key, now, |_| None::<()>);
                false
            }
        };
        self.metrics.on_entries(|| self.table.len());
        is_kept
    }

    fn fetches(&self, key: &SessionKey) -> MutexGuard<'_, HashMap<SessionKey, u64>> {
        // Every change is one call.
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

/// A read under way. Dropped, it is one whose answer is not kept.
#[derive(Debug)]
#[must_use]
pub struct Fetch<'c> {
    copies: &'c NearCopies,
    key: SessionKey,
    token: u64,
}

impl Fetch<'_> {
    /// Keeps the answer, given what the connection was when the read was sent over it, unless the session was
    /// changed since the read was announced. Tells whether it is kept.
    pub fn keep(self, entry: &Entry, mark: &ReadMark) -> bool {
        if !mark.holds() {
            return false;
        }
        let fetches = self.copies.fetches(&self.key);
        // One that joined it has ended it, or it was withdrawn.
        let is_valid = fetches.get(&self.key) == Some(&self.token);
        is_valid && self.copies.put(&self.key, Kept { entry: entry.clone(), mark: mark.clone() })
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

/// Sessions that this process is about to change. Dropped when that is done, or given up.
#[derive(Debug)]
#[must_use]
pub struct Changing<'c> {
    copies: &'c NearCopies,
    keys: &'c [SessionKey],
}

impl Changing<'_> {
    fn remove(&self) {
        self.keys.iter().for_each(|key| self.copies.forget(key));
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

fn share(key: &SessionKey) -> usize {
    usize::from(key.as_bytes()[0]) % SHARES
}

/// The age at which a copy is read again, as a multiple of the staleness.
///
/// A proof of the connection counts for a copy if the server sends its messages about all keys in the
/// order of its answers. Redis and Valkey do; a proxy in front of several servers, or a server with
/// several threads, may not. With such a server, this age is the bound.
const MAX_AGE: u32 = 8;

/// How many locks and counts the keys share.
const SHARES: usize = 64;

/// The bytes that a copy takes besides its entry: its slot, and its places in the hash table and
/// in moka.
const OVERHEAD: usize = 512;

#[cfg(test)]
mod tests;
