use session_core::{
    Created, Entry, IndexEntry, OwnerIndex, OwnerKey, StoreError, Timestamp, async_trait,
};

use crate::{MemoryStore, pace::Pace};

#[async_trait]
impl OwnerIndex for MemoryStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.owners.enter(owner, entry, now);
        Ok(())
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        entries: &[IndexEntry],
        _: Timestamp,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::default();
        for entry in entries {
            pace.step().await;
            self.owners.leave(owner, entry.family, entry.key);
        }
        Ok(())
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        Ok(self.owners.entries(owner, now).await)
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.owners.enter(owner, entry, now);
        self.insert(&entry.key, session, Some(*owner), now)
    }
}
