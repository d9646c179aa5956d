//! The lock: requests hold it one after another.

use super::*;

#[tokio::test]
async fn lock_keeps_others_out_while_the_work_runs() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    let work = async || {
        assert!(!is_free(&world, &id).await);
        Ok::<_, SessionError>("done")
    };
    assert_eq!(holder.locked(NO_WAIT, work).await.unwrap(), "done");
    assert!(is_free(&world, &id).await);
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn earlier_changes_are_committed_before_the_lock_is_taken() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "before").unwrap();
    let work = async || {
        assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("before"));
        Err::<(), _>(SessionError::NotFresh)
    };
    assert!(session.locked(NO_WAIT, work).await.is_err());
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("before"));
}

#[tokio::test]
async fn work_sees_the_changes_of_the_former_holder() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(NOTE, "mine").unwrap();
    first.locked(NO_WAIT, async || first.set(VISITS, 5)).await.unwrap();
    let work = async || {
        assert_eq!(second.get(VISITS), Some(5));
        assert_eq!(second.get(NOTE).as_deref(), Some("mine"));
        add(&second, 10)
    };
    second.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(15));
}

/// If the value is another one when the request takes the lock, setting it is a change.
#[tokio::test]
async fn value_set_before_the_lock_is_no_change_to_the_work() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(VISITS, 1).unwrap();
    first.set(VISITS, 5).unwrap();
    let _ = first.finish().await.unwrap();
    let work = async || {
        assert_eq!(second.get(VISITS), Some(5));
        second.set(VISITS, 1)
    };
    second.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(1));
}

#[tokio::test]
async fn lock_costs_a_load_and_a_commit_and_its_release_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    world.store.calls();
    let work = async || {
        assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
        add(&session, 1)
    };
    session.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit], "the changes and the release in one step");
    assert_eq!(visits(&world, &id).await, Some(2));
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn release_without_changes_costs_one_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        world.store.calls();
        Ok::<_, SessionError>(())
    };
    session.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit]);
    assert!(session.try_finish().is_some(), "the response waits for nothing");
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn request_that_holds_the_lock_is_refused_a_second_one() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        for same in [&session, &session.clone()] {
            let again = same.locked(SECOND, async || Ok(())).await;
            assert!(matches!(again, Err(SessionError::AlreadyLocked)));
        }
        Ok::<_, SessionError>(())
    };
    session.locked(NO_WAIT, work).await.unwrap();
    add_visit(&session).await.unwrap();
}

#[tokio::test]
async fn clone_that_commits_meanwhile_does_not_disturb_a_waiting_one() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, session) = (world.open(&id).await, world.open(&id).await);
    let clone = session.clone();
    let holding = holder.locked(NO_WAIT, async || {
        tokio::task::yield_now().await;
        clone.set(NOTE, "meanwhile")?;
        clone.commit().await
    });
    let waiting = session.locked(SECOND, async || add(&session, 1));
    // The first request is at work when the second asks for the lock.
    let ((held, waited), _) = with_time(&world, async { tokio::join!(holding, waiting) }).await;
    held.unwrap();
    waited.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("meanwhile"));
    assert_eq!(visits(&world, &id).await, Some(2));
}

#[tokio::test]
async fn wait_lasts_as_long_as_it_was_given() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    for other_process in [false, true] {
        let other = world.other_process();
        let asking = if other_process { &other } else { &world };
        let work = async || {
            for wait in [NO_WAIT, MILLISECOND, 7 * MILLISECOND, 500 * MILLISECOND, 25 * SECOND] {
                let session = asking.open(&id).await;
                let work = async || -> Result { panic!("the lock is held") };
                let (result, waited) = with_time(&world, session.locked(wait, work)).await;
                assert!(is_locked(&result), "{result:?}");
                assert_eq!(waited, wait);
            }
            Ok::<_, SessionError>(())
        };
        holder.locked(NO_WAIT, work).await.unwrap();
    }
}

/// Returns the instants at which a request asked the store for the lock.
async fn questions(world: &World, future: impl Future<Output = Result>) -> Vec<Timestamp> {
    world.store.calls();
    let mut questions = Vec::new();
    let mut future = pin!(future);
    loop {
        let is_done = tokio::select! {
            biased;
            result = &mut future => {
                assert!(is_locked(&result), "{result:?}");
                true
            }
            () = tokio::task::yield_now() => false,
        };
        let calls = world.store.calls();
        assert!(calls.iter().all(|verb| *verb == Verb::Load), "{calls:?}");
        questions.extend(calls.iter().map(|_| world.sessions_now()));
        if is_done {
            return questions;
        }
        world.wait(MILLISECOND);
    }
}

/// Returns the largest number of lock requests in any second.
fn most_per_second(questions: &[Timestamp]) -> usize {
    let in_second = |from: &Timestamp| {
        questions.iter().filter(|at| *at >= from && at.since(*from) < SECOND).count()
    };
    questions.iter().map(in_second).max().unwrap_or_default()
}

#[tokio::test]
async fn waiting_request_asks_the_store_5_times_a_second_at_most() {
    let world = World::new();
    let id = world.visitor().await;
    for wait in [900 * MILLISECOND, 5 * SECOND] {
        let holder = world.open(&id).await;
        cancelled_after(&holder, async || {}).await;
        let session = world.open(&id).await;
        let questions =
            questions(&world, session.locked(wait, async || -> Result { panic!("held") })).await;
        let most = most_per_second(&questions);
        assert!((3..=5).contains(&most), "{most} a second: {questions:?}");
        world.wait(LEASE);
    }
}

#[tokio::test]
async fn waiting_requests_of_one_process_ask_as_one() {
    let world = World::new();
    let id = world.visitor().await;
    let holder = world.open(&id).await;
    cancelled_after(&holder, async || {}).await;
    // The requests arrive one after another, so their waits end one after another too.
    let mut waiting = Vec::new();
    for number in 0..50 {
        let session = world.open(&id).await;
        let clock = Arc::clone(&world.clock);
        waiting.push(async move {
            clock.sleep(number * 20 * MILLISECOND).await;
            session.locked(SECOND, async || -> Result { panic!("held") }).await
        });
    }
    let all = async {
        let results = futures_util::future::join_all(waiting).await;
        assert!(results.iter().all(is_locked), "{results:?}");
        Err(SessionError::Locked)
    };
    let questions = questions(&world, all).await;
    let most = most_per_second(&questions);
    assert!((3..=5).contains(&most), "{most} a second: {questions:?}");
}

#[tokio::test]
async fn requests_of_one_process_queue_without_asking_the_store() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting) = (world.open(&id).await, world.open(&id).await);
    let holding = holder.locked(NO_WAIT, async || {
        world.store.calls();
        world.clock.sleep(3 * SECOND).await;
        assert_eq!(world.store.calls(), [], "nobody asks while the queue is waiting");
        Ok::<_, SessionError>(())
    });
    let next = waiting.locked(5 * SECOND, async || Ok::<_, SessionError>(()));
    let ((held, waited), span) = with_time(&world, async { tokio::join!(holding, next) }).await;
    held.unwrap();
    waited.unwrap();
    assert_eq!(span, 3 * SECOND, "the next one enters in the moment of the release");
}

#[tokio::test]
async fn lock_of_a_dead_process_lapses_after_its_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let killed = world.open(&id).await;
    cancelled_after(&killed, async || {}).await;
    let session = world.open(&id).await;
    let waiting = session.locked(2 * LEASE, async || Ok::<_, SessionError>(()));
    let (result, waited) = with_time(&world, waiting).await;
    result.unwrap();
    assert!((LEASE..LEASE + SECOND / 2).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn clock_set_back_makes_no_wait_much_longer() {
    let world = World::new();
    let id = world.visitor().await;
    let (killed, session) = (world.open(&id).await, world.open(&id).await);
    cancelled_after(&killed, async || {}).await;
    let mut steps = 0;
    let mut locked = pin!(session.locked(SECOND, async || -> Result { panic!("held") }));
    let result = loop {
        tokio::select! {
            biased;
            result = &mut locked => break result,
            () = tokio::task::yield_now() => {
                world.wait(100 * MILLISECOND);
                steps += 1;
                if steps % 3 == 0 {
                    let now = world.sessions_now().as_millis();
                    world.clock.set(Timestamp::from_millis(now - 100));
                }
            }
        }
    };
    assert!(is_locked(&result));
    assert!(steps < 100, "{steps}");
}

#[tokio::test]
async fn request_without_the_lock_is_merged_and_leaves_the_lease() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, before) = (world.open(&id).await, world.open(&id).await);
    before.update(VISITS, |visits| *visits += 10).unwrap();
    let work = async || {
        add(&holder, 1)?;
        let _ = before.finish().await?;
        let during = world.open(&id).await;
        add(&during, 100)?;
        let _ = during.finish().await?;
        assert!(!is_free(&world, &id).await);
        Ok::<_, SessionError>(())
    };
    holder.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(112));
    assert!(is_free(&world, &id).await);
}

#[tokio::test]
async fn commit_within_the_work_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        for stored in 2..5 {
            add(&session, 1)?;
            session.commit().await?;
            assert_eq!(visits(&world, &id).await, Some(stored));
            assert!(!is_free(&world, &id).await);
        }
        Ok::<_, SessionError>(())
    };
    session.locked(NO_WAIT, work).await.unwrap();
    assert!(is_free(&world, &id).await);
}

#[test]
fn lease_has_bounds() {
    let text = |lease| {
        let sessions = Sessions::builder(crate::support::probe()).with_lease(lease);
        sessions.build().map(drop).unwrap_err().to_string()
    };
    insta::assert_snapshot!(text(NO_WAIT), @"a lease of 0ns is not between 1 ms and 600s");
    insta::assert_snapshot!(text(601 * SECOND), @"a lease of 601s is not between 1 ms and 600s");
}

#[tokio::test]
async fn record_shows_until_when_it_is_locked() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let locked_until = async || match world.stored(&id).await {
        Some(Entry::Session(record)) => record.locked_until(),
        other => panic!("the session is stored: {other:?}"),
    };
    let work = async || {
        assert_eq!(locked_until().await, Some(world.sessions_now() + LEASE));
        Ok::<_, SessionError>(())
    };
    session.locked(NO_WAIT, work).await.unwrap();
    assert_eq!(locked_until().await, None);
}
