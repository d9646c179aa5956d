//! Stores behind pointers: each verb is forwarded, in order to use a backend's faster version.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    Committed, Created, Ended, Entry, Expected, IndexEntry, IndexKey, LocalReads, SessionIndex,
    SessionKey, SessionStore, StoreError, Timestamp, Tombstone, Touched, Watched,
};

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: SessionStore + ?Sized> SessionStore for $pointer {
            async fn create(
                &self,
                key: &SessionKey,
                entry: Entry,
                now: Timestamp,
            ) -> Result<Created, StoreError> {
                (**self).create(key, entry, now).await
            }

            async fn load(
                &self,
                key: &SessionKey,
                now: Timestamp,
            ) -> Result<Option<Entry>, StoreError> {
                (**self).load(key, now).await
            }

            async fn commit(
                &self,
                key: &SessionKey,
                expected: Expected,
                entry: Entry,
                now: Timestamp,
            ) -> Result<Committed, StoreError> {
                (**self).commit(key, expected, entry, now).await
            }

            async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
                (**self).touch(key, now).await
            }

            async fn delete(
                &self,
                key: &SessionKey,
                now: Timestamp,
            ) -> Result<Option<Entry>, StoreError> {
                (**self).delete(key, now).await
            }

            async fn load_many(
                &self,
                keys: &[SessionKey],
                now: Timestamp,
            ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
                (**self).load_many(keys, now).await
            }

            async fn delete_or_block(
                &self,
                keys: &[SessionKey],
                marker: Tombstone,
                now: Timestamp,
            ) -> Result<Vec<Ended>, StoreError> {
                (**self).delete_or_block(keys, marker, now).await
            }

            async fn ping(&self, now: Timestamp) -> Result<(), StoreError> {
                (**self).ping(now).await
            }

            fn local_reads(&self) -> Option<&dyn LocalReads> {
                (**self).local_reads()
            }

            async fn watch(
                &self,
                key: &SessionKey,
                now: Timestamp,
            ) -> Result<Watched, StoreError> {
                (**self).watch(key, now).await
            }
        }

        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: SessionIndex + ?Sized> SessionIndex for $pointer {
            async fn enter(
                &self,
                index: &IndexKey,
                entry: IndexEntry,
                now: Timestamp,
            ) -> Result<(), StoreError> {
                (**self).enter(index, entry, now).await
            }

            async fn leave(
                &self,
                index: &IndexKey,
                entries: &[IndexEntry],
                now: Timestamp,
            ) -> Result<(), StoreError> {
                (**self).leave(index, entries, now).await
            }

            async fn entries(
                &self,
                index: &IndexKey,
                now: Timestamp,
            ) -> Result<Vec<IndexEntry>, StoreError> {
                (**self).entries(index, now).await
            }

            async fn create_entered(
                &self,
                indexes: &[IndexKey],
                entry: IndexEntry,
                session: Entry,
                now: Timestamp,
            ) -> Result<Created, StoreError> {
                (**self).create_entered(indexes, entry, session, now).await
            }
        }
    )+};
}

forward!(&'static S, Arc<S>, Box<S>);
