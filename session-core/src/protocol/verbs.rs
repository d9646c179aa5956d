//! The writes of the protocol, and the recovery from a lost answer (I6).

use std::sync::Arc;

use super::{Located, Protocol, ROTATION_WINDOW};
use crate::{
    Committed, Created, Ended, Entry, Expected, IndexEntry, IndexKey, Record, SessionKey,
    StoreError, Timestamp, Tombstone, clock::MAX_SKEW,
};

/// The outcome of deleting one key.
pub(super) enum Deleted {
    Session(Option<Arc<Record>>),
    Tombstone(Arc<Tombstone>),
    Nothing,
}

impl Protocol {
    /// Creates a record, after its entries in the indexes.
    ///
    /// If the answer is lost, the protocol creates an end marker under the key, and then loads the
    /// entry that was first. The creation is never sent twice. A delayed duplicate could revive a
    /// session that was ended in between (I2).
    pub(super) async fn create_record(
        &self,
        key: &SessionKey,
        record: &Arc<Record>,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let entry = Entry::Session(Arc::clone(record));
        let indexes = record.index_keys();
        let created = if indexes.is_empty() {
            (*self.store).create(key, entry, now).await
        } else {
            let index_entry = index_entry(*key, record);
            (*self.store).create_entered(&indexes, index_entry, entry, now).await
        };
        match created {
            Err(lost) if lost.is_outcome_unknown() => {
                if self.block(key).await.is_err() {
                    return Err(lost);
                }
                match self.load_entry(key).await {
                    Ok(Some(stored)) if stored.nonce() == record.nonce => Ok(Created::Created),
                    Ok(Some(_)) => Ok(Created::Exists),
                    Ok(None) | Err(_) => Err(lost),
                }
            }
            answer => answer,
        }
    }

    /// Replaces a located session by compare-and-swap.
    ///
    /// If the answer is lost, the commit is repeated once, and the nonce of the stored entry shows
    /// whether the first try succeeded.
    pub(super) async fn commit_entry(
        &self,
        base: &Located,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        let expected = Expected::from(&*base.record);
        let nonce = entry.nonce();
        let is_ours = |stored: &Entry| stored.nonce() == nonce;
        let is_move = matches!(entry, Entry::Tombstone(_));
        match (*self.store).commit(&base.key, expected, entry.clone(), now).await {
            Ok(Committed::Conflict(stored)) if is_ours(&stored) => Ok(Committed::Committed),
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).commit(&base.key, expected, entry, now).await {
                    Ok(Committed::Conflict(stored)) if is_ours(&stored) => Ok(Committed::Committed),
                    // A stored tombstone is never replaced. Our tombstone was therefore not stored,
                    // and comes too late now.
                    Ok(Committed::Conflict(Entry::Session(newer))) if is_move => {
                        Ok(Committed::Conflict(Entry::Session(newer)))
                    }
                    // Another commit came after ours, or instead of ours: the outcome stays
                    // unknown.
                    Ok(Committed::Conflict(_)) | Err(_) => Err(lost),
                    answer => answer,
                }
            }
            answer => answer,
        }
    }

    /// Deletes a key. If the answer is lost, the deletion is repeated once.
    pub(super) async fn delete_key(&self, key: &SessionKey) -> Result<Deleted, StoreError> {
        match (*self.store).delete(key, self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                match (*self.store).delete(key, self.now()).await.map_err(|_| lost)? {
                    // The first try may have deleted a session: a tombstone would have stayed.
                    None => Ok(Deleted::Session(None)),
                    Some(entry) => Ok(entry.into()),
                }
            }
            answer => Ok(answer?.map_or(Deleted::Nothing, Deleted::from)),
        }
    }

    /// Deletes the sessions under many keys, and blocks the keys without a session.
    ///
    /// If the answer is lost, the operation is repeated once. A key that the repetition blocks
    /// counts as a session that the first try deleted, with an unknown record. A session is better
    /// reported twice than never.
    pub(super) async fn delete_or_block(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = self.end_marker();
        match (*self.store).delete_or_block(keys, marker.clone(), self.now()).await {
            Err(lost) if lost.is_outcome_unknown() => {
                let again = (*self.store).delete_or_block(keys, marker.clone(), self.now()).await;
                let as_deleted = |answer| match answer {
                    Ended::Blocked => Ended::Session(None),
                    Ended::Tombstone(stone)
                        if stone.successor().is_none() && stone.nonce != marker.nonce =>
                    {
                        Ended::Session(None)
                    }
                    answer => answer,
                };
                Ok(again.map_err(|_| lost)?.into_iter().map(as_deleted).collect())
            }
            answer => answer,
        }
    }

    /// Enters a key into an index. If the answer is lost, the operation is repeated once.
    pub(super) async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match (*self.store).enter(index, entry, now).await {
            Err(lost) if lost.is_outcome_unknown() => {
                (*self.store).enter(index, entry, now).await.map_err(|_| lost)
            }
            answer => answer,
        }
    }

    /// Blocks an empty key by an end marker.
    pub(super) async fn block(&self, key: &SessionKey) -> Result<Created, StoreError> {
        let marker = Entry::Tombstone(Arc::new(self.end_marker()));
        (*self.store).create(key, marker, self.now()).await
    }

    /// Returns `true` if the key holds an end marker.
    pub(super) async fn is_blocked(&self, key: &SessionKey) -> Result<bool, StoreError> {
        Ok(match self.load_entry(key).await? {
            Some(Entry::Tombstone(tombstone)) => tombstone.successor().is_none(),
            Some(Entry::Session(_)) | None => false,
        })
    }

    fn end_marker(&self) -> Tombstone {
        Tombstone::end_marker(self.next_nonce(), self.now() + ROTATION_WINDOW)
    }
}

impl From<Entry> for Deleted {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Session(record) => Self::Session(Some(record)),
            Entry::Tombstone(tombstone) => Self::Tombstone(tombstone),
        }
    }
}

/// Returns the entry of a record in its indexes. The entry outlives the session on every
/// server whose clock is at most [`MAX_SKEW`] behind.
pub(super) fn index_entry(key: SessionKey, record: &Record) -> IndexEntry {
    IndexEntry { key, family: record.family, until: record.absolute_deadline() + MAX_SKEW }
}
