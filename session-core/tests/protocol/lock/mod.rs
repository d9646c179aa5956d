//! The lock: one request after another, and no changes from a request that lost its lease.

mod fencing;
mod interleaved;
mod letting_go;
mod moving;
mod payment;
mod turns;

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_core::{
    Clock as _, CookieChange, Entry, Lifetime, ManualClock, Session, SessionError, SessionId,
    Sessions, StoreErrorKind, Timestamp,
};

use crate::support::{Fault, MILLISECOND, NOTE, SECOND, VISITS, Verb, World, told};

type Result<T = (), E = SessionError> = std::result::Result<T, E>;

const LEASE: Duration = Duration::from_secs(10);
const NO_WAIT: Duration = Duration::ZERO;

/// Waits for a future while the clock moves on by one millisecond at a time. Returns the duration
/// too.
async fn with_time<T>(world: &World, future: impl Future<Output = T>) -> (T, Duration) {
    let begin = world.sessions_now();
    let mut future = pin!(future);
    loop {
        tokio::select! {
            biased;
            answer = &mut future => return (answer, world.sessions_now().since(begin)),
            () = tokio::task::yield_now() => world.wait(MILLISECOND),
        }
    }
}

/// Takes the lock, runs the work, and drops the request before the work returns. This happens if
/// the client disconnects, or the process dies.
async fn cancelled_after(session: &Session, work: impl AsyncFnOnce()) {
    let is_at_work = AtomicBool::new(false);
    let locked = session.locked(NO_WAIT, async || {
        work().await;
        is_at_work.store(true, Ordering::Relaxed);
        pending::<Result>().await
    });
    let mut locked = pin!(locked);
    for _ in 0..1_000 {
        tokio::select! {
            biased;
            result = &mut locked => panic!("the work never returns: {result:?}"),
            () = tokio::task::yield_now() => {}
        }
        if is_at_work.load(Ordering::Relaxed) {
            return;
        }
    }
    panic!("the work does not begin");
}

fn is_locked<T>(result: &Result<T>) -> bool {
    matches!(result, Err(SessionError::Locked))
}

fn is_lost<T>(result: &Result<T>) -> bool {
    matches!(result, Err(SessionError::LeaseLost))
}

async fn add_visit(session: &Session) -> Result {
    session.locked(NO_WAIT, async || add(session, 1)).await
}

fn add(session: &Session, more: u64) -> Result {
    session.update(VISITS, move |visits| *visits += more).map(drop)
}

/// Returns `true` if a request of another process could take the lock now.
async fn is_free(world: &World, id: &SessionId) -> bool {
    let session = world.other_process().open(id).await;
    match session.locked(NO_WAIT, async || Ok(())).await {
        Ok(()) => true,
        Err(SessionError::Locked) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn visits(world: &World, id: &SessionId) -> Option<u64> {
    world.open(id).await.get(VISITS)
}
