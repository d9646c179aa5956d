use std::{fmt, sync::Arc};

use async_trait::async_trait;
use moka::{notification::RemovalCause, ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use session_core::{
    Committed, ConfigError, Created, Entry, Expected, OwnerKey, SessionKey, SessionStore,
    StoreError, Timestamp, Touched,
};

use crate::{expiry::KeepWhileAlive, hasher::KeyHasher, owners::Owners, slot::Slot};

/// Sessions in the memory of one process.
///
/// They end with the process, and other processes do not see them. Clones are the same store.
///
/// When the store is full, the sessions that were not used for the longest time are evicted; a new one
/// is never refused.
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) slots: Cache<SessionKey, Arc<Slot>, KeyHasher>,
    pub(crate) owners: Arc<Owners>,
}

impl MemoryStore {
    /// How many bytes of sessions a store holds if nothing else is said: 256 MiB.
    pub const DEFAULT_CAPACITY: u64 = 256 * 1024 * 1024;

    /// The least capacity, in bytes: 1 MiB.
    pub const MIN_CAPACITY: u64 = 1024 * 1024;

    /// Makes a store that holds at most this many bytes of sessions, bookkeeping included.
    ///
    /// The bound holds on average over short times: what exceeds it is evicted a moment later.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the capacity is less than [`MIN_CAPACITY`](Self::MIN_CAPACITY).
    pub fn with_capacity(bytes: u64) -> Result<Self, ConfigError> {
        if bytes < Self::MIN_CAPACITY {
            return Err(ConfigError::new(format!(
                "a memory store of {bytes} bytes is smaller than {} bytes",
                Self::MIN_CAPACITY
            )));
        }
        Ok(Self::sized(bytes))
    }

    /// How many sessions the store holds, roughly: some may have expired, or be about to be evicted.
    #[must_use]
    pub fn approximate_len(&self) -> u64 {
        self.slots.entry_count()
    }

    /// How many bytes the sessions take, roughly.
    #[must_use]
    pub fn approximate_bytes(&self) -> u64 {
        self.slots.weighted_size()
    }

    /// How many owners have sessions in the store, roughly: those of some may have expired.
    #[must_use]
    pub fn approximate_owners(&self) -> usize {
        self.owners.len()
    }

    /// Removes now what has expired or is to be evicted, which otherwise happens by and by as the store
    /// is used.
    pub fn run_pending_tasks(&self) {
        self.slots.run_pending_tasks();
    }

    fn sized(bytes: u64) -> Self {
        let owners = Arc::new(Owners::new());
        let index = Arc::clone(&owners);
        let slots = Cache::builder()
            .name("sessions")
            .max_capacity(bytes)
            .weigher(|_, slot: &Arc<Slot>| slot.weight())
            // The default policy may refuse a new entry in favour of those that were used often: a
            // login that does not take.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(KeepWhileAlive)
            .eviction_listener(move |key, slot: Arc<Slot>, cause| {
                if let Some(owner) = slot.owner().filter(|_| cause != RemovalCause::Replaced) {
                    // The cache does not know the time by which the others are judged.
                    index.leave(owner, &[*key], Timestamp::default());
                }
            })
            .build_with_hasher(KeyHasher::default());
        Self { slots, owners }
    }

    /// Puts an entry where none is.
    pub(crate) fn insert(
        &self,
        key: &SessionKey,
        entry: Entry,
        owner: Option<OwnerKey>,
        now: Timestamp,
    ) -> Created {
        let mut answer = Created::Exists;
        self.slots.entry_by_ref(key).and_compute_with(|present| {
            if present.is_some_and(|present| !present.value().is_dead(now)) {
                return Op::Nop;
            }
            answer = Created::Created;
            Op::Put(Arc::new(Slot::new(entry, owner, now)))
        });
        answer
    }

    /// Removes a slot whose session has expired, unless it lives on by then.
    fn sweep(&self, key: &SessionKey, now: Timestamp) {
        self.slots.entry_by_ref(key).and_compute_with(|present| match present {
            Some(present) if present.value().is_dead(now) => Op::Remove,
            _ => Op::Nop,
        });
    }

    /// Tells the cache what changed about a slot.
    fn tell_cache(&self, key: &SessionKey, slot: &Arc<Slot>, lifetime: bool, weight: bool) {
        if weight {
            // Only in its own place: what was evicted or deleted meanwhile stays away (I2).
            self.slots.entry_by_ref(key).and_compute_with(|present| match present {
                Some(present) if Arc::ptr_eq(present.value(), slot) => Op::Put(Arc::clone(slot)),
                _ => Op::Nop,
            });
        } else if lifetime {
            // A read makes the cache ask anew how long to keep the slot.
            drop(self.slots.get(key));
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::sized(Self::DEFAULT_CAPACITY)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("capacity", &self.slots.policy().max_capacity())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        Ok(self.insert(key, entry, None, now))
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(None);
        };
        let entry = slot.lock().clone();
        if entry.as_ref().is_some_and(|entry| entry.is_live(now)) {
            return Ok(entry);
        }
        // Reading it must not keep it: a client may ask with a dead cookie for ever.
        self.sweep(key, now);
        Ok(None)
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(Committed::Gone);
        };
        let (lifetime, weight) = {
            let mut present = slot.lock();
            match &*present {
                Some(Entry::Live(record)) if now < record.expires_at() && expected.is(record) => {}
                Some(newer) if newer.is_live(now) => return Ok(Committed::Conflict(newer.clone())),
                Some(_) | None => return Ok(Committed::Gone),
            }
            let changed = (slot.note_lifetime(&entry, now), slot.note_weight(&entry));
            *present = Some(entry);
            changed
        };
        self.tell_cache(key, &slot, lifetime, weight);
        Ok(Committed::Committed)
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(Touched::Gone);
        };
        let lifetime = {
            let mut present = slot.lock();
            let seen = match &*present {
                Some(Entry::Live(record)) if now < record.expires_at() => {
                    Entry::Live(Arc::new(record.seen(now)))
                }
                Some(_) | None => return Ok(Touched::Gone),
            };
            let changed = slot.note_lifetime(&seen, now);
            *present = Some(seen);
            changed
        };
        self.tell_cache(key, &slot, lifetime, false);
        Ok(Touched::Touched)
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let mut told = None;
        self.slots.entry_by_ref(key).and_compute_with(|present| match present {
            Some(present) => {
                let mut entry = present.value().lock();
                if let Some(Entry::Moved(tombstone)) = &*entry {
                    told = Some(Entry::Moved(Arc::clone(tombstone)));
                    return Op::Nop;
                }
                told = entry.take();
                Op::Remove
            }
            None => Op::Nop,
        });
        Ok(told.filter(|entry| entry.is_live(now)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use session_core::{CookieChange, Key, ManualClock, SessionError, SessionId, Sessions};

    use super::*;

    const TEXT: Key<String> = Key::new("text");

    /// A new session, and its sessions by a clock that stands in its last millisecond.
    async fn in_the_last_millisecond(store: &MemoryStore) -> (SessionId, Arc<Sessions>, Timestamp) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions = Sessions::new(store.clone()).with_clock(Arc::clone(&clock));
        let sessions = Arc::new(sessions);
        let session = sessions.open([]).await.unwrap();
        session.set(TEXT, &"first".to_owned()).unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
        clock.advance(Duration::from_secs(3600) - Duration::from_millis(1));
        (id, sessions, Timestamp::from_millis(1_000_000) + Duration::from_secs(3600))
    }

    /// What a request by a clock a little behind was told is stored stays stored (I6), although another
    /// request found the session expired before that, and sweeps after.
    #[tokio::test]
    async fn a_sweep_leaves_what_was_committed_meanwhile() {
        let store = MemoryStore::default();
        let (id, sessions, expired) = in_the_last_millisecond(&store).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, &"acknowledged".to_owned()).unwrap();
        let _ = session.finish().await.unwrap();
        store.sweep(&id.key(), expired);
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        assert_eq!(session.get(TEXT).as_deref(), Some("acknowledged"));
    }

    /// And what comes after the sweep is refused, also on a slot that was looked up before.
    #[tokio::test]
    async fn a_swept_slot_is_dead_for_who_still_holds_it() {
        let store = MemoryStore::default();
        let (id, sessions, expired) = in_the_last_millisecond(&store).await;
        let slot = store.slots.get(&id.key()).unwrap();
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, &"late".to_owned()).unwrap();
        store.sweep(&id.key(), expired);
        assert!(slot.lock().is_none());
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    }
}
