use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};
use papaya::HashMap;
use session_core::{SessionKey, Timestamp};

use super::Kept;

/// Where copies are: a table in which they are found, and a cache that decides which of them stay.
///
/// A look-up in the cache passes through a queue that all reads of all threads share. So the cache is told of a copy's
/// use once in a while. Whatever is in the cache is in the table: it comes into the table first, and leaves it when the
/// cache says that it has let it go.
pub(super) struct Shelf {
    table: Arc<HashMap<SessionKey, Arc<Kept>>>,
    cache: Cache<SessionKey, Arc<Kept>>,
}

impl Shelf {
    pub(super) fn new(capacity: u64) -> Self {
        let table = Arc::new(HashMap::new());
        let found_in = Arc::clone(&table);
        let cache = Cache::builder()
            .name("copies of sessions")
            .max_capacity(capacity)
            .weigher(|_, kept: &Arc<Kept>| {
                u32::try_from(kept.entry.memory_bytes() + OVERHEAD).unwrap_or(u32::MAX)
            })
            // A session that was just read is the one that is asked for next.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |key: Arc<SessionKey>, kept: Arc<Kept>, cause| {
                // Whoever holds it, and is slow, must not use it after it could no longer be forgotten.
                kept.mark_gone();
                if cause != RemovalCause::Replaced {
                    let _ = found_in.pin().remove_if(&*key, |_, found| Arc::ptr_eq(found, &kept));
                }
            })
            .build();
        Self { table, cache }
    }

    /// Looks at a copy, if there is one.
    pub(super) fn with<R>(
        &self,
        key: &SessionKey,
        look: impl FnOnce(&Arc<Kept>) -> R,
    ) -> Option<R> {
        self.table.pin().get(key).map(look)
    }

    /// Notes that a copy was used. The cache need not know of each use to keep what is used.
    pub(super) fn note_use(&self, key: &SessionKey, last_told: &LastTold, now: Timestamp) {
        if last_told.claim(now) {
            drop(self.cache.get(key));
        }
    }

    /// Puts a copy in the place of another. Not at the same time as [`take`](Self::take) of the same key.
    pub(super) fn put(&self, key: SessionKey, kept: Arc<Kept>) {
        self.table.pin().insert(key, Arc::clone(&kept));
        self.cache.insert(key, kept);
    }

    /// Takes a copy away.
    pub(super) fn take(&self, key: &SessionKey) {
        if let Some(taken) = self.table.pin().remove(key) {
            taken.mark_gone();
            self.cache.invalidate(key);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.cache.entry_count()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.cache.weighted_size()
    }

    #[cfg(test)]
    pub(super) fn run_pending_tasks(&self) {
        self.cache.run_pending_tasks();
    }

    /// How many copies are found.
    #[cfg(test)]
    pub(super) fn found(&self) -> usize {
        self.table.len()
    }
}

/// When the cache was last told of a copy's use, in milliseconds.
#[derive(Default)]
pub(super) struct LastTold(AtomicU64);

impl LastTold {
    /// Tells whether that is a second ago. Whoever hears so tells it.
    fn claim(&self, now: Timestamp) -> bool {
        let now_ms = now.as_millis();
        // A clock that was set back is no reason to be silent for as long.
        let is_while = now_ms.abs_diff(self.0.load(Ordering::Relaxed)) >= 1_000;
        if is_while {
            self.0.store(now_ms, Ordering::Relaxed);
        }
        is_while
    }
}

/// What a copy takes besides its entry, in the table, the cache and around it, in bytes.
const OVERHEAD: usize = 320;
