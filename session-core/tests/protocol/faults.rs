//! I6: acknowledged means stored, and I7: an outage is not a logout.

use session_core::{CookieChange, SessionError, StoreErrorKind};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

fn kind_of<T: std::fmt::Debug>(result: Result<T, SessionError>) -> StoreErrorKind {
    match result {
        Err(SessionError::Store(error)) => error.kind(),
        other => panic!("no fault of the store: {other:?}"),
    }
}

#[tokio::test]
async fn commit_with_a_lost_answer_counts_once() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.store.calls();
        world.store.fail(Verb::Commit, fault);
        let _ = session.finish().await.unwrap();
        assert_eq!(world.store.calls(), [Verb::Commit, Verb::Commit], "it is repeated once");
        assert_eq!(world.open(&id).await.get(VISITS), Some(2));
    }
}

#[tokio::test]
async fn create_with_a_lost_answer_makes_one_session() {
    // An end marker blocks a key under which the record may still arrive.
    for (fault, markers) in [(Fault::ANSWER_LOST, 0), (Fault::UNSENT, 1)] {
        let world = World::new();
        let session = world.anonymous().await;
        session.set(VISITS, 1).unwrap();
        world.store.fail(Verb::Create, fault);
        let id = told(session.finish().await.unwrap());
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
        assert_eq!(world.count().await, (1, markers));
    }
}

#[tokio::test]
async fn login_with_a_lost_answer_counts_once() {
    for verb in [Verb::CreateEntered, Verb::Commit] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        session.authenticate("ada").unwrap();
        world.store.fail(verb, Fault::ANSWER_LOST);
        let new = told(session.finish().await.unwrap());
        assert_eq!(world.open(&new).await.get(VISITS), Some(2));
        assert_eq!(world.count().await, (1, 1));
    }
}

/// Only the tombstone is late: the new session is deleted, and the old session goes on.
#[tokio::test]
async fn login_overtaken_while_it_repeats_leaves_one_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    world.store.fail(Verb::Commit, Fault::UNSENT);
    world.store.before_nth(2, Verb::Commit, move || async move {
        let session = other.open(&former).await;
        session.set(VISITS, 9).unwrap();
        let _ = session.finish().await.unwrap();
    });
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.get(VISITS), Some(9));
    assert_eq!(world.count().await, (1, 1));
}

#[tokio::test]
async fn logout_that_was_not_sent_is_repeated() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::UNSENT);
    let _ = session.finish().await.unwrap();
    assert!(!world.opens(&id).await);
}

/// The repetition finds the tombstone again, with the session's new key.
#[tokio::test]
async fn logout_with_a_lost_answer_ends_a_moved_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (ending, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    ending.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::ANSWER_LOST);
    let _ = ending.finish().await.unwrap();
    assert!(!world.opens(&new).await);
}

#[tokio::test]
async fn logout_without_any_answer_is_an_error() {
    let world = World::new();
    let id = world.visitor().await;
    let ending = world.open(&id).await;
    ending.destroy().unwrap();
    world.fail_twice(Verb::Delete, Fault::UNSENT);
    assert_eq!(kind_of(ending.finish().await), StoreErrorKind::Timeout);
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn commit_without_any_answer_is_never_applied_again() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.fail_twice(Verb::Commit, fault);
        assert_eq!(kind_of(session.commit().await), StoreErrorKind::Timeout);
        world.store.calls();
        for _ in 0..3 {
            assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
        }
        assert!(matches!(session.finish().await, Err(SessionError::Unconfirmed)));
        assert_eq!(world.store.calls(), []);
        let visits = world.open(&id).await.get(VISITS);
        assert_eq!(visits, Some(if matches!(fault, Fault::After(_)) { 2 } else { 1 }));
    }
}

#[tokio::test]
async fn commit_overtaken_while_it_repeats_is_an_error() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.fail(Verb::Commit, Fault::ANSWER_LOST);
    let (other, same) = (world.other_process(), id.clone());
    let store = std::sync::Arc::clone(&world.store);
    // Runs before the first attempt, and plans a hook before the second.
    world.store.before(Verb::Commit, move || async move {
        store.before(Verb::Commit, move || async move {
            let session = other.open(&same).await;
            session.update(VISITS, |visits| *visits += 10).unwrap();
            session.commit().await.unwrap();
        });
    });
    assert_eq!(kind_of(session.commit().await), StoreErrorKind::Timeout);
    assert_eq!(world.open(&id).await.get(VISITS), Some(12));
}

#[tokio::test]
async fn discard_recovers_from_an_unconfirmed_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.fail_twice(Verb::Commit, Fault::ANSWER_LOST);
    assert!(session.commit().await.is_err());
    session.discard();
    session.set(NOTE, "after").unwrap();
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(VISITS), Some(2));
    assert_eq!(after.get(NOTE).as_deref(), Some("after"));
}

#[tokio::test]
async fn dropped_commit_is_unconfirmed() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.before(Verb::Commit, std::future::pending);
    tokio::select! {
        biased;
        _ = session.commit() => panic!("the store does not answer"),
        () = tokio::task::yield_now() => {}
    }
    assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
    assert!(session.try_finish().is_none());
    assert!(matches!(session.finish().await, Err(SessionError::Unconfirmed)));
    session.discard();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn outage_at_the_load_makes_no_visitor() {
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        let world = World::new();
        let id = world.visitor().await;
        world.store.set_outage(Some(kind));
        assert_eq!(kind_of(world.try_open(&id).await), kind);
        world.store.set_outage(None);
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
    }
}

#[tokio::test]
async fn outage_fails_no_request_without_a_cookie() {
    let world = World::new();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    let session = world.anonymous().await;
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn outage_at_the_first_cookie_opens_no_second() {
    let world = World::new();
    let (first, second) = (world.visitor().await, world.visitor().await);
    world.store.fail(Verb::Load, Fault::DOWN);
    let cookies = [first.expose().as_bytes(), second.expose().as_bytes()];
    assert_eq!(kind_of(world.sessions.open(cookies).await), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn outage_at_the_commit_keeps_the_changes() {
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Full, StoreErrorKind::TooLarge] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.store.fail(Verb::Commit, Fault::Before(kind));
        assert_eq!(kind_of(session.commit().await), kind);
        assert_eq!(session.get(VISITS), Some(2));
        session.commit().await.unwrap();
        assert_eq!(world.open(&id).await.get(VISITS), Some(2));
    }
}

#[tokio::test]
async fn outage_at_the_logout_allows_another_try() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::DOWN);
    assert_eq!(kind_of(session.commit().await), StoreErrorKind::Unavailable);
    assert!(world.opens(&id).await);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn logout_that_fails_stores_no_new_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.set(NOTE, "new").unwrap();
    world.store.fail(Verb::Delete, Fault::DOWN);
    assert!(session.finish().await.is_err());
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn unreadable_record_under_a_commit_is_an_error() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    world.store.fail(Verb::Commit, Fault::Before(StoreErrorKind::Corrupt));
    assert_eq!(kind_of(session.finish().await), StoreErrorKind::Corrupt);
}

/// The response reports the failure. A later commit must not store the changes after that.
#[tokio::test]
async fn finish_that_fails_drops_the_changes() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.fail(Verb::Commit, Fault::DOWN);
    assert_eq!(kind_of(session.finish().await), StoreErrorKind::Unavailable);
    assert_eq!(session.get(VISITS), Some(1));
    world.store.calls();
    session.commit().await.unwrap();
    assert_eq!(world.store.calls(), []);
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}
