use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use session_core::{
    Committed, Created, Entry, Revision, SessionKey, SessionStore, StoreError, Timestamp, Touched,
};

use super::MapStore;

/// A store that waits once before each command, so that who polls decides whose command is next.
#[derive(Default)]
pub(crate) struct Steps(pub(crate) MapStore);

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

async fn turn() {
    let mut waited = false;
    std::future::poll_fn(|_| {
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
        turn().await;
        self.0.create(key, entry, now).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        turn().await;
        self.0.load(key, now).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Revision,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        turn().await;
        self.0.commit(key, expected, entry, now).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        turn().await;
        self.0.touch(key, now).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        turn().await;
        self.0.delete(key, now).await
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").finish_non_exhaustive()
    }
}
