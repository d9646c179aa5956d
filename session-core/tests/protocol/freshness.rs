//! Whoever does something sensitive has signed in a short time ago.

use std::time::Duration;

use session_core::{Session, SessionError, Timestamp};

use crate::support::{World, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn is_fresh(session: &Session, max_age: Duration) -> bool {
    match session.require_fresh(max_age) {
        Ok(()) => true,
        Err(SessionError::NotFresh) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_login_is_fresh_for_as_long_as_is_asked() {
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
async fn nobody_signed_in_is_not_fresh() {
    let world = World::new();
    let id = world.visitor().await;
    for session in [world.anonymous().await, world.open(&id).await] {
        assert!(!is_fresh(&session, Duration::MAX));
    }
}

#[tokio::test]
async fn a_login_in_the_same_request_counts_before_its_commit() {
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

#[tokio::test]
async fn a_renewal_and_a_write_make_nobody_fresh() {
    let world = World::new();
    let id = world.user("ada").await;
    world.wait(10 * MINUTE);
    let session = world.open(&id).await;
    session.renew().unwrap();
    let new = told(session.finish().await.unwrap());
    assert!(!is_fresh(&world.open(&new).await, 5 * MINUTE));
}

#[tokio::test]
async fn a_clock_that_jumps_back_does_not_make_a_login_fresh_for_longer() {
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
