//! What happened is told, in order, and to nobody's cost.

use std::time::Duration;

use session_core::{AtLimit, ConfigError, Event, Events, Lifetime, SessionLimit, StoreErrorKind};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

const HOUR: Duration = Duration::from_secs(3600);

fn world() -> (World, Events) {
    let events = Events::with_capacity(16).unwrap();
    (World::with(|sessions| sessions.with_events(&events)), events)
}

fn all(events: &Events) -> Vec<Event> {
    std::iter::from_fn(|| events.try_next()).collect()
}

#[tokio::test]
async fn a_session_tells_its_life() {
    let (world, events) = world();
    let visitor = world.visitor().await;
    let session = world.open(&visitor).await;
    session.authenticate("ada").unwrap();
    let user = told(session.finish().await.unwrap());
    let session = world.open(&user).await;
    session.renew().unwrap();
    let renewed = told(session.finish().await.unwrap());
    let session = world.open(&renewed).await;
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    let (first, second, third) = (visitor.key(), user.key(), renewed.key());
    assert_eq!(
        all(&events),
        [
            Event::Created { key: first },
            Event::Authenticated { key: second, former: Some(first) },
            Event::Renewed { key: third, former: second },
            Event::Destroyed { key: third },
        ]
    );
}

#[tokio::test]
async fn a_login_of_a_newcomer_is_one_event() {
    let (world, events) = world();
    let id = world.user("ada").await;
    assert_eq!(all(&events), [Event::Authenticated { key: id.key(), former: None }]);
}

#[tokio::test]
async fn a_renewal_that_is_due_is_told() {
    let events = Events::with_capacity(16).unwrap();
    let lifetime = Lifetime::aal2().with_renew_after(HOUR / 2).unwrap();
    let world = World::with(|sessions| sessions.with_lifetime(lifetime).with_events(&events));
    let id = world.visitor().await;
    world.wait(HOUR / 2);
    let renewed = told(world.open(&id).await.finish().await.unwrap());
    let [created, event] = all(&events)[..] else { panic!("two events") };
    assert_eq!(created, Event::Created { key: id.key() });
    assert_eq!(event, Event::Renewed { key: renewed.key(), former: id.key() });
}

#[tokio::test]
async fn what_expires_under_a_request_is_told() {
    let (world, events) = world();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    world.wait(HOUR);
    session.finish().await.unwrap_err();
    assert_eq!(all(&events).last(), Some(&Event::Expired { key: id.key() }));
}

#[tokio::test]
async fn a_corrupt_record_is_told() {
    let (world, events) = world();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    assert!(!world.opens(&id).await);
    assert_eq!(all(&events).last(), Some(&Event::Corrupt { key: id.key() }));
}

#[tokio::test]
async fn what_changes_nothing_is_not_told() {
    let (world, events) = world();
    let id = world.visitor().await;
    all(&events);
    let session = world.open(&id).await;
    session.set(NOTE, &"x".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    let _ = world.open(&id).await.finish().await.unwrap();
    assert_eq!(all(&events), []);
}

/// Nobody takes the events: requests go on, and the loss is counted.
#[tokio::test]
async fn a_full_queue_delays_nobody() {
    let events = Events::with_capacity(1).unwrap();
    let world = World::with(|sessions| sessions.with_events(&events));
    let ids = [world.visitor().await, world.visitor().await, world.visitor().await];
    assert_eq!(all(&events), [Event::Created { key: ids[0].key() }]);
    assert_eq!(events.lost(), 2);
}

#[tokio::test]
async fn who_waits_is_woken() {
    let (world, events) = world();
    let waiting = tokio::spawn({
        let events = events.clone();
        async move { events.next().await }
    });
    let id = world.visitor().await;
    assert_eq!(waiting.await.unwrap(), Event::Created { key: id.key() });
}

#[test]
fn a_queue_has_bounds() {
    let error: ConfigError = Events::with_capacity(0).unwrap_err();
    insta::assert_snapshot!(error, @"a queue of 0 events is not between 1 and 1048576");
    assert!(Events::with_capacity(Events::MAX_CAPACITY + 1).is_err());
}

#[tokio::test]
async fn a_session_that_was_ended_from_elsewhere_is_told_once() {
    let (world, events) = world();
    let ids = [world.user("ada").await, world.user("ada").await];
    all(&events);
    assert!(world.sessions.end_one("ada", ids[0].key()).await.unwrap());
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 1);
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 0);
    assert_eq!(all(&events), ids.map(|id| Event::Revoked { key: id.key() }));
}

#[tokio::test]
async fn a_session_that_a_login_evicted_is_told() {
    let events = Events::with_capacity(16).unwrap();
    let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit).with_events(&events));
    let evicted = world.user("ada").await;
    all(&events);
    let id = world.user("ada").await;
    assert_eq!(
        all(&events),
        [
            Event::Evicted { key: evicted.key() },
            Event::Authenticated { key: id.key(), former: None }
        ]
    );
}

#[tokio::test]
async fn a_session_that_two_requests_end_is_told_once() {
    let (world, events) = world();
    let id = world.visitor().await;
    let (one, other) = (world.open(&id).await, world.open(&id).await);
    all(&events);
    one.destroy().unwrap();
    other.destroy().unwrap();
    let _ = (one.finish().await.unwrap(), other.finish().await.unwrap());
    assert_eq!(all(&events), [Event::Destroyed { key: id.key() }]);
}

#[tokio::test]
async fn a_session_that_is_ended_where_it_moved_to_is_told_by_its_key_there() {
    let (world, events) = world();
    let id = world.visitor().await;
    let (login, logout) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let moved = told(login.finish().await.unwrap());
    all(&events);
    logout.destroy().unwrap();
    let _ = logout.finish().await.unwrap();
    assert_eq!(all(&events), [Event::Destroyed { key: moved.key() }]);
}

#[tokio::test]
async fn a_logout_whose_answer_was_lost_is_told() {
    let (world, events) = world();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    all(&events);
    session.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::ANSWER_LOST);
    let _ = session.finish().await.unwrap();
    assert_eq!(all(&events), [Event::Destroyed { key: id.key() }]);
}

#[tokio::test]
async fn the_end_of_a_session_that_cannot_be_read_is_told() {
    let (world, events) = world();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    let session = world.open(&id).await;
    all(&events);
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(all(&events), [Event::Destroyed { key: id.key() }]);
}
