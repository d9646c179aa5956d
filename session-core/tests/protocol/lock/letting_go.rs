//! The lock of a cancelled request lapses; the lock of a failed request is released.

use super::*;

/// Cancelled work may have charged a card: other requests must wait until its lease has lapsed.
#[tokio::test]
async fn cancelled_work_keeps_others_out_until_its_lease_lapses() {
    let world = World::new();
    let id = world.visitor().await;
    for drops_session in [false, true] {
        let session = world.open(&id).await;
        cancelled_after(&session, async || add(&session, 1).unwrap()).await;
        let kept = if drops_session { None } else { Some(session) };
        world.wait(LEASE - MILLISECOND);
        assert!(!is_free(&world, &id).await);
        let waiting = world.open(&id).await;
        assert!(is_locked(&add_visit(&waiting).await), "in this process neither");
        world.wait(MILLISECOND);
        assert!(is_free(&world, &id).await);
        assert_eq!(visits(&world, &id).await, Some(1), "its changes are not stored");
        drop(kept);
    }
}

#[tokio::test]
async fn changes_of_cancelled_work_count_under_its_lease_only() {
    for pause in [LEASE - MILLISECOND, LEASE] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        cancelled_after(&session, async || add(&session, 1).unwrap()).await;
        assert_eq!(visits(&world, &id).await, Some(1), "recorded, not committed");
        world.wait(pause);
        let result = session.finish().await;
        assert_eq!(is_lost(&result), pause == LEASE, "{result:?}");
        assert_eq!(visits(&world, &id).await, Some(if pause == LEASE { 1 } else { 2 }));
    }
}

#[tokio::test]
async fn request_goes_on_after_it_discards_cancelled_work() {
    for pause in [NO_WAIT, LEASE] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        cancelled_after(&session, async || add(&session, 1).unwrap()).await;
        world.wait(pause);
        session.discard();
        session.set(NOTE, "too slow").unwrap();
        session.commit().await.unwrap();
        assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("too slow"));
        assert_eq!(visits(&world, &id).await, Some(1));

        // The request waits for the lease like any other request.
        let again = add_visit(&session).await;
        assert_eq!(is_locked(&again), pause != LEASE, "{again:?}");
        assert_eq!(is_free(&world, &id).await, pause == LEASE);
    }
}

#[tokio::test]
async fn discard_within_the_work_keeps_the_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        session.set(VISITS, 2)?;
        session.destroy()?;
        session.discard();
        assert!(!is_free(&world, &id).await);
        let again = session.locked(NO_WAIT, async || Ok(())).await;
        assert!(matches!(again, Err(SessionError::AlreadyLocked)));
        session.set(NOTE, "fenced")?;
        world.wait(LEASE);
        Ok(())
    };
    assert!(is_lost(&session.locked(NO_WAIT, work).await), "the rest of the work is fenced");
    assert_eq!(world.open(&id).await.names(), ["visits"]);
}

#[derive(Debug)]
enum PayError {
    Declined,
    Session(SessionError),
}

impl From<SessionError> for PayError {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

#[tokio::test]
async fn error_of_the_work_discards_its_changes_and_releases() {
    for destroys in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            session.set(NOTE, "committed on the way")?;
            session.commit().await?;
            add(&session, 1)?;
            if destroys {
                session.destroy()?;
            }
            Err::<(), _>(PayError::Declined)
        };
        let result = session.locked(NO_WAIT, work).await;
        assert!(matches!(result, Err(PayError::Declined)));
        assert!(is_free(&world, &id).await);
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
        assert_eq!(visits(&world, &id).await, Some(1));
        let note = world.open(&id).await.get(NOTE);
        assert_eq!(note.as_deref(), Some("committed on the way"));
    }
}

#[tokio::test]
async fn lock_error_reaches_the_application_in_its_own_type() {
    let world = World::new();
    let id = world.visitor().await;
    let (killed, session) = (world.open(&id).await, world.open(&id).await);
    cancelled_after(&killed, async || {}).await;
    let result = session.locked(NO_WAIT, async || Err::<(), _>(PayError::Declined)).await;
    let Err(PayError::Session(error)) = result else { panic!("{result:?}") };
    assert!(error.is_retryable());
    insta::assert_snapshot!(error, @"another request holds the lock of the session");
}

#[tokio::test]
async fn work_whose_commit_fails_is_discarded_and_releases() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        add(&session, 1)?;
        world.store.fail(Verb::Commit, Fault::DOWN);
        Ok(())
    };
    let result = session.locked(NO_WAIT, work).await;
    assert!(matches!(result, Err(SessionError::Store(_))), "{result:?}");
    assert!(is_free(&world, &id).await);
    let _ = session.finish().await.unwrap();
    assert_eq!(visits(&world, &id).await, Some(1));
}

/// An unstored session has no lock, but its work is discarded in the same way.
#[tokio::test]
async fn work_of_a_new_session_is_discarded_if_it_fails() {
    for commit_fails in [false, true] {
        let world = World::new();
        let session = world.anonymous().await;
        let work = async || {
            session.set(VISITS, 7)?;
            if commit_fails {
                world.store.fail(Verb::Create, Fault::DOWN);
                return Ok(());
            }
            Err(SessionError::NotFresh)
        };
        assert!(session.locked(NO_WAIT, work).await.is_err());
        assert_eq!(session.get(VISITS), None);
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
        assert_eq!(world.count().await, (0, 0));
    }
}

#[tokio::test]
async fn work_of_unknown_outcome_is_applied_at_most_once() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            add(&session, 1)?;
            world.fail_twice(Verb::Commit, fault);
            Ok(())
        };
        match session.locked(NO_WAIT, work).await {
            Err(SessionError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Timeout),
            other => panic!("{other:?}"),
        }
        let _ = session.finish().await;
        let is_stored = matches!(fault, Fault::After(_));
        assert_eq!(visits(&world, &id).await, Some(if is_stored { 2 } else { 1 }));
        assert!(is_free(&world, &id).await);
    }
}

#[tokio::test]
async fn wait_that_is_given_up_leaves_no_lock() {
    for verb in [Verb::Load, Verb::Commit] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.before(verb, pending);
        tokio::select! {
            biased;
            _ = add_visit(&session) => panic!("the store does not answer"),
            () = tokio::task::yield_now() => {}
        }
        assert!(is_free(&world, &id).await);
        add_visit(&session).await.unwrap();
    }
}

#[tokio::test]
async fn place_in_the_queue_is_left_when_the_wait_is_given_up() {
    let world = World::new();
    let id = world.visitor().await;
    let (holder, waiting) = (world.open(&id).await, world.open(&id).await);
    let work = async || {
        tokio::select! {
            biased;
            _ = waiting.locked(SECOND, async || Ok::<_, SessionError>(())) => panic!("held"),
            () = tokio::task::yield_now() => {}
        }
        Ok::<_, SessionError>(())
    };
    holder.locked(NO_WAIT, work).await.unwrap();
    add_visit(&world.open(&id).await).await.unwrap();
    add_visit(&waiting).await.unwrap();
}

#[tokio::test]
async fn lock_whose_answer_was_lost_is_asked_for_again() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(Verb::Commit, fault);
        add_visit(&session).await.unwrap();
        assert!(is_free(&world, &id).await);
        assert_eq!(visits(&world, &id).await, Some(2));

        // If both answers are lost, the work does not run. If the store has the lease, it lapses.
        world.fail_twice(Verb::Commit, fault);
        match session.locked(NO_WAIT, async || -> Result { panic!("not locked") }).await {
            Err(SessionError::Store(error)) => assert_eq!(error.kind(), StoreErrorKind::Timeout),
            other => panic!("{other:?}"),
        }
        assert_eq!(is_free(&world, &id).await, matches!(fault, Fault::Before(_)));
        world.wait(LEASE);
        assert!(is_free(&world, &id).await);
        add(&session, 1).unwrap();
        let _ = session.finish().await.unwrap();
        assert_eq!(visits(&world, &id).await, Some(3));
    }
}

#[tokio::test]
async fn outage_is_an_error_and_the_work_does_not_run() {
    for verb in [Verb::Load, Verb::Commit] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(verb, Fault::DOWN);
        let result = session.locked(SECOND, async || -> Result { panic!("not locked") }).await;
        assert!(matches!(result, Err(SessionError::Store(_))));
        add_visit(&session).await.unwrap();
    }
}

/// All changes are stored, and the lease lapses.
#[tokio::test]
async fn release_that_fails_fails_no_request() {
    for (fault, tries) in [(Fault::DOWN, 1), (Fault::UNSENT, 2)] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let work = async || {
            add(&session, 1)?;
            session.commit().await?;
            for number in 1..=tries {
                world.store.fail_nth(number, Verb::Commit, fault);
            }
            Ok::<_, SessionError>(())
        };
        session.locked(NO_WAIT, work).await.unwrap();
        let _ = session.finish().await.unwrap();
        assert_eq!(visits(&world, &id).await, Some(2));
        assert!(!is_free(&world, &id).await);
        world.wait(LEASE);
        assert!(is_free(&world, &id).await);
    }
}

#[tokio::test]
async fn finished_request_takes_no_lock() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let _ = session.finish().await.unwrap();
    world.store.calls();
    assert!(matches!(add_visit(&session).await, Err(SessionError::Closed)));
    assert_eq!(world.store.calls(), []);
}

/// An integration closes a session if its request is dropped.
#[tokio::test]
async fn closed_session_stores_nothing_of_its_work() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let work = async || {
        add(&session, 1)?;
        session.close();
        Ok::<_, SessionError>(())
    };
    let _ = session.locked(NO_WAIT, work).await;
    assert_eq!(visits(&world, &id).await, Some(1));
}
