use std::{fmt, sync::Arc, time::Duration};

use session_core::{
    Committed, ConfigError, Created, Ended, Entry, Expected, LocalReads, SessionKey, SessionStore,
    StoreError, StoreErrorKind, Timestamp, Tombstone, Touched, Watched, Watchers, async_trait,
};

use crate::{
    index::Indexes,
    pace::Pace,
    session::{Listed, Session},
    table::{EvictingTable, Held as _, Removed, Updated},
};

/// Sessions in the memory of one process.
///
/// The sessions end with the process, and other processes do not see them. Clones are the same
/// store.
///
/// When the store is full, the sessions that were not used for the longest time are evicted. A new
/// session is refused, with an error of kind [`TooLarge`](session_core::StoreErrorKind::TooLarge),
/// only if it alone exceeds the capacity.
#[derive(Clone)]
pub struct MemoryStore {
    pub(crate) table: EvictingTable<Session>,
    pub(crate) indexes: Arc<Indexes>,
    watchers: Watchers,
}

impl MemoryStore {
    /// The default capacity: 256 MiB.
    pub const DEFAULT_CAPACITY: u64 = 256 * 1024 * 1024;

    /// The least capacity: 1 MiB.
    pub const MIN_CAPACITY: u64 = 1024 * 1024;

    /// Creates a store that holds at most this many bytes of sessions, bookkeeping included.
    ///
    /// The bound holds after each operation, but for sessions that other threads are adding just
    /// then.
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

    /// The bound of the store, in bytes.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.table.capacity()
    }

    /// The number of sessions in the store, with the expired ones that were not
    /// [removed](Self::remove_expired) yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns `true` if the store is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The bytes of all sessions in the store: the sum of what each takes, rounded up by at most a
    /// half.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.table.bytes()
    }

    /// The number of indexes, roughly: the sessions of some may have expired.
    #[must_use]
    pub fn approximate_indexes(&self) -> usize {
        self.indexes.len()
    }

    /// Removes some of the expired sessions, and returns zero if all are removed.
    ///
    /// Each operation of the store does so as well: only a store that is not in use needs this
    /// call. A call takes microseconds. To remove all, repeat the call until the result is zero.
    pub fn remove_expired(&self, now: Timestamp) -> usize {
        self.table.remove_expired(now)
    }

    fn sized(bytes: u64) -> Self {
        let indexes = Arc::new(Indexes::new());
        let watchers = Watchers::default();
        let (left, watching) = (Arc::clone(&indexes), watchers.clone());
        let table = EvictingTable::new(bytes, move |key, session: &Session| {
            for index in session.listed.indexes() {
                left.leave(index, session.entry.family(), *key);
            }
            watching.report_change(key);
        });
        Self { table, indexes, watchers }
    }

    /// Removes an expired session, unless another request has prolonged it meanwhile. A commit
    /// by a clock a little behind comes before this, and keeps the session, or is refused.
    fn sweep(&self, key: &SessionKey, now: Timestamp) {
        self.table.remove(key, now, |session| session.is_live(now).then_some(()));
    }

    /// Inserts an entry unless a live one is there.
    pub(crate) fn insert(
        &self,
        key: &SessionKey,
        entry: Entry,
        listed: Listed,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let is_inserted = self.table.insert(key, Session { entry, listed }, now)?;
        Ok(if is_inserted { Created::Created } else { Created::Exists })
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
            .field("capacity", &self.table.capacity())
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
        self.insert(key, entry, Listed::Nowhere, now)
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
        let updated = self.table.update(key, now, |present| match &present.entry {
            Entry::Session(record) if now < record.expires_at() && expected.is(record) => {
                Ok(Session { entry, listed: present.listed.clone() })
            }
            newer if newer.is_live(now) => Err(Committed::Conflict(newer.clone())),
            _ => Err(Committed::Gone),
        })?;
        Ok(match updated {
            Updated::Updated => {
                self.watchers.report_change(key);
                Committed::Committed
            }
            Updated::Refused(answer) => answer,
            Updated::Missing => Committed::Gone,
        })
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let updated = self.table.update(key, now, |present| match &present.entry {
            Entry::Session(record) if now < record.expires_at() => {
                let seen = Entry::Session(Arc::new(record.seen(now)));
                Ok(Session { entry: seen, listed: present.listed.clone() })
            }
            _ => Err(()),
        })?;
        Ok(if updated == Updated::Updated { Touched::Touched } else { Touched::Gone })
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let removed = self.table.remove(key, now, |present| match &present.entry {
            moved @ Entry::Tombstone(_) => Some(moved.clone()),
            Entry::Session(_) => None,
        });
        let entry = match removed {
            Removed::Removed(Session { entry, .. }) | Removed::Refused(entry) => entry,
            Removed::Missing => return Ok(None),
        };
        Ok(Some(entry).filter(|entry| entry.is_live(now)))
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut loaded = Vec::with_capacity(keys.len());
        let mut pace = Pace::default();
        for key in keys {
            pace.step().await;
            loaded.push(self.load(key, now).await);
        }
        Ok(loaded)
    }

    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = Entry::Tombstone(Arc::new(marker));
        let mut ended = Vec::with_capacity(keys.len());
        let mut failure = None;
        let mut pace = Pace::default();
        for key in keys {
            pace.step().await;
            match self.delete_or_block_key(key, &marker, now) {
                Ok(answer) => ended.push(answer),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(ended), Err)
    }

    fn local_reads(&self) -> Option<&dyn LocalReads> {
        Some(self)
    }

    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        let watch = Some(self.watchers.watch(key));
        Ok(Watched { entry: self.load(key, now).await?, watch })
    }
}

impl MemoryStore {
    fn delete_or_block_key(
        &self,
        key: &SessionKey,
        marker: &Entry,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        for _ in 0..MAX_RACES {
            let removed = self.table.remove(key, now, |present| match &present.entry {
                Entry::Tombstone(tombstone) if present.is_live(now) => Some(Arc::clone(tombstone)),
                _ => None,
            });
            match removed {
                Removed::Refused(tombstone) => return Ok(Ended::Tombstone(tombstone)),
                Removed::Removed(session) if session.is_live(now) => {
                    let record = match session.entry {
                        Entry::Session(record) => Some(record),
                        Entry::Tombstone(_) => None,
                    };
                    return Ok(Ended::Session(record));
                }
                Removed::Removed(_) | Removed::Missing => {}
            }
            // If a session was created in between, that session is to be ended.
            if self.insert(key, marker.clone(), Listed::Nowhere, now)? == Created::Created {
                return Ok(Ended::Blocked);
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable)
            .with_source("other requests create and delete the session all the time"))
    }
}

/// Local reads are never stale, as all sessions are here.
impl LocalReads for MemoryStore {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        // An expired session is not used: requests with a dead cookie must not keep it in memory.
        let look = |session: &Session| session.is_live(now).then(|| session.entry.clone());
        self.table.find(key, now, look)
    }
}

/// The number of times another request may be faster at one key. Two are rare.
const MAX_RACES: usize = 16;

#[cfg(test)]
mod tests {
    use session_core::{CookieChange, Key, ManualClock, SessionError, SessionId, Sessions};

    use super::*;

    const TEXT: Key<String> = Key::new("text");

    /// Creates a session, and sets the clock to the last millisecond before the session expires.
    async fn in_the_last_millisecond(store: &MemoryStore) -> (SessionId, Sessions, Timestamp) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions =
            Sessions::builder(store.clone()).with_clock(Arc::clone(&clock)).build().unwrap();
        let session = sessions.open([]).await.unwrap();
        session.set(TEXT, "first".to_owned()).unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
        clock.advance(Duration::from_secs(3600) - Duration::from_millis(1));
        (id, sessions, Timestamp::from_millis(1_000_000) + Duration::from_secs(3600))
    }

    /// A commit that was acknowledged, by a clock a little behind, stays (I6), although another
    /// request had found the session expired and sweeps after the commit.
    #[tokio::test]
    async fn sweep_leaves_a_session_committed_meanwhile() {
        let store = MemoryStore::default();
        let (id, sessions, expired) = in_the_last_millisecond(&store).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, "acknowledged".to_owned()).unwrap();
        let _ = session.finish().await.unwrap();
        store.sweep(&id.key(), expired);
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        assert_eq!(session.get(TEXT).as_deref(), Some("acknowledged"));
    }

    #[tokio::test]
    async fn sessions_that_left_are_not_found() {
        let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
        let sessions = Sessions::new(store.clone());
        let mut ids = Vec::new();
        for number in 0..5_000_u64 {
            let session = sessions.open([]).await.unwrap();
            session.authenticate(number).unwrap();
            let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            session.set(TEXT, "x".repeat(500)).unwrap();
            let _ = session.finish().await.unwrap();
            ids.push(id);
        }
        let left = store.len();
        assert!((100..1_500).contains(&left), "{left}");
        let mut found = 0;
        for id in &ids {
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            found += usize::from(session.key().is_some());
            session.destroy().unwrap();
            let _ = session.finish().await.unwrap();
        }
        assert_eq!(found, left);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[tokio::test]
    async fn used_session_stays_while_others_come_and_go() {
        let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions =
            Sessions::builder(store.clone()).with_clock(Arc::clone(&clock)).build().unwrap();
        let begin = async || {
            let session = sessions.open([]).await.unwrap();
            session.set(TEXT, "x".repeat(4_000)).unwrap();
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
        }
        assert!(!is_there(&unused).await);
    }

    #[tokio::test]
    async fn commit_after_a_sweep_is_refused() {
        let store = MemoryStore::default();
        let (id, sessions, expired) = in_the_last_millisecond(&store).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, "late".to_owned()).unwrap();
        store.sweep(&id.key(), expired);
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    }
}
