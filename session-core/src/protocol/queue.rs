use std::{
    collections::HashMap,
    sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError},
};

use futures_util::lock::{Mutex, OwnedMutexGuard};

use crate::{SessionKey, Timestamp};

/// A queue per session: requests of different sessions never wait for each other (I13).
///
/// The requests of a queue share one instant, which lives as long as the queue has a request.
#[derive(Default)]
pub(super) struct KeyedQueue(SyncMutex<HashMap<SessionKey, Arc<Mutex<Timestamp>>>>);

impl KeyedQueue {
    /// Waits for the request's turn in the queue of a session.
    pub(super) async fn turn(&self, key: SessionKey) -> Turn<'_> {
        let mutex = Arc::clone(self.waiting().entry(key).or_default());
        // The turn exists before the wait: if the request stops waiting, the turn's drop removes an
        // empty queue.
        let mut turn = Turn { queue: self, key, mutex: Arc::clone(&mutex), guard: None };
        turn.guard = Some(mutex.lock_owned().await);
        turn
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Mutex<Timestamp>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a request, or its place in the queue. The drop of a turn lets the next request go
/// on.
pub(crate) struct Turn<'q> {
    queue: &'q KeyedQueue,
    key: SessionKey,
    mutex: Arc<Mutex<Timestamp>>,
    guard: Option<OwnedMutexGuard<Timestamp>>,
}

impl Turn<'_> {
    /// The instant before which the requests of the queue do not ask the store.
    pub(crate) fn next_question(&self) -> Timestamp {
        self.guard.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn set_next_question(&mut self, at: Timestamp) {
        if let Some(shared) = &mut self.guard {
            **shared = at;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut waiting = self.queue.waiting();
        // Only the map and this turn hold the mutex: this request was the last in the queue.
        if Arc::strong_count(&self.mutex) == 2 {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future as _, pin::pin, task::Context};

    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn queue_forgets_a_session_without_waiting_requests() {
        let queue = KeyedQueue::default();
        let key = SessionKey::from_bytes([1; 16]);
        let mut context = Context::from_waker(noop_waker_ref());
        {
            let mut first = pin!(queue.turn(key));
            let mut second = Box::pin(queue.turn(key));
            let std::task::Poll::Ready(turn) = first.as_mut().poll(&mut context) else {
                panic!("the first turn does not wait");
            };
            assert!(second.as_mut().poll(&mut context).is_pending());
            assert_eq!(queue.waiting().len(), 1);
            drop(second);
            assert_eq!(queue.waiting().len(), 1);
            drop(turn);
        }
        assert!(queue.waiting().is_empty());
    }
}
