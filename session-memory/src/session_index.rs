use session_core::{
    Created, Entry, IndexEntry, IndexKey, SessionIndex, StoreError, Timestamp, async_trait,
};

use crate::{MemoryStore, pace::Pace, session::Listed};

#[async_trait]
impl SessionIndex for MemoryStore {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.indexes.enter(index, entry, now);
        Ok(())
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        _: Timestamp,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::default();
        for entry in entries {
            pace.step().await;
            self.indexes.leave(index, entry.family, entry.key);
        }
        Ok(())
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        Ok(self.indexes.entries(index, now).await)
    }

    async fn create_entered(
        &self,
        indexes: &[IndexKey],
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        for index in indexes {
            self.indexes.enter(index, entry, now);
        }
        self.insert(&entry.key, session, Listed::of(indexes), now)
    }
}
