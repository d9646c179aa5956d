//! A lock is let go of, however its request ends.

use super::*;

#[tokio::test]
async fn a_dropped_lock_without_changes_is_released_soon() {
    let (world, spawned) = Spawned::world();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    drop(locked(&session).await);
    assert!(session.finish_without_io().is_some(), "the response waits for nothing");
    assert!(!is_free(&world, &id).await);
    assert_eq!(spawned.run().await, 1);
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn a_dropped_lock_with_changes_is_released_together_with_them() {
    let (world, spawned) = Spawned::world();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    drop(lock);
    assert_eq!(spawned.run().await, 0);
    assert!(!is_free(&world, &id).await, "the next holder must see the change");
    let _ = session.finish().await.unwrap();
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(2));
    drop(session);
    assert_eq!(spawned.run().await, 0);
}

#[tokio::test]
async fn a_request_that_is_cancelled_leaves_the_lock_and_nothing_else() {
    let (world, spawned) = Spawned::world();
    let id = world.visitor().await;
    for clones in [false, true] {
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        if clones {
            drop((lock, session.clone(), session));
        } else {
            drop(session);
            drop(lock);
        }
        assert_eq!(spawned.run().await, 1);
        assert!(is_free(&world, &id).await);
        assert_eq!(visits(&world, &id).await, Some(1));
    }
}

#[tokio::test]
async fn without_a_spawner_the_lease_of_a_cancelled_request_ends_by_itself() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    drop((locked(&session).await, session));
    assert!(!is_free(&world, &id).await);
    world.wait(LEASE);
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn a_wait_that_is_given_up_leaves_no_lock() {
    for verb in [Verb::Load, Verb::Commit] {
        let (world, spawned) = Spawned::world();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.before(verb, std::future::pending);
        tokio::select! {
            biased;
            _ = session.lock(SECOND) => panic!("the store does not answer"),
            () = tokio::task::yield_now() => {}
        }
        spawned.run().await;
        assert!(is_free(&world, &id).await);
        locked(&session).await.release().await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_whose_answer_was_lost_is_asked_for_again() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let (world, spawned) = Spawned::world();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(Verb::Commit, fault);
        locked(&session).await.release().await.unwrap();
        assert!(is_free(&world, &id).await);

        // Twice lost: not granted, and not left behind either.
        world.store.fail_nth(1, Verb::Commit, fault);
        world.store.fail_nth(2, Verb::Commit, fault);
        match session.lock(AT_ONCE).await {
            Err(SessionError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Timeout),
            other => panic!("{other:?}"),
        }
        assert_eq!(spawned.run().await, 1);
        assert!(is_free(&world, &id).await);
        session.update(VISITS, |visits| *visits += 1).unwrap();
        let _ = session.finish().await.unwrap();
        assert_eq!(visits(&world, &id).await, Some(2));
    }
}

#[tokio::test]
async fn an_outage_is_an_error_and_no_lock() {
    for verb in [Verb::Load, Verb::Commit] {
        let (world, spawned) = Spawned::world();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(verb, Fault::DOWN);
        assert!(matches!(session.lock(SECOND).await, Err(SessionError::Store(_))));
        assert_eq!(spawned.run().await, 0);
        locked(&session).await.release().await.unwrap();
    }
}

/// All that was recorded is stored, and the lease ends by itself.
#[tokio::test]
async fn a_release_that_fails_fails_no_request() {
    let (world, spawned) = Spawned::world();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let _lock = locked(&session).await;
    world.store.fail(Verb::Commit, Fault::DOWN);
    let _ = session.finish().await.unwrap();
    assert!(!is_free(&world, &id).await);
    drop((_lock, session));
    spawned.run().await;
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn discard_gives_up_the_changes_and_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    session.destroy().unwrap();
    session.discard();
    assert!(!is_free(&world, &id).await);
    lock.release().await.unwrap();
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn a_dropped_lock_that_is_not_released_yet_is_taken_up_again() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    for _ in 0..3 {
        let lock = locked(&session).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.wait(LEASE / 2);
        drop(lock);
        assert!(!is_free(&world, &id).await);
    }
    let _ = session.finish().await.unwrap();
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(4));
}

#[tokio::test]
async fn after_the_finish_there_is_no_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    let _ = session.finish().await.unwrap();
    assert_eq!(lock.expires_at(), None);
    assert!(is_free(&world, &id).await);
    assert!(matches!(session.lock(SECOND).await, Err(SessionError::Closed)));
    let others = world.open(&id).await;
    let others = locked(&others).await;
    lock.release().await.unwrap();
    assert!(!is_free(&world, &id).await, "it is another's by now");
    drop(others);
}

/// A lock that was taken after a `destroy` is on a session that does not exist yet. If the request thinks
/// better of it, another may hold the lock of the one that it goes back to.
#[tokio::test]
async fn a_lock_that_was_taken_after_a_destroy_is_lost_with_the_discard_of_that() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.destroy().unwrap();
    let lock = locked(&session).await;
    session.discard();
    let others = locked(&other).await;
    session.set(VISITS, &7).unwrap();
    assert!(is_lost(&lock.release().await));
    others.release().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn a_clone_that_asks_during_the_release_gets_a_lock_of_its_own() {
    for (changes, fails) in [(false, false), (true, false), (false, true), (true, true)] {
        let (world, spawned) = Spawned::world();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        if changes {
            session.update(VISITS, |visits| *visits += 1).unwrap();
        }
        let (begin, begun) = async_channel::bounded(1);
        let (go_on, wait) = async_channel::bounded::<()>(1);
        world.store.before(Verb::Commit, move || async move {
            begin.send(()).await.unwrap();
            wait.recv().await.unwrap();
        });
        if fails {
            world.store.fail(Verb::Commit, Fault::DOWN);
        }
        let clone = session.clone();
        let ask = async {
            begun.recv().await.unwrap();
            tokio::join!(clone.lock(AT_ONCE), async { go_on.send(()).await.unwrap() }).0
        };
        let (released, asked) = tokio::join!(lock.release(), ask);
        assert_eq!(released.is_err(), fails);
        let lock = asked.unwrap();
        assert_eq!(spawned.run().await, 0);
        assert!(lock.expires_at().is_some());
        assert!(!is_free(&world, &id).await);
        lock.release().await.unwrap();
        assert!(is_free(&world, &id).await);
        assert_eq!(visits(&world, &id).await, Some(1 + u64::from(changes)));
    }
}
