use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use session_core::{
    Committed, Created, Entry, Expected, Family, IndexEntry, IndexKey, SessionIndex, SessionKey,
    SessionStore, StoreError, Timestamp, Touched,
};

/// A store of sessions in a map, for as long as the program runs.
#[derive(Default)]
pub(crate) struct MapStore {
    entries: Mutex<HashMap<SessionKey, Entry>>,
    indexes: Mutex<HashMap<IndexKey, Index>>,
}

type Index = HashMap<(SessionKey, Family), Timestamp>;

impl MapStore {
    /// Locks the map, and removes the entry under the key if it has expired.
    ///
    /// Each verb is atomic, because it holds the lock from its first read to its last change.
    fn locked(
        &self,
        key: &SessionKey,
        now: Timestamp,
    ) -> MutexGuard<'_, HashMap<SessionKey, Entry>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.get(key).is_some_and(|entry| !entry.is_live(now)) {
            entries.remove(key);
        }
        entries
    }

    /// Runs `act` on an index, after removing the entries whose deadline has passed.
    fn with_index<R>(
        &self,
        index: &IndexKey,
        now: Timestamp,
        act: impl FnOnce(&mut Index) -> R,
    ) -> R {
        let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = indexes.entry(*index).or_default();
        entries.retain(|_, until| *until > now);
        let answer = act(entries);
        if entries.is_empty() {
            indexes.remove(index);
        }
        answer
    }
}

#[session_core::async_trait]
impl SessionStore for MapStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let mut entries = self.locked(key, now);
        if entries.contains_key(key) {
            return Ok(Created::Exists);
        }
        entries.insert(*key, entry);
        Ok(Created::Created)
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        Ok(self.locked(key, now).get(key).cloned())
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let mut entries = self.locked(key, now);
        let Some(stored) = entries.get_mut(key) else {
            return Ok(Committed::Gone);
        };
        match stored {
            Entry::Session(record) if expected.is(record) => {
                *stored = entry;
                Ok(Committed::Committed)
            }
            // The session is at another revision, or a tombstone, which every commit leaves in
            // place.
            _ => Ok(Committed::Conflict(stored.clone())),
        }
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        match self.locked(key, now).get_mut(key) {
            Some(Entry::Session(record)) => {
                *record = Arc::new(record.seen(now));
                Ok(Touched::Touched)
            }
            Some(Entry::Tombstone(_)) | None => Ok(Touched::Gone),
        }
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let mut entries = self.locked(key, now);
        Ok(match entries.get(key) {
            // A tombstone stays, so a repeated delete finds the session's new key again.
            Some(Entry::Tombstone(tombstone)) => Some(Entry::Tombstone(Arc::clone(tombstone))),
            _ => entries.remove(key),
        })
    }
}

#[session_core::async_trait]
impl SessionIndex for MapStore {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with_index(index, now, |entries| {
            let until = entries.entry((entry.key, entry.family)).or_insert(entry.until);
            *until = entry.until.max(*until);
        });
        Ok(())
    }

    async fn leave(
        &self,
        index: &IndexKey,
        gone: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with_index(index, now, |entries| {
            for entry in gone {
                entries.remove(&(entry.key, entry.family));
            }
        });
        Ok(())
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        Ok(self.with_index(index, now, |entries| {
            let entry = |(&(key, family), &until)| IndexEntry::new(key, family, until);
            entries.iter().map(entry).collect()
        }))
    }
}

impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStore").finish_non_exhaustive()
    }
}
