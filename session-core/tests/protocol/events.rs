//! Events: in order, for every subscriber, without delay for a request.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt};
use session_core::{
    AtLimit, Event, EventKind, Events, Lifetime, Session, SessionError, SessionKey, SessionLimit,
    Sessions, SessionsBuilder, StoreErrorKind,
};

use crate::support::{Fault, HOUR, NOTE, VISITS, Verb, World, probe, told};

/// An event: kind, key, former key, owner.
type Seen = (EventKind, SessionKey, Option<SessionKey>, Option<String>);

fn world() -> (World, Events) {
    world_with(|sessions| sessions)
}

fn world_with(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> (World, Events) {
    let world = World::with(configure);
    let events = world.sessions.events();
    (world, events)
}

fn seen(event: Event) -> Seen {
    let owner = event.owner.map(|owner| owner.as_str().unwrap().to_owned());
    (event.kind, event.key, event.former, owner)
}

fn all(events: &mut Events) -> Vec<Seen> {
    std::iter::from_fn(|| events.try_next()).map(seen).collect()
}

/// Returns an event of a visitor's session.
fn of_visitor(kind: EventKind, key: SessionKey) -> Seen {
    (kind, key, None, None)
}

/// Returns an event of a session of `ada`.
fn of_ada(kind: EventKind, key: SessionKey) -> Seen {
    (kind, key, None, Some("ada".to_owned()))
}

/// Returns an event that gave a session of `ada` another key.
fn moved(kind: EventKind, key: SessionKey, former: SessionKey) -> Seen {
    (kind, key, Some(former), Some("ada".to_owned()))
}

#[tokio::test]
async fn events_show_the_life_of_a_session() {
    let (world, mut events) = world();
    let visitor = world.visitor().await;
    let user = world.login(&visitor, "ada").await;
    let rotated = world.rotate(&user).await;
    let renewed = world.renew(&rotated).await;
    world.log_out(&renewed).await;
    let [first, second, third, fourth] = [visitor, user, rotated, renewed].map(|id| id.key());
    assert_eq!(
        all(&mut events),
        [
            of_visitor(EventKind::Created, first),
            moved(EventKind::Authenticated, second, first),
            moved(EventKind::Rotated, third, second),
            moved(EventKind::Renewed, fourth, third),
            of_ada(EventKind::Destroyed, fourth),
        ]
    );
}

#[tokio::test]
async fn login_without_a_visit_is_one_event() {
    let (world, mut events) = world();
    let id = world.user("ada").await;
    assert_eq!(all(&mut events), [of_ada(EventKind::Authenticated, id.key())]);
}

/// One commit reports each change of the user, in the order of the calls.
#[tokio::test]
async fn commit_reports_each_change_of_the_user() {
    use EventKind::{
        ActingStarted, ActingStopped, Authenticated, Created, Destroyed, Reauthenticated, Renewed,
        Rotated,
    };
    type Record = fn(&Session) -> Result<(), SessionError>;
    type Expected = &'static [(EventKind, &'static str, &'static str)];
    fn act(session: &Session) -> Result<(), SessionError> {
        session.act_as("grace", HOUR / 2)
    }
    let log_in: Record = |session| session.authenticate("ada");
    let confirm: Record = |session| session.reauthenticate("ada");
    let other: Record = |session| session.authenticate("linus");
    let (stop, end): (Record, Record) = (Session::stop_acting, Session::destroy);
    let write: Record = |session| session.set(VISITS, 1);
    let link: Record = |session| session.link("sid", "2");
    let cases: [(&str, &[Record], Expected); 20] = [
        ("nobody", &[write], &[(Created, "", "")]),
        ("nobody", &[log_in, act], &[(Authenticated, "ada", ""), (ActingStarted, "grace", "ada")]),
        ("nobody", &[log_in, confirm], &[(Authenticated, "ada", ""), (Reauthenticated, "ada", "")]),
        ("nobody", &[log_in, log_in, link], &[(Authenticated, "ada", "")]),
        ("nobody", &[log_in, other], &[(Authenticated, "ada", ""), (Authenticated, "linus", "")]),
        ("nobody", &[log_in, end], &[]),
        ("visitor", &[log_in, act], &[(Authenticated, "ada", ""), (ActingStarted, "grace", "ada")]),
        ("visitor", &[log_in, write, link], &[(Authenticated, "ada", "")]),
        ("visitor", &[log_in, end], &[(Destroyed, "", "")]),
        ("visitor", &[end, log_in], &[(Destroyed, "", ""), (Authenticated, "ada", "")]),
        ("user", &[act, stop], &[(ActingStarted, "grace", "ada"), (ActingStopped, "grace", "ada")]),
        ("user", &[act, write], &[(ActingStarted, "grace", "ada")]),
        ("user", &[confirm, act], &[(Reauthenticated, "ada", ""), (ActingStarted, "grace", "ada")]),
        ("user", &[act, other], &[(ActingStarted, "grace", "ada"), (Authenticated, "linus", "")]),
        ("user", &[act, end], &[(Destroyed, "ada", "")]),
        ("user", &[link, Session::rotate], &[(Rotated, "ada", "")]),
        ("user", &[Session::renew, write], &[(Renewed, "ada", "")]),
        (
            "actor",
            &[stop, act],
            &[(ActingStopped, "grace", "ada"), (ActingStarted, "grace", "ada")],
        ),
        (
            "actor",
            &[stop, confirm],
            &[(ActingStopped, "grace", "ada"), (Reauthenticated, "ada", "")],
        ),
        ("actor", &[log_in, stop], &[(Authenticated, "ada", "")]),
    ];
    for (number, (before, calls, expected)) in cases.into_iter().enumerate() {
        let world = World::new();
        let session = match before {
            "nobody" => world.anonymous().await,
            "visitor" => world.open(&world.visitor().await).await,
            "user" => world.open(&world.user("ada").await).await,
            _ => world.open(&world.moved(&world.user("ada").await, act).await).await,
        };
        let mut former = session.key();
        let mut events = world.sessions.events();
        for call in calls {
            call(&session).unwrap();
        }
        let _ = session.finish().await.unwrap();
        let mut reported = Vec::new();
        while let Some(event) = events.try_next() {
            match event.kind {
                Destroyed => former = None,
                _ => assert_eq!((Some(event.key), event.former), (session.key(), former)),
            }
            reported.push((event.kind, event.owner, event.actor));
        }
        let user = |name: &'static str| (!name.is_empty()).then(|| name.into());
        let expected: Vec<_> =
            expected.iter().map(|(kind, o, a)| (*kind, user(o), user(a))).collect();
        assert_eq!(reported, expected, "{number}");
    }
}

#[tokio::test]
async fn every_subscriber_receives_every_event() {
    let (world, mut first) = world();
    let id = world.visitor().await;
    // A later subscriber receives the later events.
    let mut second = world.sessions.clone().events();
    let user = world.login(&id, "ada").await;
    let created = of_visitor(EventKind::Created, id.key());
    let login = moved(EventKind::Authenticated, user.key(), id.key());
    assert_eq!(all(&mut first), [created, login.clone()]);
    assert_eq!(all(&mut second), [login]);
    // After a subscriber is dropped, the others still receive every event.
    drop(first);
    let _ = world.visitor().await;
    assert_eq!(all(&mut second).len(), 1);
    assert_eq!(second.lost(), 0);
}

/// Requests never wait for a subscriber. The subscriber loses the oldest events first, and counts
/// them.
#[tokio::test]
async fn slow_subscriber_loses_the_oldest_events_and_counts_them() {
    let (world, mut slow) = world_with(|sessions| sessions.with_event_buffer(2));
    let mut fast = world.sessions.events();
    let mut ids = Vec::new();
    let mut received = Vec::new();
    for _ in 0..5 {
        ids.push(world.visitor().await.key());
        received.extend(all(&mut fast));
    }
    let expected: Vec<_> = ids.iter().map(|key| of_visitor(EventKind::Created, *key)).collect();
    assert_eq!(received, expected);
    assert_eq!(fast.lost(), 0);
    assert_eq!(all(&mut slow), expected[3..]);
    assert_eq!(slow.lost(), 3);
    // The other method to read loses and counts the same way.
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.visitor().await.key());
    }
    assert_eq!(seen(slow.next().await.unwrap()), of_visitor(EventKind::Created, ids[1]));
    assert_eq!(slow.lost(), 4);
}

#[tokio::test]
async fn waiting_subscriber_is_woken() {
    let (world, mut events) = world();
    let waiting = tokio::spawn(async move { events.next().await });
    tokio::task::yield_now().await;
    let id = world.visitor().await;
    let event = waiting.await.unwrap().expect("the sessions are there");
    assert_eq!(seen(event), of_visitor(EventKind::Created, id.key()));
}

#[tokio::test]
async fn events_end_with_the_last_handle() {
    let (world, mut events) = world();
    let other = world.sessions.clone();
    let id = world.visitor().await;
    drop(world);
    assert_eq!(all(&mut events), [of_visitor(EventKind::Created, id.key())]);
    assert!(events.next().now_or_never().is_none(), "a handle is left");
    drop(other);
    assert!(events.next().await.is_none());
    assert!(StreamExt::next(&mut events).await.is_none());
    assert!(events.try_next().is_none());
}

#[test]
fn event_buffer_has_bounds() {
    let build = |events| Sessions::builder(probe()).with_event_buffer(events).build();
    let error = build(0).unwrap_err();
    insta::assert_snapshot!(error, @"a buffer of 0 events is not between 1 and 1048576");
    assert!(build(SessionsBuilder::MAX_EVENT_BUFFER + 1).is_err());
    assert!(build(1).is_ok());
}

#[tokio::test]
async fn renewal_that_is_due_is_an_event() {
    let lifetime = Lifetime::standard().with_renew_after(HOUR / 2).unwrap();
    let (world, mut events) = world_with(|sessions| sessions.with_lifetime(lifetime));
    let id = world.user("ada").await;
    world.wait(HOUR / 2);
    let renewed = told(world.read(&id).await);
    assert_eq!(
        all(&mut events),
        [
            of_ada(EventKind::Authenticated, id.key()),
            moved(EventKind::Renewed, renewed.key(), id.key()),
        ]
    );
}

#[tokio::test]
async fn expiry_under_a_request_is_an_event() {
    let (world, mut events) = world();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    world.wait(HOUR);
    session.finish().await.unwrap_err();
    assert_eq!(all(&mut events).last(), Some(&of_ada(EventKind::Expired, id.key())));
}

#[tokio::test]
async fn end_in_the_past_is_an_event() {
    let (world, mut events) = world();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now()).unwrap();
    session.finish().await.unwrap_err();
    assert_eq!(all(&mut events).last(), Some(&of_ada(EventKind::Expired, id.key())));
}

#[tokio::test]
async fn read_and_write_are_no_events() {
    let (world, mut events) = world();
    let id = world.visitor().await;
    all(&mut events);
    world.change(&id, |session| session.set(NOTE, "x")).await;
    let _ = world.read(&id).await;
    assert_eq!(all(&mut events), []);
}

#[tokio::test]
async fn revocation_is_one_event_per_session() {
    let (world, mut events) = world();
    let ids = [world.user("ada").await, world.user("ada").await];
    all(&mut events);
    assert!(world.sessions.revoke("ada", ids[0].key()).await.unwrap());
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 0);
    assert_eq!(all(&mut events), ids.map(|id| of_ada(EventKind::Revoked, id.key())));
}

#[tokio::test]
async fn eviction_is_an_event() {
    let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
    let (world, mut events) = world_with(|sessions| sessions.with_session_limit(limit));
    let evicted = world.user("ada").await;
    world.wait(Duration::from_millis(1));
    all(&mut events);
    let id = world.user("ada").await;
    assert_eq!(
        all(&mut events),
        [of_ada(EventKind::Evicted, evicted.key()), of_ada(EventKind::Authenticated, id.key()),]
    );
}

#[tokio::test]
async fn two_logouts_of_a_session_are_one_event() {
    let (world, mut events) = world();
    let id = world.user("ada").await;
    let (one, other) = (world.open(&id).await, world.open(&id).await);
    all(&mut events);
    one.destroy().unwrap();
    other.destroy().unwrap();
    let _ = (one.finish().await.unwrap(), other.finish().await.unwrap());
    assert_eq!(all(&mut events), [of_ada(EventKind::Destroyed, id.key())]);
}

#[tokio::test]
async fn logout_reports_the_key_that_the_session_moved_to() {
    let (world, mut events) = world();
    let id = world.visitor().await;
    let logout = world.open(&id).await;
    let user = world.login(&id, "ada").await;
    all(&mut events);
    logout.destroy().unwrap();
    let _ = logout.finish().await.unwrap();
    assert_eq!(all(&mut events), [of_ada(EventKind::Destroyed, user.key())]);
}

#[tokio::test]
async fn logout_with_a_lost_answer_is_an_event() {
    let (world, mut events) = world();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    all(&mut events);
    session.destroy().unwrap();
    world.store.fail(Verb::Delete, Fault::ANSWER_LOST);
    let _ = session.finish().await.unwrap();
    assert_eq!(all(&mut events), [of_ada(EventKind::Destroyed, id.key())]);
}

#[tokio::test]
async fn end_of_an_unreadable_session_is_an_event() {
    let (world, mut events) = world();
    let id = world.visitor().await;
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    let session = world.open(&id).await;
    all(&mut events);
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(all(&mut events), [of_visitor(EventKind::Destroyed, id.key())]);
}

/// A failed login sends no event.
#[tokio::test]
async fn failed_login_is_no_event() {
    let (world, mut events) = world();
    let id = world.visitor().await;
    all(&mut events);
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.store.fail(Verb::Commit, Fault::DOWN);
    session.finish().await.unwrap_err();
    assert_eq!(all(&mut events), []);
}
