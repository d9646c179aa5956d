//! The entries of the owner's index (I8).

use super::{Located, Protocol, WriteContext, verbs::index_entry};
use crate::{IndexEntry, IndexKey, Record, SessionKey, StoreError};

impl Protocol {
    /// Extends a session's index entry before a commit that extends the session.
    pub(super) async fn extend_in_index(
        &self,
        base: &Located,
        next: &Record,
        context: WriteContext,
    ) -> Result<(), StoreError> {
        match &next.owner {
            Some(owner) if base.record.absolute_deadline() < next.absolute_deadline() => {
                // Boxed, to keep the future of a commit small: most commits do not extend the
                // session.
                Box::pin(self.enter(&owner.key(), index_entry(base.key, next), context)).await
            }
            _ => Ok(()),
        }
    }

    /// Removes the index entry of a deleted key. A failure is ignored: the store removes the entry
    /// at its deadline.
    pub(super) async fn leave_index(&self, key: SessionKey, record: &Record) {
        if let Some(owner) = &record.owner {
            Box::pin(self.leave_index_of_all(&owner.key(), &[index_entry(key, record)])).await;
        }
    }

    pub(super) async fn leave_index_of_all(&self, owner: &IndexKey, entries: &[IndexEntry]) {
        if let Err(error) = (*self.store).leave(owner, entries, self.now()).await {
            tracing::debug!(
                target: "session", %error, user.hash = %owner, "ended sessions left in the index"
            );
        }
    }
}
