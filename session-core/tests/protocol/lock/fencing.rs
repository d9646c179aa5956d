//! The lock: a request that lost its lease changes nothing.

use super::*;

#[tokio::test]
async fn work_longer_than_the_lease_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        add(&session, 1)?;
        for _ in 0..12 {
            world.clock.sleep(5 * SECOND).await;
            assert!(!is_free(&world, &id).await);
        }
        Ok::<_, SessionError>(())
    };
    with_time(&world, session.locked(NO_WAIT, work)).await.0.unwrap();
    assert_eq!(visits(&world, &id).await, Some(2));
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn lease_is_prolonged_again_after_a_failure() {
    // A commit with a lost answer is repeated.
    for (fault, tries) in [(Fault::DOWN, 1), (Fault::ANSWER_LOST, 2), (Fault::UNSENT, 2)] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            add(&session, 1)?;
            for number in 1..=tries {
                world.store.fail_nth(number, Verb::Commit, fault);
            }
            world.clock.sleep(3 * LEASE).await;
            assert!(!is_free(&world, &id).await);
            Ok::<_, SessionError>(())
        };
        with_time(&world, session.locked(NO_WAIT, work)).await.0.unwrap();
        assert_eq!(visits(&world, &id).await, Some(2), "{fault:?}");
    }
}

#[tokio::test]
async fn lease_is_prolonged_for_ten_minutes_at_most() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        add(&session, 1)?;
        world.clock.sleep(Sessions::MAX_LEASE).await;
        assert!(!is_free(&world, &id).await);
        world.clock.sleep(LEASE).await;
        assert!(is_free(&world, &id).await);
        Ok::<_, SessionError>(())
    };
    assert!(is_lost(&with_time(&world, session.locked(NO_WAIT, work)).await.0));
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn work_paused_for_longer_than_the_lease_stores_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    for yields in [false, true] {
        let before = visits(&world, &id).await.unwrap();
        let session = world.open(&id).await;
        let work = async || {
            add(&session, 1)?;
            world.wait(LEASE - MILLISECOND);
            session.commit().await?;
            add(&session, 1)?;
            world.wait(MILLISECOND);
            world.store.calls();
            if yields {
                // A lapsed lease is not prolonged.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        assert!(is_lost(&session.locked(NO_WAIT, work).await));
        assert_eq!(world.store.calls(), [], "no command is wasted on it");
        assert_eq!(visits(&world, &id).await, Some(before + 1));
        assert!(is_free(&world, &id).await);
    }
}

#[tokio::test]
async fn work_is_refused_after_another_request_took_the_lock() {
    for other_writes in [false, true] {
        for other_releases in [false, true] {
            let world = World::new();
            let id = world.visitor().await;
            let (session, other) = (world.open(&id).await, world.other_process().open(&id).await);
            let others_work = async || {
                if other_writes {
                    add(&other, 10).unwrap();
                    other.commit().await.unwrap();
                }
            };
            let work = async || {
                add(&session, 1)?;
                let now = world.sessions_now();
                // The clock of the other process is ahead.
                world.wait(LEASE);
                if other_releases {
                    other
                        .locked(NO_WAIT, async || {
                            others_work().await;
                            Ok::<_, SessionError>(())
                        })
                        .await?;
                } else {
                    cancelled_after(&other, others_work).await;
                }
                world.clock.set(now);
                Ok(())
            };
            let result = session.locked(NO_WAIT, work).await;
            assert!(is_lost(&result), "{result:?}");
            let added = if other_writes { 10 } else { 0 };
            assert_eq!(visits(&world, &id).await, Some(1 + added));
            assert_eq!(is_free(&world, &id).await, other_releases, "the other's lease stays");
        }
    }
}

/// The commit checks the lease again after every conflict, however long the other requests take.
#[tokio::test]
async fn lease_that_lapses_during_the_commit_is_noticed() {
    for renews in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            add(&session, 1)?;
            if renews {
                session.renew()?;
            }
            world.wait(LEASE - 2 * SECOND);
            let (other, same) = (world.other_process(), id.clone());
            world.store.before(Verb::Commit, move || async move {
                let session = other.open(&same).await;
                session.set(NOTE, "between").unwrap();
                session.commit().await.unwrap();
                other.wait(2 * SECOND);
            });
            Ok(())
        };
        assert!(is_lost(&session.locked(NO_WAIT, work).await));
        assert_eq!(visits(&world, &id).await, Some(1));
        assert_eq!(world.count().await, (1, 0), "nothing is left of the renewal");
    }
}

#[tokio::test]
async fn login_under_a_lost_lease_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.authenticate("ada")?;
        world.wait(LEASE);
        world.store.calls();
        Ok(())
    };
    assert!(is_lost(&session.locked(NO_WAIT, work).await));
    assert_eq!(world.store.calls(), [], "nothing is created in vain");
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));
    assert_eq!(world.open(&id).await.owner(), None);
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn destroy_under_a_lock_is_carried_out_lost_or_not() {
    for pause in [NO_WAIT, LEASE] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            session.set(VISITS, 2)?;
            session.destroy()?;
            session.set(NOTE, "farewell")?;
            world.wait(pause);
            Ok::<_, SessionError>(())
        };
        session.locked(NO_WAIT, work).await.unwrap();
        let new = told(session.finish().await.unwrap());
        assert!(!world.opens(&id).await);
        assert!(is_free(&world, &new).await);
        assert_eq!(world.count().await, (1, 0));
    }
}

/// A handler may answer with a notice after the loss of the lock.
#[tokio::test]
async fn request_goes_on_without_the_lock_after_it_lost_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, 2)?;
        world.wait(LEASE);
        Ok(())
    };
    assert!(is_lost(&session.locked(NO_WAIT, work).await));
    session.set(NOTE, "too slow").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("too slow"));
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn second_lock_saves_nothing_of_the_lost_one() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, 2)?;
        world.wait(LEASE);
        Ok(())
    };
    assert!(is_lost(&session.locked(NO_WAIT, work).await));
    session.locked(NO_WAIT, async || session.set(NOTE, "again")).await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note", "visits"]);
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// Setting a value to the stored one is not a change, and a replay must not make it a change.
#[tokio::test]
async fn lost_work_does_not_undo_the_next_holder() {
    for again in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let (session, other) = (world.open(&id).await, world.other_process().open(&id).await);
        let work = async || {
            session.set(VISITS, 1)?;
            world.wait(LEASE);
            other.locked(NO_WAIT, async || other.set(VISITS, 100)).await
        };
        assert!(is_lost(&session.locked(NO_WAIT, work).await));
        if again {
            let work = async || {
                assert_eq!(session.get(VISITS), Some(100));
                Ok::<_, SessionError>(())
            };
            session.locked(NO_WAIT, work).await.unwrap();
        }
        session.set(NOTE, "worth a commit").unwrap();
        let _ = session.finish().await.unwrap();
        assert_eq!(visits(&world, &id).await, Some(100), "{again}");
    }
}

#[tokio::test]
async fn clock_set_back_keeps_a_lease_for_its_length_only() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, session) = (world.open(&id).await, world.other_process().open(&id).await);
    let ask = async || session.locked(NO_WAIT, async || Ok(())).await;
    let work = async || {
        add(&holder, 1)?;
        let now = world.sessions_now().as_millis();
        world.clock.set(Timestamp::from_millis(now - 3_600_000));

        // This holds even if every other request gives up before the lease lapses.
        assert!(is_locked(&ask().await));
        world.wait(LEASE / 2);
        holder.commit().await?;
        world.wait(LEASE / 2 - MILLISECOND);
        assert!(is_locked(&ask().await));
        world.wait(MILLISECOND);
        add(&holder, 1)?;
        ask().await
    };
    let result = holder.locked(NO_WAIT, work).await;
    assert!(is_lost(&result), "{result:?}");
    assert_eq!(visits(&world, &id).await, Some(2));
}

#[tokio::test]
async fn lease_of_another_process_counts_as_it_was_given() {
    let world = World::with(|sessions| sessions.with_lease(60 * SECOND));
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    cancelled_after(&holder, async || {}).await;
    world.wait(60 * SECOND - MILLISECOND);
    assert!(!is_free(&world, &id).await, "the other process gives ten seconds");
    world.wait(MILLISECOND);
    assert!(is_free(&world, &id).await);
}
