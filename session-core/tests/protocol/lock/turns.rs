//! One request after another.

use super::*;

#[tokio::test]
async fn a_lock_keeps_others_out_until_it_is_released() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let lock = locked(&holder).await;
    assert_eq!(lock.expires_at(), Some(world.sessions_now() + LEASE));
    assert!(!is_free(&world, &id).await);
    lock.release().await.unwrap();
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn the_next_holder_sees_what_the_one_before_committed_and_keeps_its_own_changes() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(NOTE, &"mine".to_owned()).unwrap();
    second.update(VISITS, |visits| *visits += 10).unwrap();
    let lock = locked(&first).await;
    first.set(VISITS, &5).unwrap();
    lock.release().await.unwrap();

    let lock = locked(&second).await;
    assert_eq!(second.get(VISITS), Some(15), "done anew on what is stored");
    assert_eq!(second.get(NOTE).as_deref(), Some("mine"));
    assert_eq!(visits(&world, &id).await, Some(5), "and not committed yet");
    lock.release().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(15));
}

/// A value that was set to what it was is worth a commit if it is something else by the lock.
#[tokio::test]
async fn a_value_set_before_the_lock_is_stored_even_if_it_changed_nothing_then() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(VISITS, &1).unwrap();
    first.set(VISITS, &5).unwrap();
    let _ = first.finish().await.unwrap();
    let lock = locked(&second).await;
    assert_eq!(second.get(VISITS), Some(1));
    drop(lock);
    let _ = second.finish().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn a_lock_costs_a_load_and_a_commit_and_its_release_nothing_if_the_request_writes() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    world.store.calls();
    let lock = locked(&session).await;
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    drop(lock);
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit]);
    assert_eq!(visits(&world, &id).await, Some(2));

    // Without anything to write: one.
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    world.store.calls();
    lock.release().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit]);
    assert!(session.finish_without_io().is_some());
    assert!(is_free(&world, &id).await);

    // With the request's finish.
    let session = world.open(&id).await;
    let _lock = locked(&session).await;
    world.store.calls();
    assert!(session.finish_without_io().is_none());
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit]);
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn one_request_asks_twice_and_is_told_at_once() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    for same in [&session, &session.clone()] {
        assert!(matches!(same.lock(SECOND).await, Err(SessionError::AlreadyLocked)));
    }
    lock.release().await.unwrap();
    locked(&session).await.release().await.unwrap();
}

#[tokio::test]
async fn a_clone_that_asks_while_the_first_waits_is_told_at_once() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, session) = (world.open(&id).await, world.open(&id).await);
    let lock = locked(&holder).await;
    let clone = session.clone();
    let ask = async {
        tokio::task::yield_now().await;
        let asked = world.sessions_now();
        assert!(matches!(clone.lock(SECOND).await, Err(SessionError::AlreadyLocked)));
        assert_eq!(world.sessions_now(), asked);
        // Nor does the wait keep it from committing.
        clone.set(NOTE, &"meanwhile".to_owned()).unwrap();
        clone.commit().await.unwrap();
        lock.release().await.unwrap();
    };
    let ((granted, ()), _) =
        with_time(&world, async { tokio::join!(session.lock(SECOND), ask) }).await;
    granted.unwrap().release().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("meanwhile"));
}

#[tokio::test]
async fn waiting_ends_when_it_was_told_to() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let _lock = locked(&holder).await;
    for wait in [AT_ONCE, MILLISECOND, 7 * MILLISECOND, 500 * MILLISECOND, 5 * SECOND] {
        let session = world.open(&id).await;
        world.store.calls();
        let (result, waited) = with_time(&world, session.lock(wait)).await;
        assert!(is_locked(&result), "{result:?}");
        assert_eq!(waited, wait);
        let loads = world.store.calls().len();
        // Every 100 ms at the least frequent, every 50 ms at the most, and some more at the start.
        let most = 8 + usize::try_from(wait.as_millis()).unwrap() / 50;
        assert!(loads <= most, "{loads} commands in {wait:?}");
    }
}

#[tokio::test]
async fn a_lock_that_is_not_released_ends_by_itself() {
    let world = World::new();
    let id = world.visitor().await;
    let killed = world.open(&id).await;
    std::mem::forget((locked(&killed).await, killed.clone()));
    let session = world.open(&id).await;
    let (granted, waited) = with_time(&world, session.lock(2 * LEASE)).await;
    assert_eq!(waited, LEASE, "not a moment longer than the lease");
    granted.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_clock_set_back_does_not_make_a_wait_longer() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, session) = (world.open(&id).await, world.open(&id).await);
    let _lock = locked(&holder).await;
    let steps = AtomicUsize::new(0);
    let mut lock = std::pin::pin!(session.lock(SECOND));
    let result = loop {
        tokio::select! {
            biased;
            result = &mut lock => break result,
            () = tokio::task::yield_now() => {
                world.wait(100 * MILLISECOND);
                if steps.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                    let now = world.sessions_now().as_millis();
                    world.clock.set(Timestamp::from_millis(now - 100));
                }
            }
        }
    };
    assert!(is_locked(&result));
    assert!(steps.into_inner() < 100);
}

#[tokio::test]
async fn requests_that_do_not_lock_are_merged_as_ever_and_leave_the_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, before) = (world.open(&id).await, world.open(&id).await);
    let lock = locked(&holder).await;
    holder.update(VISITS, |visits| *visits += 1).unwrap();
    before.update(VISITS, |visits| *visits += 10).unwrap();
    let _ = before.finish().await.unwrap();
    let during = world.open(&id).await;
    during.update(VISITS, |visits| *visits += 100).unwrap();
    let _ = during.finish().await.unwrap();
    assert!(!is_free(&world, &id).await);
    lock.release().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(112));
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn a_commit_on_the_way_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    for visits in 2..5 {
        session.update(VISITS, |visits| *visits += 1).unwrap();
        session.commit().await.unwrap();
        assert_eq!(world.open(&id).await.get(VISITS), Some(visits));
        assert!(!is_free(&world, &id).await);
    }
    lock.release().await.unwrap();
    assert!(is_free(&world, &id).await);
}

#[test]
fn a_lease_has_bounds() {
    let text = |lease| {
        let sessions = Sessions::new(crate::support::Probe::default());
        sessions.with_lease(lease).map(drop).unwrap_err().to_string()
    };
    insta::assert_snapshot!(text(AT_ONCE), @"a lease of 0ns is not between 1 ms and 600s");
    insta::assert_snapshot!(text(601 * SECOND), @"a lease of 601s is not between 1 ms and 600s");
}

#[tokio::test]
async fn a_record_tells_until_when_it_is_locked() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    let Some(Entry::Live(record)) = world.stored(&id).await else { panic!("it is there") };
    assert_eq!(record.locked_until(), lock.expires_at());
    lock.release().await.unwrap();
    let Some(Entry::Live(record)) = world.stored(&id).await else { panic!("it is there") };
    assert_eq!(record.locked_until(), None);
}
