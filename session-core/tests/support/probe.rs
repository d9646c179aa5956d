use std::{
    fmt,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionKey, SessionStore, StoreError, StoreErrorKind, Timestamp, Touched,
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
    Enter,
    Admit,
    CreateEntered,
    Leave,
    Entries,
    LoadMany,
    EndMany,
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
    owners: Vec<OwnerKey>,
    plans: Vec<(Verb, usize, Plan)>,
    broken: Option<StoreErrorKind>,
    keeps_expired: bool,
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

    /// Makes the store one that never removes what has expired.
    pub(crate) fn keep_expired(&self) {
        self.state().keeps_expired = true;
    }

    /// The time by which the store removes what has expired.
    fn removes_until(&self, now: Timestamp) -> Timestamp {
        if self.state().keeps_expired { Timestamp::default() } else { now }
    }

    /// Does something just before the next call of a verb.
    pub(crate) fn before<F>(&self, verb: Verb, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.before_nth(1, verb, hook);
    }

    /// Does something just before the n-th call of a verb from now on.
    pub(crate) fn before_nth<F>(
        &self,
        nth: usize,
        verb: Verb,
        hook: impl FnOnce() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let hook: Hook = Box::new(|| Box::pin(hook()));
        self.state().plans.push((verb, nth, Plan::Run(hook)));
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

    /// Whether a key is in the index of any owner.
    pub(crate) async fn is_entered(&self, key: SessionKey, now: Timestamp) -> bool {
        let owners = self.state().owners.clone();
        for owner in owners {
            if self.store.entries(&owner, now).await.expect("a map does not fail").contains(&key) {
                return true;
            }
        }
        false
    }

    /// How many keys all indices hold.
    pub(crate) async fn count_entered(&self, now: Timestamp) -> usize {
        let mut owners = self.state().owners.clone();
        owners.sort();
        owners.dedup();
        let mut count = 0;
        for owner in owners {
            count += self.store.entries(&owner, now).await.expect("a map does not fail").len();
        }
        count
    }

    fn note_owner(&self, owner: &OwnerKey) {
        self.state().owners.push(*owner);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn call<T: Send>(
        &self,
        verb: Verb,
        keys: &[SessionKey],
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut due = Vec::new();
        let broken = {
            let mut state = self.state();
            state.calls.push(verb);
            state.keys.extend(keys);
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
        let create = self.store.create(key, entry, self.removes_until(now));
        self.call(Verb::Create, &[*key], create).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let load = self.store.load(key, self.removes_until(now));
        self.call(Verb::Load, &[*key], load).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.call(Verb::Commit, &[*key], self.store.commit(key, expected, entry, now)).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.call(Verb::Touch, &[*key], self.store.touch(key, now)).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.call(Verb::Delete, &[*key], self.store.delete(key, now)).await
    }
}

#[async_trait::async_trait]
impl OwnerIndex for Probe {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Verb::Enter, &[*key], self.store.enter(owner, key, until, now)).await
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        let admit = self.store.admit(owner, key, until, admission, now);
        self.call(Verb::Admit, &[*key], admit).await
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let create = self.store.create_entered(owner, until, key, entry, now);
        self.note_owner(owner);
        self.call(Verb::CreateEntered, &[*key], create).await
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.call(Verb::Leave, &[], self.store.leave(owner, keys, now)).await
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        self.call(Verb::Entries, &[], self.store.entries(owner, now)).await
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let load = self.store.load_many(keys, self.removes_until(now));
        self.call(Verb::LoadMany, &[], load).await
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        self.call(Verb::EndMany, keys, self.store.end_many(keys, marker, now)).await
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
