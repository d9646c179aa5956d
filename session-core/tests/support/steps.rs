//! A store that lets a test choose the order of the commands of several requests.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use session_core::{
    Clock, Entry, IndexKey, ManualClock, Owner, Record, SessionIndex as _, SessionKey,
    SessionStore as _, Sleep, StoreError, Timestamp,
    testing::{Answer, Intercept, Intercepted, Operation},
};

use super::MapStore;

/// A store that waits once before each command, so a test decides whose command is next.
///
/// After each command, the store checks the indexes: every live session must be in the indexes of its
/// owner and of its links (I8).
pub(crate) type Steps = Intercepted<MapStore, Turns>;

#[derive(Default)]
pub(crate) struct Turns {
    keys: Mutex<HashSet<SessionKey>>,
    indexes: Mutex<HashSet<IndexKey>>,
    alone: Mutex<()>,
}

pub(crate) fn steps() -> Steps {
    Intercepted::new(MapStore::default(), Turns::default())
}

impl Turns {
    fn live(&self, store: &MapStore, now: Timestamp) -> Vec<(SessionKey, Arc<Record>)> {
        let keys: Vec<_> = self.keys.lock().expect("no holder panics").iter().copied().collect();
        let mut live = Vec::new();
        for key in keys {
            if let Ok(Some(Entry::Session(record))) = run(store.load(&key, now)) {
                live.push((key, record));
            }
        }
        live
    }
}

#[session_core::async_trait]
impl Intercept<MapStore> for Turns {
    /// Waits for the turn of the command, performs it, and checks the sessions.
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        turn().await;
        self.keys.lock().expect("no holder panics").extend(operation.keys());
        self.indexes.lock().expect("no holder panics").extend(operation.indexes());
        // The map never waits, so another request cannot come between.
        let _alone = self.alone.lock().expect("no holder panics");
        let answer = run(operation.perform(store, now));
        for (key, record) in self.live(store, now) {
            for index in record.index_keys() {
                let entries = run(store.entries(&index, now)).expect("a map does not fail");
                let is_entered = entries.iter().any(|entry| entry.key == key);
                assert!(is_entered, "{key} is live and not in the index {index}");
            }
        }
        answer
    }

    /// Another request may come between two steps.
    fn splits(&self) -> bool {
        true
    }
}

/// Read access to the content of [`Steps`], without a turn.
pub(crate) trait Look {
    fn live(&self, now: Timestamp) -> Vec<(SessionKey, Arc<Record>)>;
    fn entered(&self, owner: &str, now: Timestamp) -> Vec<SessionKey>;
    fn count_entered(&self, now: Timestamp) -> usize;
}

impl Look for Steps {
    /// Returns all live sessions.
    fn live(&self, now: Timestamp) -> Vec<(SessionKey, Arc<Record>)> {
        self.intercept().live(self.store(), now)
    }

    /// Returns the keys in an owner's index.
    fn entered(&self, owner: &str, now: Timestamp) -> Vec<SessionKey> {
        let entries = run(self.store().entries(&Owner::from(owner).key(), now));
        entries.expect("a map does not fail").iter().map(|entry| entry.key).collect()
    }

    /// Returns the number of entries in all indexes.
    fn count_entered(&self, now: Timestamp) -> usize {
        let indexes = self.intercept().indexes.lock().expect("no holder panics").clone();
        let entries = |index| run(self.store().entries(index, now)).expect("a map does not fail");
        indexes.iter().map(|index| entries(index).len()).sum()
    }
}

/// A clock that moves on a little at each poll of a sleeping request.
#[derive(Debug)]
pub(crate) struct StepClock(pub(crate) ManualClock);

impl StepClock {
    /// The time between two polls.
    pub(crate) const STEP: Duration = Duration::from_millis(50);
}

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, span: Duration) -> Sleep<'_> {
        let end = self.now() + span;
        Box::pin(std::future::poll_fn(move |context| {
            let left = end.since(self.now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.0.advance(left.min(Self::STEP));
            context.waker().wake_by_ref();
            Poll::Pending
        }))
    }
}

/// Runs some requests in every order of their commands, up to a length. `make` creates the world
/// and the requests anew for each order, and `check` examines the answers and the world.
///
/// Each number in the order is the request of the next command.
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

/// Runs a future that waits only for its turn.
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

/// Waits once, as before a command.
pub(crate) async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
