//! I8: a login above its owner's limit is refused, or evicts an earlier session.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use session_core::{
    AtLimit, CookieChange, EventKind, ManualClock, Session, SessionError, SessionLimit, Sessions,
    StoreErrorKind,
};

use crate::support::{Fault, MINUTE, SECOND, VISITS, Verb, World, kinds, told};

#[tokio::test]
async fn login_above_the_limit_is_refused_and_stores_nothing() {
    let world = World::limited(2, AtLimit::Reject);
    let ids = [world.sign_in().await.unwrap(), world.sign_in().await.unwrap()];
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let error = session.commit().await.unwrap_err();
    insta::assert_snapshot!(error, @"the owner has as many sessions as the limit of 2 allows");
    assert!(!error.is_retryable());
    assert_eq!(world.count().await, (2, 0));
    assert_eq!(world.count_entered().await, 2);
    // Another owner has its own limit.
    world.user("grace").await;
    // The login is still recorded, and succeeds after one session has ended.
    assert!(world.sessions.revoke("ada", ids[0].key()).await.unwrap());
    let id = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await && world.opens(&ids[1]).await);
}

#[tokio::test]
async fn refused_login_leaves_the_visitors_session_as_it_was() {
    let world = World::limited(1, AtLimit::Reject);
    world.sign_in().await.unwrap();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert!(matches!(session.commit().await, Err(SessionError::TooManySessions { limit: 1, .. })));
    session.discard();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.owner()), (Some(1), None));
}

#[tokio::test]
async fn login_evicts_the_oldest_or_least_recently_used_session() {
    for at_limit in [AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let world = World::limited(2, at_limit);
        let oldest = world.sign_in().await.unwrap();
        world.wait(MINUTE);
        let second = world.sign_in().await.unwrap();
        world.wait(10 * MINUTE);
        let _ = world.read(&oldest).await;
        let third = world.sign_in().await.unwrap();
        assert_eq!(world.opens(&oldest).await, at_limit == AtLimit::EvictLeastRecent);
        assert_eq!(world.opens(&second).await, at_limit == AtLimit::EvictOldest);
        assert!(world.opens(&third).await);
        assert_eq!(world.count_entered().await, 2);
    }
}

#[tokio::test]
async fn lowered_limit_holds_from_the_next_login_on() {
    let world = World::limited(5, AtLimit::EvictOldest);
    for _ in 0..5 {
        world.sign_in().await.unwrap();
        world.wait(MINUTE);
    }
    let strict = world.with_limit(2, AtLimit::EvictOldest);
    strict.sign_in().await.unwrap();
    assert_eq!(strict.listed("ada").await.len(), 2);
}

/// Two logins never evict each other: the later login stays, also if the eviction takes long.
#[tokio::test]
async fn older_login_evicts_no_session_that_signs_in_again() {
    for delay in [10 * SECOND, 16 * SECOND] {
        let world = World::limited(1, AtLimit::EvictOldest);
        let id = world.sign_in().await.unwrap();
        world.wait(MINUTE);
        let other = world.with_limit(1, AtLimit::EvictOldest);
        let (send, again) = mpsc::channel();
        world.store.before(Verb::DeleteOrBlock, move || async move {
            other.wait(delay);
            send.send(other.login(&id, "ada").await).unwrap();
        });
        let error = world.sign_in().await.unwrap_err();
        assert!(matches!(error, SessionError::Contended) && error.is_retryable(), "{error:?}");
        let again = again.try_recv().expect("it signed in again");
        assert_eq!(world.listed("ada").await, [again.key()]);
        assert!(world.opens(&again).await);
    }
}

/// A login of another server, whose clock is far ahead, must not cause a refusal.
#[tokio::test]
async fn login_evicts_a_login_of_a_clock_ahead() {
    for at_limit in [AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let world = World::limited(1, at_limit);
        let ahead = ManualClock::new(world.sessions_now() + Duration::from_secs(16));
        let sessions = Sessions::builder(Arc::clone(&world.store))
            .with_clock(ahead)
            .with_session_limit(SessionLimit::new(1, at_limit).unwrap())
            .build()
            .unwrap();
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let other = told(session.finish().await.unwrap());
        let id = world.sign_in().await.unwrap();
        assert!(world.opens(&id).await && !world.opens(&other).await);
    }
}

#[tokio::test]
async fn eviction_ends_both_keys_and_reports_one_session() {
    let world = World::limited(2, AtLimit::EvictOldest);
    let oldest = world.sign_in().await.unwrap();
    world.wait(MINUTE);
    let second = world.sign_in().await.unwrap();
    world.break_off(&oldest, Session::renew).await;
    world.wait(MINUTE);
    let mut events = world.sessions.events();
    let third = world.sign_in().await.unwrap();
    let kinds = kinds(&mut events);
    assert_eq!(kinds, [EventKind::Evicted, EventKind::Authenticated]);
    assert!(world.opens(&second).await && world.opens(&third).await);
    assert!(!world.opens(&oldest).await);
    assert_eq!(world.count().await.0, 2);
    assert_eq!(world.count_entered().await, 2);
}

#[tokio::test]
async fn renewal_is_never_refused_and_evicts_nobody() {
    let world = World::limited(2, AtLimit::Reject);
    let ids = [world.sign_in().await.unwrap(), world.sign_in().await.unwrap()];
    let strict = world.with_limit(1, AtLimit::EvictOldest);
    for id in &ids {
        let session = strict.open(id).await;
        session.renew().unwrap();
        strict.store.calls();
        let id = told(session.finish().await.unwrap());
        assert_eq!(strict.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
        assert!(strict.opens(&id).await);
    }
    assert_eq!(strict.listed("ada").await.len(), 2);
}

#[tokio::test]
async fn login_fails_if_the_limit_cannot_be_checked() {
    for (verb, fault) in [
        (Verb::Entries, Fault::DOWN),
        (Verb::Entries, Fault::UNSENT),
        (Verb::LoadMany, Fault::DOWN),
        (Verb::DeleteOrBlock, Fault::DOWN),
    ] {
        let world = World::limited(1, AtLimit::EvictOldest);
        let former = world.sign_in().await.unwrap();
        world.wait(MINUTE);
        world.store.fail(verb, fault);
        let result = world.sign_in().await;
        let Err(SessionError::Store(error)) = result else { panic!("{verb:?}: {result:?}") };
        assert!(error.is_retryable());
        assert_eq!(world.listed("ada").await, [former.key()], "nothing is left of the login");
    }
}

#[tokio::test]
async fn eviction_whose_answer_was_lost_is_repeated() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::limited(1, AtLimit::EvictOldest);
        world.sign_in().await.unwrap();
        world.wait(MINUTE);
        world.store.fail(Verb::DeleteOrBlock, fault);
        let id = world.sign_in().await.unwrap();
        assert_eq!(world.listed("ada").await, [id.key()]);
    }
    let world = World::limited(1, AtLimit::EvictOldest);
    world.sign_in().await.unwrap();
    world.wait(MINUTE);
    world.fail_twice(Verb::DeleteOrBlock, Fault::ANSWER_LOST);
    let error = world.sign_in().await.unwrap_err();
    assert!(matches!(error, SessionError::Store(error) if error.kind() == StoreErrorKind::Timeout));
    world.sign_in().await.unwrap();
}
