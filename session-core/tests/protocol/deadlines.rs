//! I5: deadlines hold.

use std::time::Duration;

use session_core::{CookieLifetime, Lifetime, Timestamp};

use crate::support::{VISITS, Verb, World, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_idle_session_ends_at_its_idle_deadline() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(HOUR - MILLISECOND);
    assert!(world.opens(&id).await);
    world.wait(MILLISECOND);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn a_busy_session_ends_at_its_absolute_deadline() {
    let world = World::new();
    let id = world.visitor().await;
    for _ in 0..47 {
        world.wait(HOUR / 2);
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        let _ = session.finish().await.unwrap();
    }
    world.wait(HOUR / 2 - MILLISECOND);
    assert!(world.opens(&id).await);
    world.wait(MILLISECOND);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn a_touch_is_sent_from_a_tenth_of_the_idle_time_on_and_not_before() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(6 * MINUTE - MILLISECOND);
    let session = world.open(&id).await;
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);

    world.wait(MILLISECOND);
    let session = world.open(&id).await;
    assert!(session.finish_without_io().is_none());
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Touch]);

    let session = world.open(&id).await;
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load], "the touch was noted");
}

#[tokio::test]
async fn readers_keep_a_session_alive() {
    let world = World::new();
    let id = world.visitor().await;
    for _ in 0..10 {
        world.wait(50 * MINUTE);
        let session = world.open(&id).await;
        assert!(session.key().is_some());
        let _ = session.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_touch_that_fails_fails_no_request() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(HOUR / 2);
    let session = world.open(&id).await;
    world.store.fail(Verb::Touch, crate::support::Fault::DOWN);
    let _ = session.finish().await.unwrap();
    let session = world.open(&id).await;
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Touch], "the next request tries again");
}

#[tokio::test]
async fn a_write_is_a_touch_too() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(50 * MINUTE);
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    world.wait(50 * MINUTE);
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn a_clock_that_jumps_back_ends_nothing_and_touches_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let then = world.sessions_now();
    world.clock.set(Timestamp::from_millis(then.as_millis() - 3_600_000));
    let session = world.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert!(session.finish_without_io().is_some());
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    // The note of the last request did not move back.
    world.clock.set(then + 59 * MINUTE);
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
    world.clock.set(then + HOUR);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn remember_me_lasts_through_later_writes() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    let _ = session.finish().await.unwrap();
    for _ in 0..3 {
        world.wait(24 * HOUR);
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        let _ = session.finish().await.unwrap();
    }
    let session = world.open(&id).await;
    assert_eq!(session.lifetime(), Lifetime::aal1());
    session.authenticate("ada").unwrap();
    session.renew().unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.lifetime(), Lifetime::aal1());
}

#[tokio::test]
async fn a_lifetime_is_merged_like_a_value() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.set_lifetime(Lifetime::aal3()).unwrap();
    right.set(VISITS, &2).unwrap();
    let _ = left.finish().await.unwrap();
    let _ = right.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!((session.lifetime(), session.get(VISITS)), (Lifetime::aal3(), Some(2)));
}

#[tokio::test]
async fn a_lifetime_that_is_over_ends_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(30 * MINUTE);
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::new(10 * MINUTE, 20 * MINUTE).unwrap()).unwrap();
    let _ = session.finish().await.unwrap();
    assert!(!world.opens(&id).await);
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn the_default_of_another_deployment_does_not_change_a_session() {
    let world = World::new();
    let id = world.visitor().await;
    let short = Lifetime::new(MINUTE, HOUR).unwrap().with_cookie(CookieLifetime::Persistent);
    let other = World::with_lifetime(short);
    assert_eq!(other.anonymous().await.lifetime(), short);
    let session = world.open(&id).await;
    assert_eq!(session.lifetime(), Lifetime::aal2());
    assert_eq!(session.expires_at(), Some(world.sessions_now() + HOUR));
}

#[tokio::test]
async fn idle_times_of_a_few_milliseconds_work() {
    let lifetime = Lifetime::new(5 * MILLISECOND, HOUR).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    for _ in 0..10 {
        world.wait(4 * MILLISECOND);
        let session = world.open(&id).await;
        assert!(session.key().is_some());
        let _ = session.finish().await.unwrap();
    }
    world.wait(5 * MILLISECOND);
    assert!(!world.opens(&id).await);
}
