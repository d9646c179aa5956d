//! The entries of the indexes (I8): one per key of a session, in the index of its owner and of each
//! of its links.

use super::{Located, Protocol, verbs::index_entry};
use crate::{IndexEntry, IndexKey, Record, SessionKey, StoreError, Timestamp};

impl Protocol {
    /// Extends a session's index entries before a commit that extends the session.
    pub(super) async fn extend_in_indexes(
        &self,
        base: &Located,
        next: &Record,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if base.record.absolute_deadline() < next.absolute_deadline() {
            // Boxed, to keep the future of a commit small: most commits do not extend the session.
            Box::pin(self.enter_all(index_entry(base.key, next), next, now)).await?;
        }
        Ok(())
    }

    async fn enter_all(
        &self,
        entry: IndexEntry,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for index in record.index_keys() {
            self.enter(&index, entry, now).await?;
        }
        Ok(())
    }

    /// Removes the index entries of a deleted key. A failure is ignored: the store removes an entry
    /// at its deadline.
    pub(super) async fn leave_indexes(&self, key: SessionKey, record: &Record) {
        self.leave_indexes_except(None, key, record).await;
    }

    /// Removes the index entries of a deleted key from all indexes but one.
    pub(super) async fn leave_indexes_except(
        &self,
        except: Option<&IndexKey>,
        key: SessionKey,
        record: &Record,
    ) {
        let entry = index_entry(key, record);
        for index in record.index_keys() {
            if except != Some(&index) {
                Box::pin(self.leave(&index, &[entry])).await;
            }
        }
    }

    pub(super) async fn leave(&self, index: &IndexKey, entries: &[IndexEntry]) {
        if let Err(error) = (*self.store).leave(index, entries, self.now()).await {
            tracing::debug!(target: "session", %index, %error, "ended sessions left in the index");
        }
    }
}
