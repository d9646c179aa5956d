//! Ends of sessions from elsewhere whose answer was lost (I6): told once, and counted.

use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, Event, Events, OwnerIndex as _, SessionId, SessionKey, SessionLimit, Sessions,
    StoreErrorKind,
};

use crate::support::{Fault, Verb, World, told};

const HOUR: Duration = Duration::from_secs(3600);

/// A world whose events are heard, and a process that makes no such noise.
fn heard() -> (World, World, Events) {
    let events = Events::with_capacity(100).unwrap();
    let silent = World::new();
    let sessions = Sessions::new(Arc::clone(&silent.store))
        .with_clock(Arc::clone(&silent.clock))
        .with_events(&events);
    let world = World {
        store: Arc::clone(&silent.store),
        clock: Arc::clone(&silent.clock),
        sessions: Arc::new(sessions),
    };
    (world, silent, events)
}

fn revoked(events: &Events) -> Vec<SessionKey> {
    let mut keys: Vec<_> = std::iter::from_fn(|| events.try_next())
        .map(|event| match event {
            Event::Revoked { key } => key,
            other => panic!("{other:?}"),
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
async fn the_end_of_one_is_told_though_its_answer_was_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let (world, silent, events) = heard();
        let id = silent.user("ada").await;
        world.store.fail(Verb::EndMany, fault);
        assert!(world.sessions.end_one("ada", id.key()).await.unwrap());
        assert_eq!(revoked(&events), sorted(&[&id]));
        assert!(!world.opens(&id).await);
    }
}

/// And what had ended before is not counted.
#[tokio::test]
async fn the_end_of_all_is_counted_though_its_answer_was_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let (world, silent, events) = heard();
        silent.user("ada").await;
        world.wait(HOUR);
        let ids = [silent.user("ada").await, silent.user("ada").await];
        assert_eq!(world.store.count_entered(world.sessions_now()).await, 3);
        world.store.fail(Verb::EndMany, fault);
        assert_eq!(world.sessions.end_all("ada").await.unwrap(), 2);
        assert_eq!(revoked(&events), sorted(&[&ids[0], &ids[1]]));
        assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
    }
}

#[tokio::test]
async fn the_end_of_the_others_is_counted_though_its_answer_was_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let (world, silent, events) = heard();
        let ids = [silent.user("ada").await, silent.user("ada").await, silent.user("ada").await];
        let session = world.open(&ids[1]).await;
        world.store.fail(Verb::EndMany, fault);
        assert_eq!(world.sessions.end_others(&session).await.unwrap(), 2);
        assert_eq!(revoked(&events), sorted(&[&ids[0], &ids[2]]));
        assert!(world.opens(&ids[1]).await);
    }
}

#[tokio::test]
async fn an_eviction_is_told_though_its_answer_was_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let events = Events::with_capacity(100).unwrap();
        let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
        let world = World::with(|sessions| sessions.with_session_limit(limit).with_events(&events));
        let evicted = world.user("ada").await;
        while events.try_next().is_some() {}
        world.store.fail(Verb::EndMany, fault);
        let session = world.anonymous().await;
        session.authenticate("ada").unwrap();
        let id = told(session.finish().await.unwrap());
        assert_eq!(events.try_next(), Some(Event::Evicted { key: evicted.key() }));
        let authenticated = Event::Authenticated { key: id.key(), former: None };
        assert_eq!((events.try_next(), events.try_next()), (Some(authenticated), None));
    }
}

/// The marker of the first time tells that nothing was there.
#[tokio::test]
async fn a_logout_that_came_first_is_not_told_as_an_end_from_elsewhere() {
    let (world, silent, events) = heard();
    let id = silent.user("ada").await;
    let session = silent.open(&id).await;
    session.destroy().unwrap();
    world.store.fail(Verb::EndMany, Fault::ANSWER_LOST);
    world.store.before(Verb::EndMany, move || async move {
        let _ = session.finish().await.unwrap();
    });
    assert!(!world.sessions.end_one("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&events), []);
}

/// Somebody else's marker tells that the first time had ended it by then.
#[tokio::test]
async fn an_end_that_others_repeat_before_it_is_asked_for_again_is_told() {
    let (world, silent, events) = heard();
    let id = silent.user("ada").await;
    world.store.fail(Verb::EndMany, Fault::ANSWER_LOST);
    let key = id.key();
    world.store.before_nth(2, Verb::EndMany, move || async move {
        let owner = session_core::Owner::from("ada").key();
        assert_eq!(silent.store.entries(&owner, silent.sessions_now()).await.unwrap(), [key]);
        assert_eq!(silent.sessions.end_all("ada").await.unwrap(), 0);
    });
    assert!(world.sessions.end_one("ada", id.key()).await.unwrap());
    assert_eq!(revoked(&events), [id.key()]);
}

/// A session that moved after the first time is ended where it is.
#[tokio::test]
async fn a_session_that_moves_before_it_is_asked_for_again_is_told_once() {
    let (world, silent, events) = heard();
    let id = silent.user("ada").await;
    let session = silent.open(&id).await;
    session.renew().unwrap();
    world.store.fail(Verb::EndMany, Fault::UNSENT);
    let (tell, new) = async_channel::bounded(1);
    world.store.before_nth(2, Verb::EndMany, move || async move {
        tell.send(told(session.finish().await.unwrap())).await.unwrap();
    });
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 1);
    let new = new.try_recv().unwrap();
    assert_eq!(revoked(&events), [new.key()]);
    assert!(!world.opens(&new).await);
}

/// A server that is full cannot bar the key of a session that has expired, but ends those that live; the
/// key stays in the index, as a login that is under way may still use it.
#[tokio::test]
async fn a_key_that_cannot_be_barred_keeps_no_session_alive() {
    let (world, silent, events) = heard();
    silent.user("ada").await;
    world.wait(2 * HOUR);
    let id = silent.user("ada").await;
    world.store.fail(Verb::Create, Fault::Before(StoreErrorKind::Full));
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 1);
    assert_eq!(revoked(&events), [id.key()]);
    assert!(!world.opens(&id).await);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 1);
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 0);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
}
