use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::{
    Committed, Created, Entry, Revision, SessionKey, SessionStore, StoreError, StoreErrorKind,
    Timestamp, Touched,
};

use super::MapStore;

/// One of a store's verbs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verb {
    Create,
    Load,
    Commit,
    Touch,
    Delete,
}

/// How a call fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing is carried out.
    Before(StoreErrorKind),
    /// It is carried out, and the answer is lost.
    After(StoreErrorKind),
}

impl Fault {
    /// The request did not reach the store.
    pub(crate) const UNSENT: Self = Self::Before(StoreErrorKind::Timeout);
    /// The answer did not come back.
    pub(crate) const ANSWER_LOST: Self = Self::After(StoreErrorKind::Timeout);
    /// The store said that it cannot.
    pub(crate) const DOWN: Self = Self::Before(StoreErrorKind::Unavailable);
}

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

enum Plan {
    Fail(Fault),
    Run(Hook),
}

/// A correct store that notes each call, and fails or lets others in when a test says so.
#[derive(Default)]
pub(crate) struct Probe {
    store: MapStore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: Vec<Verb>,
    keys: Vec<SessionKey>,
    plans: Vec<(Verb, usize, Plan)>,
    broken: Option<StoreErrorKind>,
}

impl Probe {
    /// Makes the next call of a verb fail.
    pub(crate) fn fail(&self, verb: Verb, fault: Fault) {
        self.fail_nth(1, verb, fault);
    }

    /// Makes the n-th call of a verb from now on fail.
    pub(crate) fn fail_nth(&self, nth: usize, verb: Verb, fault: Fault) {
        self.state().plans.push((verb, nth, Plan::Fail(fault)));
    }

    /// Makes all calls fail, or none.
    pub(crate) fn set_broken(&self, kind: Option<StoreErrorKind>) {
        self.state().broken = kind;
    }

    /// Does something just before the next call of a verb.
    pub(crate) fn before<F>(&self, verb: Verb, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let hook: Hook = Box::new(|| Box::pin(hook()));
        self.state().plans.push((verb, 1, Plan::Run(hook)));
    }

    /// The calls since the last time that this was asked.
    pub(crate) fn calls(&self) -> Vec<Verb> {
        std::mem::take(&mut self.state().calls)
    }

    /// Every key that any call named.
    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        self.state().keys.clone()
    }

    /// What is stored, without counting as a call.
    pub(crate) async fn peek(&self, key: SessionKey, now: Timestamp) -> Option<Entry> {
        self.store.load(&key, now).await.expect("a map does not fail")
    }

    /// Everything that is stored.
    pub(crate) async fn peek_all(&self, now: Timestamp) -> Vec<(SessionKey, Entry)> {
        let mut keys = self.keys();
        keys.sort();
        keys.dedup();
        let mut all = Vec::new();
        for key in keys {
            all.extend(self.peek(key, now).await.map(|entry| (key, entry)));
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T: Send>(
        &self,
        verb: Verb,
        key: &SessionKey,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut due = Vec::new();
        let broken = {
            let mut state = self.state();
            state.calls.push(verb);
            state.keys.push(*key);
            for (planned, left, _) in &mut state.plans {
                *left -= usize::from(*planned == verb);
            }
            due.extend(state.plans.extract_if(.., |(_, left, _)| *left == 0));
            state.broken
        };
        if let Some(kind) = broken {
            return Err(StoreError::new(kind));
        }
        let mut lost = None;
        for (_, _, plan) in due {
            match plan {
                Plan::Run(hook) => hook().await,
                Plan::Fail(Fault::Before(kind)) => return Err(StoreError::new(kind)),
                Plan::Fail(Fault::After(kind)) => lost = Some(StoreError::new(kind)),
            }
        }
        let answer = call.await;
        lost.map_or(answer, Err)
    }
}

#[async_trait::async_trait]
impl SessionStore for Probe {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.call(Verb::Create, key, self.store.create(key, entry, now)).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.call(Verb::Load, key, self.store.load(key, now)).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Revision,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.call(Verb::Commit, key, self.store.commit(key, expected, entry, now)).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.call(Verb::Touch, key, self.store.touch(key, now)).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.call(Verb::Delete, key, self.store.delete(key, now)).await
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
