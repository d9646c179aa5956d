//! I6: a revocation with a lost answer is reported once, and counted.

use std::{sync::mpsc, time::Duration};

use session_core::{
    AtLimit, EventKind, Events, Owner, SessionError, SessionId, SessionIndex as _, SessionKey,
    SessionLimit, StoreErrorKind,
};

use crate::support::{Fault, HOUR, Verb, World, told};

/// The two faults without an answer for the caller.
const LOST: [Fault; 2] = [Fault::ANSWER_LOST, Fault::UNSENT];

/// Returns a world with its events, and another process on the same store.
fn watched() -> (World, World, Events) {
    let silent = World::new();
    let world = silent.other_process();
    let events = world.sessions.events();
    (world, silent, events)
}

/// Returns the keys of the revoked sessions. Asserts that all events are revocations.
fn revoked(events: &mut Events) -> Vec<SessionKey> {
    let mut keys: Vec<_> = std::iter::from_fn(|| events.try_next())
        .map(|event| {
            assert_eq!(event.kind, EventKind::Revoked);
            assert_eq!(event.owner, Some("ada".into()));
            event.key
        })
        .collect();
    keys.sort_unstable();
    keys
}

fn sorted(ids: &[&SessionId]) -> Vec<SessionKey> {
    let mut keys: Vec<_> = ids.iter().map(|id| id.key()).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn revocation_of_one_is_reported_if_its_answer_is_lost() {
    for fault in LOST {
        let (world, silent, mut events) = watched();
        let id = silent.user("ada").await;
        world.store.fail(Verb::DeleteOrBlock, fault);
        assert!(world.sessions.revoke("ada", id.key()).await.unwrap());
        assert_eq!(revoked(&mut events), sorted(&[&id]));
        assert!(!world.opens(&id).await);
    }
}

/// The end marker of the first try shows that the key was empty.
#[tokio::test]
async fn revocation_of_all_counts_no_expired_session() {
    for fault in [None, Some(Fault::ANSWER_LOST)] {
        let (world, silent, mut events) = watched();
        silent.user("ada").await;
        world.wait(HOUR);
        let ids = [silent.user("ada").await, silent.user("ada").await];
        assert_eq!(world.count_entered().await, 3);
        if let Some(fault) = fault {
            world.store.fail(Verb::DeleteOrBlock, fault);
        }
        assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 2);
        assert_eq!(revoked(&mut events), sorted(&[&ids[0], &ids[1]]));
        assert_eq!(world.count_entered().await, 0);
    }
}

#[tokio::test]
async fn revocation_of_all_counts_each_if_its_answer_is_lost() {
    for fault in LOST {
        let (world, silent, mut events) = watched();
        let ids = [silent.user("ada").await, silent.user("ada").await];
        world.store.fail(Verb::DeleteOrBlock, fault);
        assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 2);
        assert_eq!(revoked(&mut events), sorted(&[&ids[0], &ids[1]]));
        assert_eq!(world.count_entered().await, 0);
        assert_eq!(world.count().await.0, 0);
    }
}

#[tokio::test]
async fn revocation_of_the_others_counts_each_if_its_answer_is_lost() {
    for fault in LOST {
        let (world, silent, mut events) = watched();
        let ids = [silent.user("ada").await, silent.user("ada").await, silent.user("ada").await];
        let session = world.open(&ids[1]).await;
        world.store.fail(Verb::DeleteOrBlock, fault);
        assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 2);
        assert_eq!(revoked(&mut events), sorted(&[&ids[0], &ids[2]]));
        assert!(world.opens(&ids[1]).await);
    }
}

#[tokio::test]
async fn eviction_is_reported_if_its_answer_is_lost() {
    for fault in LOST {
        let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
        let world = World::with(|sessions| sessions.with_session_limit(limit));
        let evicted = world.user("ada").await;
        world.wait(Duration::from_secs(1));
        let mut events = world.sessions.events();
        world.store.fail(Verb::DeleteOrBlock, fault);
        let id = world.begin(|session| session.authenticate("ada")).await;
        let reported: Vec<_> =
            std::iter::from_fn(|| events.try_next()).map(|event| (event.kind, event.key)).collect();
        assert_eq!(
            reported,
            [(EventKind::Evicted, evicted.key()), (EventKind::Authenticated, id.key())]
        );
        assert!(!world.opens(&evicted).await);
    }
}

/// If the answers arrive, a session deleted before by a logout is not counted as revoked.
#[tokio::test]
async fn logout_that_came_first_is_not_reported_as_a_revocation() {
    let (world, silent, mut events) = watched();
    let id = silent.user("ada").await;
    let session = silent.open(&id).await;
    session.destroy().unwrap();
    world.store.before(Verb::DeleteOrBlock, move || async move {
        let _ = session.finish().await.unwrap();
    });
    assert!(!world.sessions.revoke("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&mut events), []);
}

/// The end marker of the first try shows that the key was empty.
#[tokio::test]
async fn logout_before_a_lost_answer_is_not_reported_as_a_revocation() {
    let (world, silent, mut events) = watched();
    let id = silent.user("ada").await;
    let session = silent.open(&id).await;
    session.destroy().unwrap();
    world.store.fail(Verb::DeleteOrBlock, Fault::ANSWER_LOST);
    world.store.before(Verb::DeleteOrBlock, move || async move {
        let _ = session.finish().await.unwrap();
    });
    assert!(!world.sessions.revoke("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&mut events), []);
}

/// Another process's end marker shows that the first try had deleted the session.
#[tokio::test]
async fn revocation_that_others_repeat_first_is_still_reported() {
    let (world, silent, mut events) = watched();
    let id = silent.user("ada").await;
    world.store.fail(Verb::DeleteOrBlock, Fault::ANSWER_LOST);
    let key = id.key();
    world.store.before_nth(2, Verb::DeleteOrBlock, move || async move {
        let owner = Owner::from("ada").key();
        let entries = silent.store.entries(&owner, silent.sessions_now()).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.key).collect::<Vec<_>>(), [key]);
        assert_eq!(silent.sessions.revoke_all("ada").await.unwrap(), 0);
    });
    assert!(world.sessions.revoke("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&mut events), [id.key()]);
}

#[tokio::test]
async fn session_that_moves_before_the_repetition_is_revoked_once() {
    let (world, silent, mut events) = watched();
    let id = silent.user("ada").await;
    let session = silent.open(&id).await;
    session.renew().unwrap();
    world.store.fail(Verb::DeleteOrBlock, Fault::UNSENT);
    let (send, new) = mpsc::channel();
    world.store.before_nth(2, Verb::DeleteOrBlock, move || async move {
        send.send(told(session.finish().await.unwrap())).unwrap();
    });
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    let new = new.try_recv().unwrap();
    assert_eq!(revoked(&mut events), [new.key()]);
    assert!(!world.opens(&new).await);
}

/// The keys stay in the index, so the next revocation finds the sessions.
#[tokio::test]
async fn revocation_that_fails_can_be_repeated() {
    let (world, silent, mut events) = watched();
    let ids = [silent.user("ada").await, silent.user("ada").await];
    for faults in [vec![Fault::DOWN], vec![Fault::UNSENT, Fault::UNSENT]] {
        for (nth, fault) in (1..).zip(faults) {
            world.store.fail_nth(nth, Verb::DeleteOrBlock, fault);
        }
        let error = world.sessions.revoke_all("ada").await.unwrap_err();
        assert!(matches!(error, SessionError::Store(_)), "{error:?}");
        assert_eq!(revoked(&mut events), []);
        assert_eq!(world.count_entered().await, 2);
    }
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 2);
    assert_eq!(revoked(&mut events), sorted(&[&ids[0], &ids[1]]));
}

/// Both answers are lost, but the session is deleted: the next call finds no session to revoke or
/// report.
#[tokio::test]
async fn revocation_without_any_answer_still_ends_the_sessions() {
    let (world, silent, mut events) = watched();
    let id = silent.user("ada").await;
    world.fail_twice(Verb::DeleteOrBlock, Fault::ANSWER_LOST);
    let Err(SessionError::Store(error)) = world.sessions.revoke("ada", id.key()).await else {
        panic!("no answer came")
    };
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    assert!(!world.opens(&id).await);
    assert!(!world.sessions.revoke("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&mut events), []);
    assert_eq!(world.count_entered().await, 0);
}
