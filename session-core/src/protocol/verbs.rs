//! The store's verbs, each repeated once if its answer is lost (I6).

use std::sync::Arc;

use super::{Located, Protocol, ROTATION_WINDOW, WriteContext};
use crate::{
    Committed, Created, Ended, Entry, Expected, IndexEntry, OwnerKey, Record, SessionKey,
    StoreError, Tombstone, clock::MAX_SKEW,
};

/// The outcome of deleting one key.
pub(super) enum Deleted {
    Session(Option<Arc<Record>>),
    Moved(Arc<Tombstone>),
    Nothing,
}

impl Protocol {
    /// Creates a record, and its owner's index entry before it.
    ///
    /// If the answer is lost, an end marker is created under the key, and the key shows which of the
    /// two was first. The creation is never sent twice: a delayed duplicate could bring back a session
    /// that was ended in between (I2).
    pub(super) async fn create_record(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        context: WriteContext,
    ) -> Result<Created, StoreError> {
        let entry = Entry::Live(Arc::clone(record));
        let created = match &record.owner {
            Some(owner) => {
                let index_entry = index_entry(*key, record);
                (*self.store).create_entered(&owner.key(), index_entry, entry, context.now).await
            }
            None => (*self.store).create(key, entry, context.now).await,
        };
        match created {
            Err(lost) if lost.is_outcome_unknown() => {
                if self.block(key).await.is_err() {
                    return Err(lost);
                }
                match self.load_entry(key).await {
                    Ok(Some(stored)) if stored.nonce() == context.nonce => Ok(Created::Created),
                    Ok(Some(_)) => Ok(Created::Exists),
                    Ok(None) | Err(_) => Err(lost),
                }
            }
            answer => answer,
        }
    }

    /// Replaces a located session. If the answer is lost, the nonce of the stored entry shows whether
    /// the first try counted.
    pub(super) async fn commit_entry(
        &self,
        base: &Located,
        entry: Entry,
        context: WriteContext,
    ) -> Result<Committed, StoreError> {
        let expected = Expected::from(&*base.record);
        let is_ours = |stored: &Entry| stored.nonce() == context.nonce;
        let is_move = matches!(entry, Entry::Moved(_));
        match (*self.store).commit(&base.key, expected, entry.clone(), context.now).await {
            Ok(Committed::Conflict(stored)) if is_ours(&stored) => Ok(Committed::Committed),
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).commit(&base.key, expected, entry, context.now).await {
                    Ok(Committed::Conflict(stored)) if is_ours(&stored) => Ok(Committed::Committed),
                    // A tombstone is never replaced, so ours was not stored, and comes too late now.
                    Ok(Committed::Conflict(Entry::Live(newer))) if is_move => {
                        Ok(Committed::Conflict(Entry::Live(newer)))
                    }
                    // Another commit came after ours, or instead of it.
                    Ok(Committed::Conflict(_)) | Err(_) => Err(lost),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// Deletes a key.
    pub(super) async fn delete_key(&self, key: &SessionKey) -> Result<Deleted, StoreError> {
        match (*self.store).delete(key, self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).delete(key, self.now()).await.map_err(|_| lost)? {
                    // A tombstone would have stayed, so a session was there.
                    None => Ok(Deleted::Session(None)),
                    Some(entry) => Ok(entry.into()),
                }
            }
            answer => Ok(answer?.map_or(Deleted::Nothing, Deleted::from)),
        }
    }

    /// Deletes the sessions under many keys, and blocks the keys that hold none.
    ///
    /// If the answer is lost, a key that the repetition had to block counts as a session that the
    /// first try deleted: it is better reported twice than never.
    pub(super) async fn delete_or_block(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = self.end_marker();
        match (*self.store).delete_or_block(keys, marker.clone(), self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                let again = (*self.store).delete_or_block(keys, marker.clone(), self.now()).await;
                let as_deleted = |answer| match answer {
                    Ended::Blocked => Ended::Session,
                    Ended::Moved(stone)
                        if stone.successor().is_none() && stone.nonce != marker.nonce =>
                    {
                        Ended::Session
                    }
                    answer => answer,
                };
                Ok(again.map_err(|_| lost)?.into_iter().map(as_deleted).collect())
            }
            answer => answer,
        }
    }

    /// Enters a key into an owner's index.
    pub(super) async fn enter(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        context: WriteContext,
    ) -> Result<(), StoreError> {
        match (*self.store).enter(owner, entry, context.now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                (*self.store).enter(owner, entry, context.now).await.map_err(|_| lost)
            }
            answer => answer,
        }
    }

    /// Blocks a key that holds nothing.
    pub(super) async fn block(&self, key: &SessionKey) -> Result<Created, StoreError> {
        let marker = Entry::Moved(Arc::new(self.end_marker()));
        (*self.store).create(key, marker, self.now()).await
    }

    /// Returns `true` if an end marker is under the key.
    pub(super) async fn is_blocked(&self, key: &SessionKey) -> Result<bool, StoreError> {
        Ok(match self.load_entry(key).await? {
            Some(Entry::Moved(tombstone)) => tombstone.successor().is_none(),
            Some(Entry::Live(_)) | None => false,
        })
    }

    fn end_marker(&self) -> Tombstone {
        Tombstone::end_marker(self.next_nonce(), self.now() + ROTATION_WINDOW)
    }
}

impl From<Entry> for Deleted {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Live(record) => Self::Session(Some(record)),
            Entry::Moved(tombstone) => Self::Moved(tombstone),
        }
    }
}

/// The place of a record in its owner's index. It lasts until no server, however far its clock is
/// behind, can find the session alive.
pub(super) fn index_entry(key: SessionKey, record: &Record) -> IndexEntry {
    IndexEntry { key, family: record.family, until: record.absolute_deadline() + MAX_SKEW }
}
