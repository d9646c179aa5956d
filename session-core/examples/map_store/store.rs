use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionKey, SessionStore, StoreError, Timestamp, Touched,
};

/// Keeps sessions in a map, for as long as the program runs.
#[derive(Default)]
pub(crate) struct MapStore {
    entries: Mutex<HashMap<SessionKey, Entry>>,
    owners: Mutex<HashMap<OwnerKey, HashMap<SessionKey, Timestamp>>>,
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

    /// Does something to the index of an owner, without what has passed its deadline.
    fn with_index<R>(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
        act: impl FnOnce(&mut HashMap<SessionKey, Timestamp>) -> R,
    ) -> R {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let index = owners.entry(*owner).or_default();
        index.retain(|_, until| *until > now);
        let answer = act(index);
        if index.is_empty() {
            owners.remove(owner);
        }
        answer
    }
}

/// Enters a key, or keeps it for longer.
fn keep(index: &mut HashMap<SessionKey, Timestamp>, key: &SessionKey, until: Timestamp) {
    let present = index.entry(*key).or_insert(until);
    *present = until.max(*present);
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
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let mut entries = self.locked(key, now);
        let Some(stored) = entries.get_mut(key) else {
            return Ok(Committed::Gone);
        };
        match stored {
            Entry::Live(record) if expected.is(record) => {
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

#[async_trait::async_trait]
impl OwnerIndex for MapStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with_index(owner, now, |index| keep(index, key, until));
        Ok(())
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        Ok(self.with_index(owner, now, |index| {
            index.retain(|key, _| !admission.ended.contains(key));
            let mut others: Vec<_> = index.keys().copied().collect();
            others.retain(|other| other != key && !admission.replaces.contains(other));
            if admission.count(&others) >= admission.max.get() {
                return Admitted::Full(others);
            }
            keep(index, key, until);
            Admitted::Admitted
        }))
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.enter(owner, key, until, now).await?;
        self.create(key, entry, now).await
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.with_index(owner, now, |index| index.retain(|key, _| !keys.contains(key)));
        Ok(())
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        Ok(self.with_index(owner, now, |index| index.keys().copied().collect()))
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        Ok(keys.iter().map(|key| Ok(self.locked(key, now).get(key).cloned())).collect())
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let end = |key: &SessionKey| {
            let mut entries = self.locked(key, now);
            match entries.get(key) {
                Some(Entry::Live(_)) => {
                    entries.remove(key);
                    Ended::Session
                }
                Some(Entry::Moved(tombstone)) => Ended::Moved(Arc::clone(tombstone)),
                None => {
                    entries.insert(*key, marker.clone());
                    Ended::Barred
                }
            }
        };
        Ok(keys.iter().map(end).collect())
    }
}

impl fmt::Debug for MapStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStore").finish_non_exhaustive()
    }
}
