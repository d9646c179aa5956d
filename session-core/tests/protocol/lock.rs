//! The lock: the work of one request after another, and nothing stored of one that lost its lease.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use session_core::{SessionError, SessionId};

use crate::support::{NOTE, VISITS, Verb, World};

const LEASE: Duration = Duration::from_secs(10);
const MILLISECOND: Duration = Duration::from_millis(1);
const AT_ONCE: Duration = Duration::ZERO;

/// Another request, in another process, that enters if the lock is free.
async fn enter(world: &World, id: &SessionId) -> Result<(), SessionError> {
    let session = world.other_process().open(id).await;
    session.locked(AT_ONCE, async || session.set(NOTE, "entered")).await
}

/// Waits for a future while the clock goes on, and returns the time that it took.
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

#[tokio::test]
async fn lock_keeps_others_out_until_the_work_is_done() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let work = async || {
        assert!(matches!(enter(&world, &id).await, Err(SessionError::Locked)));
        holder.update(VISITS, |visits| *visits += 1)
    };
    assert_eq!(holder.locked(AT_ONCE, work).await.unwrap(), 2);
    enter(&world, &id).await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

#[tokio::test]
async fn lock_costs_a_load_and_a_commit_and_its_release_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    world.store.calls();
    session.locked(AT_ONCE, async || session.update(VISITS, |visits| *visits += 1)).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit, Verb::Commit]);
}

#[tokio::test]
async fn work_sees_what_the_former_holder_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let late = world.open(&id).await;
    enter(&world, &id).await.unwrap();
    let note = late.locked(AT_ONCE, async || Ok::<_, SessionError>(late.get(NOTE))).await;
    assert_eq!(note.unwrap().as_deref(), Some("entered"));
}

#[tokio::test]
async fn failed_work_stores_nothing_and_releases_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, &7)?;
        Err::<(), _>(SessionError::NotFresh)
    };
    assert!(matches!(session.locked(AT_ONCE, work).await, Err(SessionError::NotFresh)));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
    enter(&world, &id).await.unwrap();
}

#[tokio::test]
async fn lock_of_a_cancelled_request_lapses_with_its_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let cancelled = world.open(&id).await;
    {
        let mut locked = pin!(cancelled.locked(AT_ONCE, async || {
            std::future::pending::<()>().await;
            Ok::<_, SessionError>(())
        }));
        for _ in 0..8 {
            let _ = poll_fn(|context| Poll::Ready(locked.as_mut().poll(context))).await;
        }
    }
    assert!(matches!(enter(&world, &id).await, Err(SessionError::Locked)));
    world.wait(LEASE);
    enter(&world, &id).await.unwrap();
}

#[tokio::test]
async fn work_of_a_request_that_lost_its_lease_is_not_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let paused = world.open(&id).await;
    let work = async || {
        // The process stands still: nothing prolongs the lease.
        world.wait(LEASE);
        enter(&world, &id).await?;
        paused.set(VISITS, &7)
    };
    assert!(matches!(paused.locked(AT_ONCE, work).await, Err(SessionError::LeaseLost)));
    let session = world.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert_eq!(session.get(NOTE).as_deref(), Some("entered"));
}

#[tokio::test]
async fn work_that_takes_longer_than_the_lease_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let slow = world.open(&id).await;
    let end = world.sessions_now() + 3 * LEASE;
    let work = async || {
        while world.sessions_now() < end {
            tokio::task::yield_now().await;
        }
        assert!(matches!(enter(&world, &id).await, Err(SessionError::Locked)));
        slow.set(VISITS, &7)
    };
    with_time(&world, slow.locked(AT_ONCE, work)).await.0.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(7));
}

#[tokio::test]
async fn request_waits_as_long_as_it_was_told_and_asks_seldom() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let work = async || {
        let waiting = world.open(&id).await;
        world.store.calls();
        let wait = Duration::from_secs(3);
        let locked = waiting.locked(wait, async || Ok::<_, SessionError>(()));
        let (result, waited) = with_time(&world, locked).await;
        assert!(matches!(result, Err(SessionError::Locked)), "{result:?}");
        assert_eq!(waited, wait);
        let loads = world.store.calls().iter().filter(|verb| **verb == Verb::Load).count();
        assert!(loads <= 5 * 3 + 1, "{loads} loads in 3 s");
        Ok::<_, SessionError>(())
    };
    holder.locked(AT_ONCE, work).await.unwrap();
}

#[tokio::test]
async fn request_that_locks_twice_is_refused() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        let again = session.clone();
        let inner = again.locked(Duration::from_secs(1), async || Ok::<_, SessionError>(())).await;
        assert!(matches!(inner, Err(SessionError::AlreadyLocked)));
        Ok::<_, SessionError>(())
    };
    session.locked(AT_ONCE, work).await.unwrap();
}

/// A double click on "pay".
#[tokio::test]
async fn slow_work_of_two_requests_is_done_once() {
    let world = World::new();
    let id = world.visitor().await;
    let charged = std::sync::atomic::AtomicUsize::new(0);
    let click = async || {
        let session = world.open(&id).await;
        let work = async || {
            if session.get(NOTE).is_none() {
                for _ in 0..2_000 {
                    tokio::task::yield_now().await;
                }
                charged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                session.set(NOTE, "paid")?;
            }
            Ok::<_, SessionError>(())
        };
        session.locked(Duration::from_secs(60), work).await
    };
    let (answers, _) = with_time(&world, async { tokio::join!(click(), click()) }).await;
    answers.0.unwrap();
    answers.1.unwrap();
    assert_eq!(charged.into_inner(), 1);
}
