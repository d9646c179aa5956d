//! I6: acknowledged means stored, and I7: outage is not logout.

use session_core::{CookieChange, SessionError, StoreErrorKind};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

fn kind_of<T: std::fmt::Debug>(result: Result<T, SessionError>) -> StoreErrorKind {
    match result {
        Err(SessionError::Store(error)) => error.kind(),
        other => panic!("no fault of the store: {other:?}"),
    }
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_the_commit_counts_once() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.store.calls();
        world.store.fail(Verb::Commit, fault);
        let _ = session.finish().await.unwrap();
        assert_eq!(world.store.calls(), [Verb::Commit, Verb::Commit]);
        assert_eq!(world.open(&id).await.get(VISITS), Some(2));
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_makes_one_session() {
    // Under a key that may still get a session a note is left that keeps it out.
    for (fault, notes) in [(Fault::ANSWER_LOST, 0), (Fault::UNSENT, 1)] {
        let world = World::new();
        let session = world.anonymous().await;
        session.set(VISITS, &1).unwrap();
        world.store.fail(Verb::Create, fault);
        let id = told(session.finish().await.unwrap());
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
        assert_eq!(world.count().await, (1, notes));
    }
}

#[tokio::test]
async fn a_login_whose_answers_were_lost_counts_once() {
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

/// Only the tombstone is late: the new session is not left beside the old one, which goes on.
#[tokio::test]
async fn a_login_that_was_overtaken_while_it_asked_again_merges_and_leaves_one_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    world.store.fail(Verb::Commit, Fault::UNSENT);
    world.store.before_nth(2, Verb::Commit, move || async move {
        let session = other.open(&former).await;
        session.set(VISITS, &9).unwrap();
        let _ = session.finish().await.unwrap();
    });
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.get(VISITS), Some(9));
    assert_eq!(world.count().await, (1, 1));
}

#[tokio::test]
async fn a_logout_whose_request_was_lost_is_repeated() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::UNSENT);
    let _ = session.finish().await.unwrap();
    assert!(!world.opens(&id).await);
}

/// The tombstone tells again what the lost answer told: where the session moved to.
#[tokio::test]
async fn a_logout_whose_answer_was_lost_still_ends_the_session_where_it_moved_to() {
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
async fn a_logout_that_got_no_answer_twice_is_not_reported_as_done() {
    let world = World::new();
    let id = world.visitor().await;
    let ending = world.open(&id).await;
    ending.destroy().unwrap();
    world.store.fail_nth(1, Verb::Delete, Fault::UNSENT);
    world.store.fail_nth(2, Verb::Delete, Fault::UNSENT);
    assert_eq!(kind_of(ending.finish().await), StoreErrorKind::Timeout);
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn two_lost_answers_are_an_error_and_the_commit_is_never_applied_again() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.store.fail_nth(1, Verb::Commit, fault);
        world.store.fail_nth(2, Verb::Commit, fault);
        assert_eq!(kind_of(session.commit().await), StoreErrorKind::Timeout);
        world.store.calls();
        for _ in 0..3 {
            assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
            assert!(matches!(session.finish().await, Err(SessionError::Unconfirmed)));
        }
        assert_eq!(world.store.calls(), []);
        let visits = world.open(&id).await.get(VISITS);
        assert_eq!(visits, Some(if matches!(fault, Fault::After(_)) { 2 } else { 1 }));
    }
}

#[tokio::test]
async fn a_commit_overtaken_while_its_answer_was_lost_is_an_error_not_a_second_increment() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.fail(Verb::Commit, Fault::ANSWER_LOST);
    let (other, same) = (world.other_process(), id.clone());
    let store = std::sync::Arc::clone(&world.store);
    // Runs before the first attempt; plans what happens before the second.
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
    world.store.fail_nth(1, Verb::Commit, Fault::ANSWER_LOST);
    world.store.fail_nth(2, Verb::Commit, Fault::ANSWER_LOST);
    assert!(session.commit().await.is_err());
    session.discard();
    session.set(NOTE, &"after".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(VISITS), Some(2));
    assert_eq!(after.get(NOTE).as_deref(), Some("after"));
}

#[tokio::test]
async fn a_dropped_commit_is_unconfirmed() {
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
    assert!(session.finish_without_io().is_none());
    assert!(matches!(session.finish().await, Err(SessionError::Unconfirmed)));
    session.discard();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn an_outage_at_the_load_is_an_error_and_no_anonymous_visitor() {
    for kind in [
        StoreErrorKind::Unavailable,
        StoreErrorKind::Timeout,
        StoreErrorKind::Full,
        StoreErrorKind::Misconfigured,
    ] {
        let world = World::new();
        let id = world.visitor().await;
        world.store.set_broken(Some(kind));
        assert_eq!(kind_of(world.try_open(&id).await), kind);
        world.store.set_broken(None);
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
    }
}

#[tokio::test]
async fn an_outage_does_not_fail_a_request_without_a_cookie_that_writes_nothing() {
    let world = World::new();
    world.store.set_broken(Some(StoreErrorKind::Unavailable));
    let session = world.anonymous().await;
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn an_outage_behind_the_first_cookie_does_not_open_the_second() {
    let world = World::new();
    let (first, second) = (world.visitor().await, world.visitor().await);
    world.store.fail(Verb::Load, Fault::DOWN);
    let cookies = [first.expose().as_bytes(), second.expose().as_bytes()];
    assert_eq!(kind_of(world.sessions.open(cookies).await), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn an_outage_at_the_commit_is_an_error_and_the_changes_stay_recorded() {
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
async fn an_outage_at_the_logout_is_an_error_and_can_be_tried_again() {
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
async fn nothing_new_is_stored_when_the_old_could_not_be_ended() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.set(NOTE, &"new".to_owned()).unwrap();
    world.store.fail(Verb::Delete, Fault::DOWN);
    assert!(session.finish().await.is_err());
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn an_unreadable_record_under_a_commit_is_an_error() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    world.store.fail(Verb::Commit, Fault::Before(StoreErrorKind::Corrupt));
    assert_eq!(kind_of(session.finish().await), StoreErrorKind::Corrupt);
}
