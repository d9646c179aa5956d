use std::{fmt, ptr, sync::Arc, time::Duration};

use async_trait::async_trait;
use session_core::{
    Committed, ConfigError, Created, Ended, Entry, Expected, LocalReads, OwnerKey, SessionKey,
    SessionStore, StoreError, Timestamp, Tombstone, Touched,
};

use crate::{
    owners::Owners,
    slot::Slot,
    slots::{Next, Slots},
};

/// Sessions in the memory of one process.
///
/// They end with the process, and other processes do not see them. Clones are the same store.
///
/// When the store is full, the sessions that were not used for the longest time are evicted; a new one
/// is never refused.
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) slots: Slots,
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
        self.slots.approximate_len()
    }

    /// How many bytes the sessions take, roughly.
    #[must_use]
    pub fn approximate_bytes(&self) -> u64 {
        self.slots.approximate_bytes()
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
        let slots = Slots::new(bytes, move |key, terms| {
            if let Some(owner) = terms.owner() {
                index.leave_key(owner, key);
            }
        });
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
        self.slots.change(key, |present| {
            if present.is_some_and(|present| !present.is_dead(now)) {
                return Next::Stay;
            }
            answer = Created::Created;
            Next::Put(Slot::new(entry, owner, now))
        });
        answer
    }

    /// Removes a slot whose session has expired, unless it lives on by then.
    fn sweep(&self, key: &SessionKey, now: Timestamp) {
        if self.slots.with(key, |_| ()).is_none() {
            return;
        }
        self.slots.change(key, |present| match present {
            Some(present) if present.is_dead(now) => Next::Leave,
            _ => Next::Stay,
        });
    }

    /// Tells the cache what changed about a slot whose session was used.
    fn tell_cache(&self, key: &SessionKey, slot: &Slot, changed: &Changed, now: Timestamp) {
        if changed.weight {
            // Only in its own place: what was evicted or deleted meanwhile stays away (I2).
            self.slots.change(key, |present| match present {
                Some(present) if ptr::eq(present, slot) && slot.lock().is_some() => Next::Weigh,
                _ => Next::Stay,
            });
        } else if changed.lifetime {
            self.slots.consult(key);
        } else {
            self.slots.note_use(key, slot, now);
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
            .field("capacity", &self.slots.capacity())
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
        let found = self.find(key, now);
        if found.is_none() {
            self.sweep(key, now);
        }
        Ok(found)
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let committed = self.slots.with(key, |slot| {
            let changed = {
                let mut present = slot.lock();
                match &*present {
                    Some(Entry::Live(record))
                        if now < record.expires_at() && expected.is(record) => {}
                    Some(newer) if newer.is_live(now) => return Committed::Conflict(newer.clone()),
                    Some(_) | None => return Committed::Gone,
                }
                let lifetime = slot.terms().note_lifetime(&entry, now);
                let weight = slot.terms().note_weight(&entry);
                *present = Some(entry);
                Changed { lifetime, weight }
            };
            self.tell_cache(key, slot, &changed, now);
            Committed::Committed
        });
        Ok(committed.unwrap_or(Committed::Gone))
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let touched = self.slots.with(key, |slot| {
            let changed = {
                let mut present = slot.lock();
                let seen = match &*present {
                    Some(Entry::Live(record)) if now < record.expires_at() => {
                        Entry::Live(Arc::new(record.seen(now)))
                    }
                    Some(_) | None => return Touched::Gone,
                };
                let lifetime = slot.terms().note_lifetime(&seen, now);
                *present = Some(seen);
                Changed { lifetime, weight: false }
            };
            self.tell_cache(key, slot, &changed, now);
            Touched::Touched
        });
        Ok(touched.unwrap_or(Touched::Gone))
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let mut told = None;
        self.slots.change(key, |present| {
            let Some(present) = present else { return Next::Stay };
            let mut entry = present.lock();
            if let Some(Entry::Moved(tombstone)) = &*entry {
                told = Some(Entry::Moved(Arc::clone(tombstone)));
                return Next::Stay;
            }
            told = entry.take();
            Next::Leave
        });
        Ok(told.filter(|entry| entry.is_live(now)))
    }

    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = Entry::Moved(Arc::new(marker));
        Ok(keys.iter().map(|key| self.delete_or_block_key(key, &marker, now)).collect())
    }

    fn local_reads(&self) -> Option<&dyn LocalReads> {
        Some(self)
    }
}

impl MemoryStore {
    fn delete_or_block_key(&self, key: &SessionKey, marker: &Entry, now: Timestamp) -> Ended {
        let mut answer = Ended::Blocked;
        self.slots.change(key, |present| {
            if let Some(present) = present {
                let mut entry = present.lock();
                match entry.take_if(|entry| !entry.is_live(now) || matches!(entry, Entry::Live(_)))
                {
                    Some(entry) if entry.is_live(now) => {
                        answer = Ended::Session;
                        return Next::Leave;
                    }
                    Some(_) => {}
                    None => {
                        if let Some(Entry::Moved(tombstone)) = &*entry {
                            answer = Ended::Moved(Arc::clone(tombstone));
                            return Next::Stay;
                        }
                    }
                }
            }
            Next::Put(Slot::new(marker.clone(), None, now))
        });
        answer
    }
}

/// All sessions are here, so that a local read is never stale.
impl LocalReads for MemoryStore {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let look = |slot: &Slot| {
            let entry = slot.lock().clone().filter(|entry| entry.is_live(now))?;
            // Only of what lives: a client may ask with a dead cookie for ever, which must not keep it.
            self.slots.note_use(key, slot, now);
            Some(entry)
        };
        self.slots.with(key, look).flatten()
    }
}

/// What the cache must learn of a change.
struct Changed {
    lifetime: bool,
    weight: bool,
}

#[cfg(test)]
mod tests {
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

    /// Whatever way sessions leave, the table that they are found in has no more of them than the cache.
    #[tokio::test]
    async fn what_has_left_is_not_found_either() {
        let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
        let sessions = Arc::new(Sessions::new(store.clone()));
        let mut ids = Vec::new();
        for number in 0..5_000_u64 {
            let session = sessions.open([]).await.unwrap();
            session.authenticate(number).unwrap();
            let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            session.set(TEXT, &"x".repeat(500)).unwrap();
            let _ = session.finish().await.unwrap();
            ids.push(id);
        }
        store.run_pending_tasks();
        let left = store.approximate_len();
        assert!((100..1_500).contains(&left), "{left}");
        assert_eq!(store.slots.found() as u64, left);
        for id in &ids {
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            session.destroy().unwrap();
            let _ = session.finish().await.unwrap();
        }
        store.run_pending_tasks();
        assert_eq!((store.slots.found(), store.approximate_len()), (0, 0));
    }

    #[tokio::test]
    async fn a_session_that_is_used_stays_while_others_come_and_go() {
        let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions = Arc::new(Sessions::new(store.clone()).with_clock(Arc::clone(&clock)));
        let begin = async || {
            let session = sessions.open([]).await.unwrap();
            session.set(TEXT, &"x".repeat(4_000)).unwrap();
            let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
            id
        };
        let (used, unused) = (begin().await, begin().await);
        let is_there = async |id: &SessionId| {
            sessions.open([id.expose().as_bytes()]).await.unwrap().key().is_some()
        };
        for _ in 0..100 {
            for _ in 0..20 {
                begin().await;
            }
            clock.advance(Duration::from_secs(1));
            assert!(is_there(&used).await);
            store.run_pending_tasks();
        }
        assert!(!is_there(&unused).await);
    }

    /// And what comes after the sweep is refused, also on a slot that was looked up before.
    #[tokio::test]
    async fn a_swept_slot_is_dead_for_who_still_holds_it() {
        let store = MemoryStore::default();
        let (id, sessions, expired) = in_the_last_millisecond(&store).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, &"late".to_owned()).unwrap();
        let looked_up = store.slots.with(&id.key(), |slot| {
            assert!(slot.lock().is_some());
            store.sweep(&id.key(), expired);
            assert!(slot.lock().is_none());
        });
        assert!(looked_up.is_some());
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    }
}
