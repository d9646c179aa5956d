//! I5: a session ends at its deadlines, and no earlier.

use std::time::Duration;

use session_core::{CookieLifetime, Lifetime, SessionError, Timestamp};

use crate::support::{
    Fault, HOUR, MILLISECOND, MINUTE, Peek as _, SECOND, VISITS, Verb, World, told,
};

/// Core checks the deadline itself, even if the store does not.
#[tokio::test]
async fn idle_session_ends_at_its_idle_deadline() {
    for keeps_expired in [false, true] {
        let world = World::new();
        if keeps_expired {
            world.store.keep_expired();
        }
        let id = world.visitor().await;
        world.wait(HOUR - MILLISECOND);
        assert!(world.opens(&id).await);
        world.wait(MILLISECOND);
        assert!(!world.opens(&id).await);
    }
}

#[tokio::test]
async fn busy_session_ends_at_its_absolute_deadline() {
    let world = World::new();
    let id = world.visitor().await;
    for _ in 0..47 {
        world.wait(HOUR / 2);
        world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
    }
    world.wait(HOUR / 2 - MILLISECOND);
    assert!(world.opens(&id).await);
    world.wait(MILLISECOND);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn use_is_recorded_after_a_tenth_of_the_idle_time() {
    let world = World::new();
    let id = world.visitor().await;
    assert_use_is_noted_after(&world, &id, 6 * MINUTE).await;
}

/// A list of devices shows the device in use, however long its idle time.
#[tokio::test]
async fn use_is_recorded_at_least_once_an_hour() {
    for days in [1, 30, 400] {
        let lifetime = Lifetime::new(days * 24 * HOUR, days * 24 * HOUR).unwrap();
        let world = World::with_lifetime(lifetime);
        let id = world.user("ada").await;
        assert_use_is_noted_after(&world, &id, HOUR).await;
        let [device] = &world.sessions.list("ada").await.unwrap()[..] else { panic!("one") };
        assert_eq!(device.last_seen_at(), world.sessions_now());
    }
}

async fn assert_use_is_noted_after(world: &World, id: &session_core::SessionId, span: Duration) {
    world.wait(span - MILLISECOND);
    let session = world.open(id).await;
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);

    world.wait(MILLISECOND);
    let session = world.open(id).await;
    assert!(session.try_finish().is_none());
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Touch]);

    let _ = world.read(id).await;
    assert_eq!(world.store.calls(), [Verb::Load], "the use was noted");
}

#[tokio::test]
async fn reads_keep_a_session_alive() {
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
async fn touch_that_fails_fails_no_request() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(HOUR / 2);
    let session = world.open(&id).await;
    world.store.fail(Verb::Touch, Fault::DOWN);
    let _ = session.finish().await.unwrap();
    let session = world.open(&id).await;
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Touch], "the next request tries again");
}

#[tokio::test]
async fn write_records_the_use_too() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(50 * MINUTE);
    world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    world.wait(50 * MINUTE);
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn clock_that_jumps_back_ends_and_touches_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let then = world.sessions_now();
    world.clock.set(Timestamp::from_millis(then.as_millis() - 3_600_000));
    let session = world.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert!(session.try_finish().is_some());
    world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
    // The last use did not move back.
    world.clock.set(then + 59 * MINUTE);
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
    world.clock.set(then + HOUR);
    assert!(!world.opens(&id).await);
}

/// The next login begins with the default lifetime.
#[tokio::test]
async fn remember_me_lasts_until_the_next_login() {
    let world = World::new();
    let id = world.user("ada").await;
    world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
    for _ in 0..3 {
        world.wait(24 * HOUR);
        world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
    }
    let session = world.open(&id).await;
    assert_eq!(session.lifetime(), Lifetime::remember_me());
    session.renew().unwrap();
    let renewed = told(session.finish().await.unwrap());
    let session = world.open(&renewed).await;
    assert_eq!(session.lifetime(), Lifetime::remember_me());
    session.rotate().unwrap();
    let rotated = told(session.finish().await.unwrap());
    let session = world.open(&rotated).await;
    assert_eq!(session.lifetime(), Lifetime::remember_me());
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.lifetime(), Lifetime::standard());
}

#[tokio::test]
async fn lifetime_and_value_of_two_requests_both_count() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.set_lifetime(Lifetime::strict()).unwrap();
    right.set(VISITS, 2).unwrap();
    let _ = left.finish().await.unwrap();
    let _ = right.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!((session.lifetime(), session.get(VISITS)), (Lifetime::strict(), Some(2)));
}

/// The response must not report success for an expired session.
#[tokio::test]
async fn lifetime_that_is_over_ends_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(30 * MINUTE);
    let late = world
        .try_change(&id, |session| {
            session.set_lifetime(Lifetime::new(10 * MINUTE, 20 * MINUTE).unwrap())
        })
        .await;
    assert!(matches!(late, Err(SessionError::Ended)));
    assert!(!world.opens(&id).await);
    assert_eq!(world.count().await.0, 0);
}

/// An identity provider or a slow form lies between `authenticate` and the commit.
#[tokio::test]
async fn login_recorded_long_before_its_commit_lives_in_full() {
    for visited in [true, false] {
        let world = World::new();
        let session = if visited {
            world.open(&world.visitor().await).await
        } else {
            world.anonymous().await
        };
        session.authenticate("ada").unwrap();
        let short = Lifetime::new(10 * MINUTE, 20 * MINUTE).unwrap();
        session.set_lifetime(short).unwrap();
        let proof = world.sessions_now();
        world.wait(15 * MINUTE);
        let new = told(session.finish().await.unwrap());
        let login = world.sessions_now();
        let session = world.open(&new).await;
        assert_eq!(session.created_at(), Some(login));
        assert_eq!(session.expires_at(), Some(login + 10 * MINUTE));
        // The login keeps the instant of the proof of identity.
        assert_eq!(session.authenticated_at(), Some(proof));
        world.wait(9 * MINUTE);
        let _ = world.read(&new).await;
        world.wait(9 * MINUTE);
        let _ = world.read(&new).await;
        world.wait(2 * MINUTE - MILLISECOND);
        assert!(world.opens(&new).await);
        world.wait(MILLISECOND);
        assert!(!world.opens(&new).await);
    }
}

/// The same holds if the commit is replayed on another request's commit.
#[tokio::test]
async fn login_that_was_overtaken_by_a_write_lives_in_full() {
    let world = World::new();
    let id = world.visitor().await;
    let (login, other) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    world.wait(50 * MINUTE);
    other.set(VISITS, 2).unwrap();
    let _ = other.finish().await.unwrap();
    let new = told(login.finish().await.unwrap());
    let session = world.open(&new).await;
    assert_eq!(session.created_at(), Some(world.sessions_now()));
    assert_eq!(session.expires_at(), Some(world.sessions_now() + HOUR));
}

/// A visit opened long before its first write lives its full lifetime as well.
#[tokio::test]
async fn visit_recorded_long_before_its_commit_lives_in_full() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    world.wait(50 * MINUTE);
    let id = told(session.finish().await.unwrap());
    world.wait(HOUR - MILLISECOND);
    assert!(world.opens(&id).await);
}

/// I8: on a server whose clock is behind, the session may live on for the difference.
/// "Sign out everywhere" must find the session there.
#[tokio::test]
async fn index_entry_lasts_until_no_server_finds_the_session() {
    let lifetime = Lifetime::new(HOUR, HOUR).unwrap();
    for longer in [true, false] {
        let world = World::with_lifetime(lifetime);
        let id = world.user("ada").await;
        let mut end = world.sessions_now() + HOUR;
        if longer {
            world
                .change(&id, |session| {
                    session.set_lifetime(Lifetime::new(2 * HOUR, 2 * HOUR).unwrap())
                })
                .await;
            end = world.sessions_now() + 2 * HOUR;
        }
        world.clock.set(end + 10 * SECOND);
        let before = Timestamp::from_millis(world.sessions_now().as_millis() - 1);
        assert!(world.store.is_entered(id.key(), before).await);
        assert!(!world.store.is_entered(id.key(), world.sessions_now()).await);
    }
}

#[tokio::test]
async fn settings_of_another_deployment_change_no_session() {
    let world = World::new();
    let id = world.visitor().await;
    let short = Lifetime::new(MINUTE, HOUR).unwrap().with_cookie(CookieLifetime::Persistent);
    let other = World {
        sessions: session_core::Sessions::builder(std::sync::Arc::clone(&world.store))
            .with_clock(std::sync::Arc::clone(&world.clock))
            .with_lifetime(short)
            .build()
            .unwrap(),
        ..world
    };
    assert_eq!(other.anonymous().await.lifetime(), short);
    let session = other.open(&id).await;
    assert_eq!(session.lifetime(), Lifetime::standard());
    assert_eq!(session.expires_at(), Some(other.sessions_now() + HOUR));
}

#[tokio::test]
async fn idle_time_of_a_few_milliseconds_works() {
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

/// While this request tries again, another request finds the session expired.
#[tokio::test]
async fn commit_that_waits_beyond_the_idle_time_fails() {
    let world = World::with_lifetime(Lifetime::new(3 * SECOND, HOUR).unwrap());
    world.store.keep_expired();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.set(VISITS, 7).unwrap();
    other.set(VISITS, 2).unwrap();
    let clock = std::sync::Arc::clone(&world.clock);
    world.store.before(Verb::Commit, move || async move {
        let _ = other.finish().await.unwrap();
        clock.advance(3 * SECOND);
    });
    assert!(matches!(session.finish().await, Err(SessionError::Ended)));
}

/// A lifetime that has passed ends the session, even if the request's own copy had expired before.
#[tokio::test]
async fn lifetime_in_the_past_ends_a_session_that_another_extended() {
    let world = World::new();
    let id = world.user("ada").await;
    let slow = world.open(&id).await;
    world.wait(1_800 * SECOND);
    let _ = world.read(&id).await;
    world.wait(1_801 * SECOND);
    assert!(world.opens(&id).await);
    slow.set_lifetime(Lifetime::new(600 * SECOND, 3_600 * SECOND).unwrap()).unwrap();
    assert!(matches!(slow.finish().await, Err(SessionError::Ended)));
    assert!(!world.opens(&id).await);
}

/// Another request has recorded the first use of the renewed ID. The later use counts as well.
#[tokio::test]
async fn use_is_recorded_beside_the_first_use_of_an_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let (first, second) = (world.open(&new).await, world.open(&new).await);
    let _ = first.finish().await.unwrap();
    world.wait(1_800 * SECOND);
    let _ = second.finish().await.unwrap();
    world.wait(3_000 * SECOND);
    assert!(world.opens(&new).await);
}
