//! `require_fresh`: a sensitive action needs a recent proof of identity.

use std::time::Duration;

use session_core::{Session, SessionError, Timestamp};

use crate::support::{MILLISECOND, MINUTE, NOTE, SECOND, World, told};

/// A call that records one change.
type Call = fn(&Session) -> Result<(), SessionError>;

fn is_fresh(session: &Session, max_age: Duration) -> bool {
    match session.require_fresh(max_age) {
        Ok(()) => true,
        Err(SessionError::NotFresh) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn login_is_fresh_for_the_asked_time() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    assert!(is_fresh(&session, Duration::ZERO));
    world.wait(5 * MINUTE);
    assert!(is_fresh(&session, 5 * MINUTE));
    assert!(is_fresh(&session, Duration::MAX));
    world.wait(MILLISECOND);
    assert!(!is_fresh(&session, 5 * MINUTE));
    assert!(!is_fresh(&world.open(&id).await, 5 * MINUTE));
    assert!(!is_fresh(&session, Duration::ZERO));
    assert!(is_fresh(&session, 6 * MINUTE));
}

#[tokio::test]
async fn session_without_an_owner_is_never_fresh() {
    let world = World::new();
    let id = world.visitor().await;
    for session in [world.anonymous().await, world.open(&id).await] {
        assert!(!is_fresh(&session, Duration::MAX));
    }
}

#[tokio::test]
async fn login_is_fresh_before_its_commit() {
    let world = World::new();
    let id = world.user("ada").await;
    world.wait(30 * MINUTE);
    let session = world.open(&id).await;
    assert!(!is_fresh(&session, MINUTE));
    session.authenticate("ada").unwrap();
    assert!(is_fresh(&session, MINUTE));
    session.discard();
    assert!(!is_fresh(&session, MINUTE));
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(is_fresh(&world.open(&new).await, MINUTE));
}

/// Only a proof of identity counts. A change of privileges gives the session only a fresh ID.
#[tokio::test]
async fn renewal_rotation_and_write_refresh_no_login() {
    let changes: [Call; 3] =
        [Session::renew, Session::rotate, |session| session.set(NOTE, "written")];
    for (number, change) in changes.into_iter().enumerate() {
        let world = World::new();
        let mut id = world.user("ada").await;
        world.wait(10 * MINUTE);
        let session = world.open(&id).await;
        change(&session).unwrap();
        assert!(!is_fresh(&session, 5 * MINUTE), "{number}");
        if let session_core::CookieChange::Set { id: new, .. } = session.finish().await.unwrap() {
            id = new;
        }
        let session = world.open(&id).await;
        assert!(session.owner().is_some());
        assert!(!is_fresh(&session, 5 * MINUTE), "{number}");
    }
}

#[tokio::test]
async fn clock_that_jumps_back_prolongs_no_freshness() {
    let world = World::new();
    let id = world.user("ada").await;
    let then = world.sessions_now().as_millis();
    let session = world.open(&id).await;
    world.clock.set(Timestamp::from_millis(then - 10_000));
    assert!(is_fresh(&session, MINUTE), "clocks of servers may differ by this much");
    world.clock.set(Timestamp::from_millis(then - 10_001));
    assert!(!is_fresh(&session, MINUTE));
    assert!(!is_fresh(&session, Duration::MAX));
    world.clock.set(Timestamp::from_millis(then) + MINUTE + SECOND);
    assert!(!is_fresh(&session, MINUTE));
}
