use std::{
    future::poll_fn,
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use session_core::{
    Admission, Admitted, Created, Ended, Entry, OwnerIndex, OwnerKey, SessionKey,
    SessionStore as _, StoreError, Timestamp,
};

use crate::{
    MemoryStore,
    table::{Held as _, Removed},
};

#[async_trait]
impl OwnerIndex for MemoryStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.owners.enter(owner, key, until, now);
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
        Ok(self.owners.admit(owner, key, until, admission, now))
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.owners.enter(owner, key, until, now);
        self.insert(key, entry, Some(*owner), now)
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        _: Timestamp,
    ) -> Result<(), StoreError> {
        self.owners.leave(owner, keys);
        Ok(())
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        Ok(self.owners.entries(owner, now))
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut loaded = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_PER_TURN) {
            if !loaded.is_empty() {
                yield_now().await;
            }
            for key in keys {
                loaded.push(self.load(key, now).await);
            }
        }
        Ok(loaded)
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut ended = Vec::with_capacity(keys.len());
        for keys in keys.chunks(KEYS_PER_TURN) {
            if !ended.is_empty() {
                yield_now().await;
            }
            for key in keys {
                ended.push(self.end_or_bar(key, &marker, now)?);
            }
        }
        Ok(ended)
    }
}

impl MemoryStore {
    fn end_or_bar(
        &self,
        key: &SessionKey,
        marker: &Entry,
        now: Timestamp,
    ) -> Result<Ended, StoreError> {
        loop {
            let removed = self.table.remove(key, now, |present| match &present.entry {
                Entry::Moved(tombstone) if present.is_live(now) => Some(Arc::clone(tombstone)),
                _ => None,
            });
            match removed {
                Removed::Refused(tombstone) => return Ok(Ended::Moved(tombstone)),
                Removed::Removed(session) if session.is_live(now) => return Ok(Ended::Session),
                Removed::Removed(_) | Removed::Missing => {}
            }
            // If a session was created in between, that session is to be ended.
            if self.insert(key, marker.clone(), None, now)? == Created::Created {
                return Ok(Ended::Barred);
            }
        }
    }
}

/// Lets other tasks of the thread run.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context: &mut Context<'_>| {
        if mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The number of keys after which a task lets others run. Tokio polls for I/O after 61 turns of
/// tasks that are ready again immediately: so many keys take a millisecond or two.
const KEYS_PER_TURN: usize = 16;
