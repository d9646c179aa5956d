//! The limit of sessions per owner.

use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, ManualClock, SessionError, SessionId, SessionKey,
    SessionLimit, Sessions, SystemClock,
};

use crate::support::{Look as _, Peek as _, Steps, VISITS, Verb, World, steps, told};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn world(max: usize, at_limit: AtLimit) -> World {
    let limit = SessionLimit::new(max, at_limit).unwrap();
    World::with(|sessions| sessions.with_session_limit(limit))
}

async fn sign_in(world: &World) -> Result<SessionId, SessionError> {
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.finish().await.map(told)
}

async fn listed(world: &World) -> Vec<SessionKey> {
    world.sessions.list("ada").await.unwrap().iter().map(|info| info.key()).collect()
}

#[tokio::test]
async fn a_login_above_the_limit_is_refused_and_stores_nothing() {
    let world = world(2, AtLimit::Reject);
    let ids = [sign_in(&world).await.unwrap(), sign_in(&world).await.unwrap()];
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let error = session.commit().await.unwrap_err();
    insta::assert_snapshot!(error, @"the owner has as many sessions as the limit of 2 allows");
    assert!(!error.is_retryable());
    assert_eq!(world.count().await, (2, 0));
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
    // Another owner has a limit of its own.
    world.user("grace").await;
    // The login is still recorded, and succeeds once there is room.
    assert!(world.sessions.revoke("ada", ids[0].key()).await.unwrap());
    let id = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await && world.opens(&ids[1]).await);
}

#[tokio::test]
async fn a_login_that_was_refused_leaves_the_session_before_as_it_was() {
    let world = world(1, AtLimit::Reject);
    sign_in(&world).await.unwrap();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert!(matches!(session.commit().await, Err(SessionError::TooManySessions { limit: 1 })));
    session.discard();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.owner()), (Some(1), None));
}

#[tokio::test]
async fn the_session_whose_login_was_the_longest_ago_is_evicted() {
    let world = world(2, AtLimit::EvictOldest);
    let oldest = sign_in(&world).await.unwrap();
    world.wait(MINUTE);
    let second = sign_in(&world).await.unwrap();
    world.wait(10 * MINUTE);
    let _ = world.open(&oldest).await.finish().await.unwrap();
    let third = sign_in(&world).await.unwrap();
    assert!(!world.opens(&oldest).await);
    assert!(world.opens(&second).await && world.opens(&third).await);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
}

#[tokio::test]
async fn the_session_that_was_unused_for_the_longest_time_is_evicted() {
    let world = world(2, AtLimit::EvictLeastRecent);
    let oldest = sign_in(&world).await.unwrap();
    world.wait(MINUTE);
    let second = sign_in(&world).await.unwrap();
    world.wait(10 * MINUTE);
    let _ = world.open(&oldest).await.finish().await.unwrap();
    let third = sign_in(&world).await.unwrap();
    assert!(!world.opens(&second).await);
    assert!(world.opens(&oldest).await && world.opens(&third).await);
}

#[tokio::test]
async fn a_limit_that_was_lowered_holds_from_the_next_login_on() {
    let world = world(5, AtLimit::EvictOldest);
    for _ in 0..5 {
        sign_in(&world).await.unwrap();
        world.wait(MINUTE);
    }
    let limit = SessionLimit::new(2, AtLimit::EvictOldest).unwrap();
    let strict = Sessions::builder(Arc::clone(&world.store))
        .with_clock(Arc::clone(&world.clock))
        .with_session_limit(limit);
    let strict = World { sessions: strict.build().unwrap(), ..world };
    sign_in(&strict).await.unwrap();
    assert_eq!(listed(&strict).await.len(), 2);
}

#[tokio::test]
async fn sessions_that_have_expired_take_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = world(2, at_limit);
        sign_in(&world).await.unwrap();
        world.wait(30 * MINUTE);
        let stays = sign_in(&world).await.unwrap();
        world.wait(HOUR - 30 * MINUTE);
        let new = sign_in(&world).await.unwrap();
        assert_eq!(listed(&world).await, [new.key(), stays.key()]);
    }
}

/// A store may keep what has expired for a while, as one does whose clock is behind.
#[tokio::test]
async fn a_session_that_has_expired_and_is_still_stored_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = world(1, at_limit);
        world.store.keep_expired();
        sign_in(&world).await.unwrap();
        world.wait(HOUR);
        let id = sign_in(&world).await.unwrap();
        assert_eq!(listed(&world).await, [id.key()]);
        // By that clock it may go on: the index still knows it.
        assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
    }
}

#[tokio::test]
async fn a_login_again_takes_the_place_of_the_session_it_is_made_of() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = world(2, at_limit);
        let (mut id, other) = (sign_in(&world).await.unwrap(), sign_in(&world).await.unwrap());
        for _ in 0..3 {
            let session = world.open(&id).await;
            session.authenticate("ada").unwrap();
            id = told(session.finish().await.unwrap());
        }
        assert!(world.opens(&id).await && world.opens(&other).await);
        assert_eq!(world.store.count_entered(world.sessions_now()).await, 2);
    }
}

#[tokio::test]
async fn a_renewal_is_never_refused_and_evicts_nobody() {
    let world = world(2, AtLimit::Reject);
    let ids = [sign_in(&world).await.unwrap(), sign_in(&world).await.unwrap()];
    let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
    let strict = Sessions::builder(Arc::clone(&world.store))
        .with_clock(Arc::clone(&world.clock))
        .with_session_limit(limit);
    let strict = World { sessions: strict.build().unwrap(), ..world };
    for id in &ids {
        let session = strict.open(id).await;
        session.renew().unwrap();
        strict.store.calls();
        let id = told(session.finish().await.unwrap());
        assert_eq!(strict.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
        assert!(strict.opens(&id).await);
    }
    assert_eq!(listed(&strict).await.len(), 2);
}

#[tokio::test]
async fn a_limit_costs_a_login_one_round_trip() {
    let world = world(2, AtLimit::EvictOldest);
    let id = sign_in(&world).await.unwrap();
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
}

/// Three processes, and a store that lets others in before each command.
async fn fifty_logins_at_once(at_limit: AtLimit) -> (Arc<Steps>, Vec<Result<(), SessionError>>) {
    let store = Arc::new(steps());
    let limit = SessionLimit::new(3, at_limit).unwrap();
    let processes: Vec<_> = (0..3)
        .map(|_| {
            let sessions = Sessions::builder(Arc::clone(&store)).with_session_limit(limit);
            sessions.build().unwrap()
        })
        .collect();
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let sessions = processes[number % 3].clone();
            tokio::spawn(async move {
                let session = sessions.open([]).await?;
                session.authenticate("ada")?;
                session.finish().await.map(drop)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    (store, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_logins_at_once_leave_three_at_most() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for _ in 0..3 {
            let (store, answers) = fifty_logins_at_once(at_limit).await;
            let now = SystemClock.now();
            assert!(store.live(now).len() <= 3, "{at_limit:?}: {answers:?}");
            let mut live: Vec<_> = store.live(now).into_iter().map(|(key, _)| key).collect();
            let mut entered = store.entered("ada", now);
            live.sort_unstable();
            entered.sort_unstable();
            assert_eq!(live, entered);
            let accepted = answers.iter().filter(|answer| answer.is_ok()).count();
            if at_limit == AtLimit::Reject {
                assert!(accepted <= 3, "{answers:?}");
            } else {
                assert!(accepted > 0 && !store.live(now).is_empty(), "{answers:?}");
            }
            for answer in answers {
                let is_refusal = matches!(
                    answer,
                    Ok(())
                        | Err(SessionError::TooManySessions { limit: 3 } | SessionError::Contended)
                );
                assert!(is_refusal, "{answer:?}");
            }
        }
    }
}

/// A login through a server whose clock is ahead takes nothing out of the index that others still serve (I8).
#[tokio::test]
async fn a_login_by_a_clock_that_is_ahead_leaves_a_session_in_its_last_second_in_the_index() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = world(1, at_limit);
        world.store.keep_expired();
        let id = sign_in(&world).await.unwrap();
        world.wait(HOUR - Duration::from_secs(1));
        let clock = ManualClock::new(world.sessions_now() + Duration::from_secs(2));
        let sessions = Sessions::builder(Arc::clone(&world.store)).with_clock(clock);
        let limit = SessionLimit::new(1, at_limit).unwrap();
        let sessions = sessions.with_session_limit(limit).build().unwrap();
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let _ = session.finish().await.unwrap();

        let session = world.open(&id).await;
        session.set(VISITS, &7).unwrap();
        let _ = session.finish().await.unwrap();
        assert!(world.store.is_entered(id.key(), world.sessions_now()).await);
        world.sessions.revoke_all("ada").await.unwrap();
        assert!(!world.opens(&id).await);
    }
}
