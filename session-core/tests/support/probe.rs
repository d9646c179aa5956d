//! A store that fails according to a test's plan, and shows its content.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use session_core::{
    Entry, IndexKey, SessionIndex as _, SessionKey, SessionStore as _, StoreError, Timestamp,
    Watch, Watchers,
    testing::{Answer, FaultStore, Intercept, Intercepted, Operation},
};

use super::MapStore;

/// A correct store that fails according to a test's plan, and shows its content.
pub(crate) type Probe = FaultStore<Recorded>;

/// A store that records its keys and indexes.
pub(crate) type Recorded = Intercepted<MapStore, Recorder>;

/// The keys and indexes of all calls, and the changes that a test reports, if the test reports any.
#[derive(Default)]
pub(crate) struct Recorder {
    seen: Mutex<Seen>,
    watchers: OnceLock<Watchers>,
}

#[derive(Default)]
struct Seen {
    keys: BTreeSet<SessionKey>,
    indexes: BTreeSet<IndexKey>,
    keeps_expired: bool,
}

pub(crate) fn probe() -> Probe {
    FaultStore::new_working(Intercepted::new(MapStore::default(), Recorder::default()))
}

impl Recorder {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[session_core::async_trait]
impl Intercept<MapStore> for Recorder {
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let keeps_expired = {
            let mut seen = self.seen();
            seen.keys.extend(operation.keys());
            seen.indexes.extend(operation.indexes());
            seen.keeps_expired
        };
        let removes = matches!(
            operation,
            Operation::Create { .. } | Operation::Load { .. } | Operation::LoadMany { .. }
        );
        let now = if keeps_expired && removes { Timestamp::default() } else { now };
        operation.perform(store, now).await
    }

    async fn watch(
        &self,
        _: &MapStore,
        key: &SessionKey,
        _: Timestamp,
    ) -> Result<Option<Watch>, StoreError> {
        Ok(self.watchers.get().map(|watchers| watchers.watch(key)))
    }
}

/// Read access to the content of a [`Probe`], not counted as calls.
pub(crate) trait Peek {
    fn recorded(&self) -> &Recorded;

    /// Makes the store keep expired entries forever.
    fn keep_expired(&self) {
        self.recorded().intercept().seen().keeps_expired = true;
    }

    /// Makes the store report the changes that the test reports, which may be false, and no others.
    fn report_changes(&self) -> Watchers {
        self.recorded().intercept().watchers.get_or_init(Watchers::default).clone()
    }

    /// Returns the keys in all calls.
    fn keys(&self) -> Vec<SessionKey> {
        self.recorded().intercept().seen().keys.iter().copied().collect()
    }

    /// Returns the entry under a key.
    async fn peek(&self, key: SessionKey, now: Timestamp) -> Option<Entry> {
        self.recorded().store().load(&key, now).await.expect("a map does not fail")
    }

    /// Returns all entries.
    async fn peek_all(&self, now: Timestamp) -> Vec<(SessionKey, Entry)> {
        let mut all = Vec::new();
        for key in self.keys() {
            all.extend(self.peek(key, now).await.map(|entry| (key, entry)));
        }
        all
    }

    /// Returns the keys in the indexes.
    async fn entered(&self, now: Timestamp) -> Vec<SessionKey> {
        let indexes = self.recorded().intercept().seen().indexes.clone();
        let mut keys = Vec::new();
        for index in indexes {
            let entries = self.recorded().store().entries(&index, now).await;
            keys.extend(entries.expect("a map does not fail").iter().map(|entry| entry.key));
        }
        keys
    }

    /// Returns `true` if a key is in an index.
    async fn is_entered(&self, key: SessionKey, now: Timestamp) -> bool {
        self.entered(now).await.contains(&key)
    }

    /// Returns the number of keys in all indexes.
    async fn count_entered(&self, now: Timestamp) -> usize {
        self.entered(now).await.len()
    }
}

impl Peek for Probe {
    fn recorded(&self) -> &Recorded {
        self.store()
    }
}
