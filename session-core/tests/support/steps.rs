use std::{
    collections::HashSet,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use session_core::{
    Admission, Admitted, Clock, Committed, Created, Ended, Entry, Expected, ManualClock, Owner,
    OwnerIndex, OwnerKey, Record, SessionKey, SessionStore, Sleep, StoreError, Timestamp, Touched,
};

use super::MapStore;

/// A store that waits once before each command, so that who polls decides whose command is next.
///
/// After each command it looks whether every live session with an owner is in that owner's index (I8).
#[derive(Default)]
pub(crate) struct Steps {
    store: MapStore,
    keys: Mutex<HashSet<SessionKey>>,
    alone: Mutex<()>,
}

impl Steps {
    /// All live sessions.
    pub(crate) fn live(&self, now: Timestamp) -> Vec<(SessionKey, Arc<Record>)> {
        let keys: Vec<_> = self.keys.lock().expect("no holder panics").iter().copied().collect();
        let mut live = Vec::new();
        for key in keys {
            if let Ok(Some(Entry::Live(record))) = run(self.store.load(&key, now)) {
                live.push((key, record));
            }
        }
        live
    }

    /// What is in an owner's index.
    pub(crate) fn entered(&self, owner: &str, now: Timestamp) -> Vec<SessionKey> {
        run(self.store.entries(&Owner::from(owner).key(), now)).expect("a map does not fail")
    }

    /// Waits for its turn, does something, and looks at what that made of the sessions.
    async fn step<T>(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
        act: impl Future<Output = T>,
    ) -> T {
        turn().await;
        self.keys.lock().expect("no holder panics").extend(keys);
        // The map does not wait: nobody else comes between.
        let _alone = self.alone.lock().expect("no holder panics");
        let answer = run(act);
        for (key, record) in self.live(now) {
            if let Some(owner) = record.owner() {
                let entries =
                    run(self.store.entries(&owner.key(), now)).expect("a map does not fail");
                assert!(entries.contains(&key), "{key} is live and not in its owner's index");
            }
        }
        answer
    }
}

/// A clock that goes on only while somebody sleeps, which takes one turn.
#[derive(Debug)]
pub(crate) struct StepClock(pub(crate) ManualClock);

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: std::time::Duration) -> Sleep<'_> {
        Box::pin(async move {
            turn().await;
            self.0.advance(span);
        })
    }
}

/// Every order of the commands of some requests, up to a length: `make` makes the world anew for each,
/// and `check` looks at what the requests answered and what is left.
///
/// Each number in the order says which request's command comes next.
pub(crate) fn interleavings<const REQUESTS: usize, W, T>(
    length: u32,
    make: impl Fn() -> (W, [Pin<Box<dyn Future<Output = T>>>; REQUESTS]),
    check: impl Fn(W, [T; REQUESTS], &[usize]),
) {
    let mut seen = std::collections::HashSet::new();
    for number in 0..REQUESTS.pow(length) {
        let order = |step: u32| number / REQUESTS.pow(step) % REQUESTS;
        let (world, mut requests) = make();
        let mut answers: [Option<T>; REQUESTS] = std::array::from_fn(|_| None);
        let mut played = Vec::new();
        let mut step = 0;
        while answers.iter().any(Option::is_none) {
            assert!(step < 10_000, "requests wait for each other: {played:?}");
            let first = if step < length { order(step) } else { step as usize % REQUESTS };
            let next = (0..REQUESTS)
                .map(|offset| (first + offset) % REQUESTS)
                .find(|&next| answers[next].is_none())
                .expect("one has not answered");
            played.push(next);
            if let Some(answer) = poll_once(requests[next].as_mut()) {
                answers[next] = Some(answer);
            }
            step += 1;
        }
        if seen.insert(played.clone()) {
            check(world, answers.map(|answer| answer.expect("all have answered")), &played);
        }
    }
    assert!(seen.len() > REQUESTS, "there was something to interleave");
}

/// Runs a future that waits for nothing but its turn.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    for _ in 0..10_000 {
        if let Some(answer) = poll_once(future.as_mut()) {
            return answer;
        }
    }
    panic!("the future waits for something else")
}

fn poll_once<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Waits once, like for a command.
pub(crate) async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[async_trait::async_trait]
impl SessionStore for Steps {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.step(&[*key], now, self.store.create(key, entry, now)).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.step(&[*key], now, self.store.load(key, now)).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.step(&[*key], now, self.store.commit(key, expected, entry, now)).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.step(&[*key], now, self.store.touch(key, now)).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.step(&[*key], now, self.store.delete(key, now)).await
    }
}

#[async_trait::async_trait]
impl OwnerIndex for Steps {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.step(&[*key], now, self.store.enter(owner, key, until, now)).await
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        self.step(&[*key], now, self.store.admit(owner, key, until, admission, now)).await
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.enter(owner, key, until, now).await?;
        // Others may come between the two.
        self.step(&[*key], now, self.store.create(key, entry, now)).await
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        turn().await;
        let _alone = self.alone.lock().expect("no holder panics");
        run(self.store.leave(owner, keys, now))
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        turn().await;
        self.store.entries(owner, now).await
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut loaded = Vec::new();
        for key in keys {
            loaded.push(self.load(key, now).await);
        }
        Ok(loaded)
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut answers = Vec::new();
        for key in keys {
            let end = self.store.end_many(std::slice::from_ref(key), marker.clone(), now);
            answers.extend(self.step(&[*key], now, end).await?);
        }
        Ok(answers)
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}
