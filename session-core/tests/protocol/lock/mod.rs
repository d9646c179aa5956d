//! The lock: one request after another, and nothing stored of one that lost its turn.

mod fencing;
mod interleaved;
mod letting_go;
mod moving;
mod turns;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_core::{
    BackgroundTask, CookieChange, Entry, Lifetime, Lock, Session, SessionError, SessionId,
    Sessions, StoreErrorKind, Timestamp,
};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);
const AT_ONCE: Duration = Duration::ZERO;

/// What a test runs that requests left behind.
#[derive(Clone, Default)]
struct Spawned(Arc<Mutex<Vec<BackgroundTask>>>);

impl Spawned {
    fn world() -> (World, Self) {
        let spawned = Self::default();
        let queue = spawned.clone();
        let world = World::with(|sessions| {
            sessions.with_spawner(move |task| queue.0.lock().unwrap().push(task))
        });
        (world, spawned)
    }

    async fn run(&self) -> usize {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap());
        let count = tasks.len();
        for task in tasks {
            task.await;
        }
        count
    }
}

/// Waits for something while the clock goes on, a millisecond at a time; tells how long it took.
async fn with_time<T>(world: &World, future: impl Future<Output = T>) -> (T, Duration) {
    let begin = world.sessions_now();
    let mut future = std::pin::pin!(future);
    loop {
        tokio::select! {
            biased;
            answer = &mut future => return (answer, world.sessions_now().since(begin)),
            () = tokio::task::yield_now() => world.wait(MILLISECOND),
        }
    }
}

fn is_locked<T>(result: &Result<T, SessionError>) -> bool {
    matches!(result, Err(SessionError::Locked))
}

fn is_lost<T>(result: &Result<T, SessionError>) -> bool {
    matches!(result, Err(SessionError::LeaseLost))
}

async fn locked(session: &Session) -> Lock {
    session.lock(AT_ONCE).await.unwrap()
}

/// Tells whether another request could lock the session now, and lets go of it again.
async fn is_free(world: &World, id: &SessionId) -> bool {
    let session = world.other_process().open(id).await;
    match session.lock(AT_ONCE).await {
        Ok(lock) => lock.release().await.is_ok(),
        Err(SessionError::Locked) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn visits(world: &World, id: &SessionId) -> Option<u64> {
    world.open(id).await.get(VISITS)
}
