//! The lock is released, however the work ends.

use super::*;

#[tokio::test]
async fn failed_work_is_discarded_and_releases() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, 2)?;
        Err::<(), _>(SessionError::Contended)
    };
    let result = session.locked(SECOND, work).await;
    assert!(matches!(result, Err(SessionError::Contended)), "the work's own error: {result:?}");
    assert!(is_free(&world, &id).await);
    let _ = session.finish().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn lock_of_a_cancelled_request_lapses() {
    let world = World::new();
    let id = world.visitor().await;
    let cancelled = world.open(&id).await;
    cancel_under_lock(&cancelled).await;
    let next = world.open(&id).await;
    let (entered, waited) = with_time(&world, try_lock(&next, 2 * LEASE)).await;
    entered.unwrap();
    assert_eq!(waited, LEASE, "no longer than the lease");
    let finished = cancelled.finish().await;
    assert!(matches!(finished, Err(SessionError::LeaseLost)), "{finished:?}");
    assert_eq!(visits(&world, &id).await, Some(1), "its changes were not committed");
}

#[tokio::test]
async fn wait_that_is_cancelled_lets_the_next_request_enter() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting, next) =
        (world.open(&id).await, world.open(&id).await, world.open(&id).await);
    let work = async || {
        tokio::select! {
            biased;
            ended = try_lock(&waiting, SECOND) => panic!("{ended:?}"),
            () = tokio::task::yield_now() => {}
        }
        Ok::<_, SessionError>(())
    };
    holder.locked(SECOND, work).await.unwrap();
    try_lock(&next, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn lost_answers_do_not_lose_the_lock() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        for nth in [1, 2] {
            let world = World::new();
            let id = world.visitor().await;
            let session = world.open(&id).await;
            world.store.fail_nth(nth, Verb::Commit, fault);
            let work = async || session.update(VISITS, |visits| *visits += 1);
            session.locked(SECOND, work).await.unwrap();
            assert!(is_free(&world, &id).await, "{fault:?} of commit {nth}");
            assert_eq!(visits(&world, &id).await, Some(2), "{fault:?} of commit {nth}");
        }
    }
}

#[tokio::test]
async fn outage_is_an_error_and_does_no_work() {
    for verb in [Verb::Load, Verb::Commit] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(verb, Fault::DOWN);
        let work = async || -> Result<(), SessionError> { panic!("the lock is not held") };
        let result = session.locked(SECOND, work).await;
        assert!(matches!(result, Err(SessionError::Store(_))), "{result:?}");
        try_lock(&session, SECOND).await.unwrap();
    }
}
