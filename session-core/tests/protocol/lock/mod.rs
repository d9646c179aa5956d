//! The lock: one request works after another, and a request that lost the lock stores nothing.

mod fencing;
mod interleaved;
mod letting_go;
mod moving;
mod turns;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use session_core::{Entry, Key, Session, SessionError, SessionId, Sessions};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(10);

/// Waits for a future while the clock goes on, a millisecond at a time. Returns the time it took.
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

/// Tries once to lock the session, and does nothing under the lock.
async fn try_lock(session: &Session, wait: Duration) -> Result<(), SessionError> {
    session.locked(wait, async || Ok(())).await
}

/// Adds a visit under the lock, and then is cancelled.
async fn cancel_under_lock(session: &Session) {
    let has_begun = AtomicUsize::new(0);
    let work = async || -> Result<(), SessionError> {
        session.update(VISITS, |visits| *visits += 1)?;
        has_begun.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    };
    tokio::select! {
        biased;
        ended = session.locked(Duration::ZERO, work) => panic!("{ended:?}"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(has_begun.into_inner(), 1);
}

/// Returns `true` if a request of another process could lock the session now.
async fn is_free(world: &World, id: &SessionId) -> bool {
    match try_lock(&world.other_process().open(id).await, Duration::ZERO).await {
        Ok(()) => true,
        Err(SessionError::Locked) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn visits(world: &World, id: &SessionId) -> Option<u64> {
    world.open(id).await.get(VISITS)
}
