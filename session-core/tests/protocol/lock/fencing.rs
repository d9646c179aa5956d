//! Nothing is stored of a request that lost its turn.

use super::*;

#[tokio::test]
async fn work_under_a_lease_that_ended_is_refused_and_nothing_of_it_is_stored() {
    let world = World::new();
    for finish in [false, true] {
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.wait(LEASE - MILLISECOND);
        session.commit().await.unwrap();
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.wait(MILLISECOND);
        world.store.calls();
        if finish {
            drop(lock);
            assert!(is_lost(&session.finish().await));
        } else {
            assert!(is_lost(&lock.release().await));
        }
        assert_eq!(world.store.calls(), [], "no command is wasted on it");
        // And not by trying again.
        assert!(is_lost(&session.commit().await));
        assert!(is_lost(&session.finish().await));
        assert_eq!(visits(&world, &id).await, Some(2));
        assert!(is_free(&world, &id).await);
    }
}

#[tokio::test]
async fn work_under_a_lease_that_another_took_over_is_refused() {
    let world = World::new();
    let id = world.visitor().await;
    for other_writes in [false, true] {
        for other_releases in [false, true] {
            let before = visits(&world, &id).await.unwrap();
            let (session, other) = (world.open(&id).await, world.open(&id).await);
            let lock = locked(&session).await;
            session.update(VISITS, |visits| *visits += 1).unwrap();
            // The other's clock is ahead.
            world.wait(LEASE);
            let others = locked(&other).await;
            if other_writes {
                other.update(VISITS, |visits| *visits += 10).unwrap();
                other.commit().await.unwrap();
            }
            if other_releases {
                others.release().await.unwrap();
            } else {
                std::mem::forget(others);
            }
            world.clock.set(Timestamp::from_millis(world.sessions_now().as_millis() - 5_000));

            drop(lock);
            assert!(is_lost(&session.finish().await));
            let added = if other_writes { 10 } else { 0 };
            assert_eq!(visits(&world, &id).await, Some(before + added));
            world.wait(2 * LEASE);
        }
    }
}

/// The lease is looked at again after every conflict, however long the others take.
#[tokio::test]
async fn a_lease_that_ends_during_the_commit_is_noticed_at_the_replay() {
    let world = World::new();
    let id = world.visitor().await;
    for rotates in [false, true] {
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        if rotates {
            session.renew().unwrap();
        }
        world.wait(LEASE - 2 * SECOND);
        let (other, same) = (world.other_process(), id.clone());
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&same).await;
            session.set(NOTE, &format!("{rotates}")).unwrap();
            session.commit().await.unwrap();
            other.wait(2 * SECOND);
        });
        drop(lock);
        assert!(is_lost(&session.finish().await));
        assert_eq!(visits(&world, &id).await, Some(1));
        assert_eq!(world.count().await, (1, 0), "nothing is left of the rotation");
        world.wait(LEASE);
    }
}

#[tokio::test]
async fn a_login_under_a_lost_lease_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.authenticate("ada").unwrap();
    world.wait(LEASE);
    drop(lock);
    world.store.calls();
    assert!(is_lost(&session.finish().await));
    assert_eq!(world.store.calls(), [], "nothing is created in vain");
    assert!(matches!(session.untold_cookie(), CookieChange::Keep));
    assert_eq!(world.open(&id).await.owner(), None);
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn a_destroy_under_a_lock_is_carried_out_lost_or_not() {
    for wait in [AT_ONCE, LEASE] {
        let (world, spawned) = Spawned::world();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        session.set(VISITS, &2).unwrap();
        session.destroy().unwrap();
        session.set(NOTE, &"farewell".to_owned()).unwrap();
        world.wait(wait);
        drop(lock);
        let new = told(session.finish().await.unwrap());
        assert!(!world.opens(&id).await);
        assert!(is_free(&world, &new).await);
        drop(session);
        assert_eq!(spawned.run().await, 0);
        assert_eq!(world.count().await, (1, 0));
    }
}

#[tokio::test]
async fn discard_recovers_from_a_lost_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    world.wait(LEASE);
    assert!(is_lost(&lock.release().await));
    session.discard();
    let lock = locked(&session).await;
    session.set(NOTE, &"again".to_owned()).unwrap();
    lock.release().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note", "visits"]);
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// For a handler that answers with a notice instead.
#[tokio::test]
async fn discard_after_a_lost_lease_goes_on_without_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    world.wait(LEASE);
    assert!(is_lost(&lock.release().await));
    session.discard();
    session.set(NOTE, &"too slow".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("too slow"));
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// What was done under the lock goes on to be refused while that is held, discarded or not.
#[tokio::test]
async fn discard_under_a_lost_lock_that_is_held_stores_nothing_before_it_is_let_go() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    world.wait(LEASE);
    assert!(is_lost(&session.commit().await));
    session.discard();
    session.set(VISITS, &3).unwrap();
    assert!(is_lost(&session.commit().await));
    session.discard();
    drop(lock);
    session.set(NOTE, &"too slow".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("too slow"));
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// What was recorded under a lease that was lost must not be stored under the next one.
#[tokio::test]
async fn a_new_lock_does_not_save_what_was_recorded_under_a_lost_one() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    drop(lock);
    world.wait(LEASE);
    assert!(is_lost(&session.lock(AT_ONCE).await));
    assert!(is_lost(&session.finish().await));
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// Nor what only confirmed what was stored then, whether a new lock is taken or not.
#[tokio::test]
async fn what_a_lost_lock_confirmed_does_not_undo_what_the_next_holder_stored() {
    for spawner in [false, true] {
        for again in [false, true] {
            let world = if spawner { Spawned::world().0 } else { World::new() };
            let id = world.visitor().await;
            let (session, other) = (world.open(&id).await, world.open(&id).await);
            let lock = locked(&session).await;
            session.set(VISITS, &1).unwrap();
            world.wait(LEASE);
            let others = locked(&other).await;
            other.set(VISITS, &100).unwrap();
            others.release().await.unwrap();
            drop(lock);
            if again {
                let lock = locked(&session).await;
                assert_eq!(session.get(VISITS), Some(100));
                lock.release().await.unwrap();
            }
            session.set(NOTE, &"worth a commit".to_owned()).unwrap();
            let _ = session.finish().await.unwrap();
            assert_eq!(visits(&world, &id).await, Some(100), "{spawner} {again}");
        }
    }
}

/// The lock that was dropped, and is not released yet, says nothing of it.
#[tokio::test]
async fn what_was_confirmed_between_two_locks_is_done_again_under_the_second() {
    for wait in [AT_ONCE, LEASE] {
        let world = World::new();
        let id = world.visitor().await;
        let (session, other) = (world.open(&id).await, world.open(&id).await);
        drop(locked(&session).await);
        session.set(VISITS, &1).unwrap();
        other.set(VISITS, &100).unwrap();
        let _ = other.finish().await.unwrap();
        world.wait(wait);
        locked(&session).await.release().await.unwrap();
        assert_eq!(visits(&world, &id).await, Some(1));
    }
}

#[tokio::test]
async fn discard_settles_a_loss_that_no_commit_has_noticed() {
    for discard_first in [false, true] {
        for taken_over in [false, true] {
            let world = World::new();
            let id = world.visitor().await;
            let (session, other) = (world.open(&id).await, world.open(&id).await);
            let lock = locked(&session).await;
            session.set(VISITS, &2).unwrap();
            world.wait(LEASE);
            if taken_over {
                other.update(VISITS, |visits| *visits += 10).unwrap();
                locked(&other).await.release().await.unwrap();
            }
            if discard_first {
                session.discard();
                drop(lock);
            } else {
                drop(lock);
                session.discard();
            }
            session.set(NOTE, &"try again later".to_owned()).unwrap();
            let _ = session.finish().await.unwrap();
            assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("try again later"));
            assert_eq!(visits(&world, &id).await, Some(if taken_over { 11 } else { 1 }));
        }
    }
}

/// Another clock may say that the lease has not ended.
#[tokio::test]
async fn discard_settles_a_loss_that_the_lock_told() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let lock = locked(&session).await;
    session.set(VISITS, &2).unwrap();
    let now = world.sessions_now();
    world.wait(LEASE);
    drop(lock);
    assert!(is_lost(&session.lock(AT_ONCE).await));
    let other = world.open(&id).await;
    locked(&other).await.release().await.unwrap();
    world.clock.set(now);
    session.discard();
    session.set(NOTE, &"try again later".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("try again later"));
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// One whose lease goes on is released by the request's end.
#[tokio::test]
async fn discard_after_a_lock_was_dropped_in_time_leaves_its_release_to_the_finish() {
    let world = World::new();
    let id = world.visitor().await;
    for ended in [false, true] {
        let session = world.open(&id).await;
        let lock = locked(&session).await;
        session.set(VISITS, &2).unwrap();
        if ended {
            // Its lease is that of the session which the discard goes back to.
            session.destroy().unwrap();
        }
        drop(lock);
        session.discard();
        assert!(!is_free(&world, &id).await);
        let _ = session.finish().await.unwrap();
        assert!(is_free(&world, &id).await);
        assert_eq!(visits(&world, &id).await, Some(1));
    }
}

#[tokio::test]
async fn a_clock_set_back_keeps_a_lease_for_its_length_and_no_longer() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, session) = (world.open(&id).await, world.open(&id).await);
    let lock = locked(&holder).await;
    holder.update(VISITS, |visits| *visits += 1).unwrap();
    let now = world.sessions_now().as_millis();
    world.clock.set(Timestamp::from_millis(now - 3_600_000));

    // Also where nobody waits long enough to see it end.
    assert!(is_locked(&session.lock(AT_ONCE).await));
    world.wait(LEASE / 2);
    holder.commit().await.unwrap();
    world.wait(LEASE / 2 - MILLISECOND);
    assert!(is_locked(&session.lock(AT_ONCE).await));
    world.wait(MILLISECOND);
    let others = locked(&session).await;
    assert_eq!(session.get(VISITS), Some(2));
    holder.update(VISITS, |visits| *visits += 1).unwrap();
    drop(lock);
    assert!(is_lost(&holder.finish().await));
    others.release().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(2));
}

#[tokio::test]
async fn a_lease_of_another_length_counts_as_it_was_given() {
    let world = World::with(|sessions| sessions.with_lease(60 * SECOND).unwrap());
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let lock = locked(&holder).await;
    world.wait(59 * SECOND);
    assert!(!is_free(&world, &id).await, "the other process gives ten seconds");
    lock.release().await.unwrap();
}
