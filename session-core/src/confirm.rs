//! The store's verbs, asked again once where an answer was lost (I6).

use std::sync::Arc;

use crate::{
    Committed, Created, Entry, Record, SessionError, SessionKey, Sessions, StoreError,
    merge::MAX_CONFLICTS, sessions::Home, work::Stamp,
};

impl Sessions {
    /// Creates, and asks again once if the answer was lost (I6).
    pub(crate) async fn create_at(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        stamp: Stamp,
    ) -> Result<Created, StoreError> {
        let entry = Entry::Live(Arc::clone(record));
        match (*self.store).create(key, entry.clone(), stamp.now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).create(key, entry, stamp.now).await {
                    Ok(Created::Created) => Ok(Created::Created),
                    Ok(Created::Exists) => match self.load(key).await {
                        Ok(Some(stored)) if stored.nonce() == stamp.nonce => Ok(Created::Created),
                        Ok(Some(_)) => Ok(Created::Exists),
                        Ok(None) | Err(_) => Err(lost),
                    },
                    Err(_) => Err(lost),
                }
            }
            answer => answer,
        }
    }

    /// Commits, and asks again once if the answer was lost. The nonce tells whether the first time
    /// counted, so that nothing is applied twice (I6).
    pub(crate) async fn commit_at(
        &self,
        home: &Home,
        entry: Entry,
        stamp: Stamp,
    ) -> Result<Committed, StoreError> {
        let expected = home.record.revision;
        let ours = |stored: &Entry| stored.nonce() == stamp.nonce;
        match (*self.store).commit(&home.key, expected, entry.clone(), stamp.now).await {
            Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).commit(&home.key, expected, entry, stamp.now).await {
                    Ok(Committed::Conflict(stored)) if ours(&stored) => Ok(Committed::Committed),
                    // Somebody committed since, on top of our commit or instead of it.
                    Ok(Committed::Conflict(_)) | Err(_) => Err(lost),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// Ends a session, and the one it moved to.
    pub(crate) async fn end(&self, mut key: SessionKey) -> Result<(), SessionError> {
        for _ in 0..MAX_CONFLICTS {
            match self.delete_at(&key).await? {
                Some(Entry::Moved(tombstone)) => key = tombstone.successor,
                Some(Entry::Live(_)) | None => return Ok(()),
            }
        }
        Err(SessionError::Contended)
    }

    /// Deletes, and asks again once if the answer was lost.
    async fn delete_at(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        match (*self.store).delete(key, self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                // What is gone now was a session: a tombstone is left in place, and tells again.
                (*self.store).delete(key, self.now()).await.map_err(|_| lost)
            }
            answer => answer,
        }
    }
}
