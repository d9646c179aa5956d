use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use session_core::{
    Committed, Created, Entry, Revision, SessionKey, SessionStore, StoreError, Timestamp, Touched,
};

/// Keeps sessions in a map, for as long as the program runs.
#[derive(Default)]
pub(crate) struct MapStore {
    entries: Mutex<HashMap<SessionKey, Entry>>,
}

impl MapStore {
    /// Locks the map, without what has expired under the key: that counts as missing.
    ///
    /// Each verb holds the lock from its first look to its last change. That makes it atomic.
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
}

#[async_trait::async_trait]
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
        expected: Revision,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let mut entries = self.locked(key, now);
        let Some(stored) = entries.get_mut(key) else {
            return Ok(Committed::Gone);
        };
        match stored {
            Entry::Live(record) if record.revision() == expected => {
                *stored = entry;
                Ok(Committed::Committed)
            }
            // At another revision, or a tombstone, which stays whatever its revision.
            _ => Ok(Committed::Conflict(stored.clone())),
        }
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        match self.locked(key, now).get_mut(key) {
            Some(Entry::Live(record)) => {
                *record = Arc::new(record.seen(now));
                Ok(Touched::Touched)
            }
            Some(Entry::Moved(_)) | None => Ok(Touched::Gone),
        }
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let mut entries = self.locked(key, now);
        Ok(match entries.get(key) {
            // Tells where the session went as often as it is asked.
            Some(Entry::Moved(tombstone)) => Some(Entry::Moved(Arc::clone(tombstone))),
            _ => entries.remove(key),
        })
    }
}

impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStore").finish_non_exhaustive()
    }
}
