//! Attacks on connections that outlive their request.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use session_core::{
    CookieChange, EndReason, Session, SessionError, SessionId, Sessions, StoreErrorKind,
    testing::Fault,
};

use super::{INTERVAL, connect, end};
use crate::support::*;

/// A change by another request while a connection updates its session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Write,
    Renew,
    Rotate,
    Login(&'static str),
    Destroy,
}

type Task = Pin<Box<dyn Future<Output = Outcome>>>;

/// The result of the connection's update, or of the other request.
enum Outcome {
    Update(Result<u64, SessionError>),
    Request(Result<CookieChange, SessionError>),
}

/// A session of one visit, and the other content that the connection's update has read.
struct Race {
    sessions: Sessions,
    former: SessionId,
    read: Arc<Mutex<Vec<String>>>,
}

async fn request(
    sessions: Sessions,
    id: SessionId,
    act: Act,
) -> Result<CookieChange, SessionError> {
    let session = sessions.open([id.expose().as_bytes()]).await?;
    match act {
        Act::Write => {}
        Act::Renew => session.renew()?,
        Act::Rotate => session.rotate()?,
        Act::Login(owner) => session.authenticate(owner)?,
        Act::Destroy => {
            session.destroy()?;
            return session.finish().await;
        }
    }
    session.set(NOTE, "secret")?;
    session.update(VISITS, |visits| *visits += 1)?;
    session.finish().await
}

/// Runs an update of a connection beside a request, in every order of their commands. The check
/// receives the update's result, and the session that the browser has afterwards.
fn race(
    owner: Option<&'static str>,
    act: Act,
    check: impl Fn(&Race, Result<u64, SessionError>, Option<Session>, &[usize]),
) {
    let make = || {
        let sessions = Sessions::new(steps());
        let former = run(async {
            let session = sessions.open([]).await.unwrap();
            session.set(VISITS, 1).unwrap();
            if let Some(owner) = owner {
                session.authenticate(owner).unwrap();
            }
            told(session.finish().await.unwrap())
        });
        let live = run(async {
            let session = sessions.open([former.expose().as_bytes()]).await.unwrap();
            session.live().await.unwrap()
        });
        let read = Arc::<Mutex<Vec<String>>>::default();
        let notes = Arc::clone(&read);
        let update: Task = Box::pin(async move {
            let updated = live.try_update(VISITS, move |visits, session| {
                let mut notes = notes.lock().unwrap();
                notes.extend(session.get(NOTE));
                if *visits != 1 {
                    notes.push(format!("{visits} visits"));
                }
                drop(notes);
                *visits += 100;
                Ok::<_, SessionError>(())
            });
            Outcome::Update(updated.await)
        });
        let other = request(sessions.clone(), former.clone(), act);
        let other: Task = Box::pin(async move { Outcome::Request(other.await) });
        (Race { sessions, former, read }, [update, other])
    };
    interleavings(9, make, |race, [update, other], order| {
        let (Outcome::Update(update), Outcome::Request(other)) = (update, other) else { panic!() };
        let id = match other.unwrap_or_else(|error| panic!("{order:?}: {error}")) {
            CookieChange::Set { id, .. } => id,
            _ => race.former.clone(),
        };
        let session = run(race.sessions.open([id.expose().as_bytes()])).unwrap();
        check(&race, update, Some(session).filter(|session| session.key().is_some()), order);
    });
}

/// The attack: an attacker has planted the ID of a visitor, and updates values while the victim
/// signs in or rotates. The update counts before the login, or not at all, and never reads the
/// session of the user.
#[test]
fn planted_update_beside_a_login_reads_nothing_of_the_user() {
    for act in [Act::Login("ada"), Act::Rotate] {
        race(None, act, |race, update, session, order| {
            let read = race.read.lock().unwrap();
            assert!(read.is_empty(), "{order:?}: the attacker read {read:?}");
            let visits = session.unwrap().get(VISITS);
            match update {
                Ok(updated) => assert_eq!((updated, visits), (101, Some(102)), "{order:?}"),
                Err(error) => {
                    assert!(matches!(error, SessionError::Ended), "{order:?}: {error}");
                    assert_eq!(visits, Some(2), "{order:?}");
                }
            }
        });
    }
}

/// The update of one user's connection stays away from the next user.
#[test]
fn update_beside_the_login_of_another_user_reaches_nothing_of_the_user() {
    race(Some("ada"), Act::Login("bob"), |race, update, session, order| {
        let read = race.read.lock().unwrap();
        assert!(read.is_empty(), "{order:?}: ada read {read:?}");
        assert_eq!(session.unwrap().get(VISITS), Some(1), "{order:?}");
        if let Ok(updated) = update {
            assert_eq!(updated, 101, "{order:?}");
        }
    });
}

/// I1: the update of a user's connection counts beside every change that the connection follows, and
/// returns the stored value.
#[test]
fn update_counts_beside_every_move_of_the_same_user() {
    for act in [Act::Write, Act::Renew, Act::Rotate, Act::Login("ada")] {
        race(Some("ada"), act, |_, update, session, order| {
            let visits = session.unwrap().get(VISITS);
            assert_eq!(visits, Some(102), "{act:?} {order:?}");
            let updated = update.unwrap_or_else(|error| panic!("{act:?} {order:?}: {error}"));
            assert!(updated == 101 || updated == 102, "{act:?} {order:?}: {updated}");
        });
    }
}

/// I2: an update beside a logout brings nothing back.
#[test]
fn update_beside_a_logout_revives_nothing() {
    race(Some("ada"), Act::Destroy, |race, _, session, order| {
        assert!(session.is_none(), "{order:?}");
        assert!(run(race.sessions.list("ada")).unwrap().is_empty(), "{order:?}");
    });
}

#[tokio::test]
async fn touch_of_a_planted_connection_keeps_no_session_in_use() {
    let world = World::new();
    let planted = world.visitor().await;
    let live = connect(&world, &planted).await;
    let victim = world.login(&planted, "ada").await;
    for _ in 0..20 {
        world.wait(6 * MINUTE);
        assert!(live.touch().await.is_err());
    }
    assert!(!world.opens(&victim).await, "the session of the user has expired");
}

/// A browser that signs out and in again has another session, also for the same user.
#[tokio::test]
async fn connection_does_not_follow_a_login_after_a_logout() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.log_out(&id).await;
    let again = world.user("ada").await;
    assert!(live.update(VISITS, |visits| *visits = 666).await.is_err());
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
    assert_eq!(world.open(&again).await.get(VISITS), Some(1));
}

/// A logout and a login of the same user in one request.
#[tokio::test]
async fn connection_follows_no_session_that_began_in_the_same_request() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.authenticate("ada").unwrap();
    finish(session).await;
    world.wait(INTERVAL);
    assert!(end(&mut live).is_some());
}

#[tokio::test]
async fn connection_follows_a_chain_of_renewals() {
    let world = World::new();
    let mut id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    for _ in 0..20 {
        id = world.renew(&id).await;
        world.use_for_the_grace(&id).await;
        assert_eq!(end(&mut live), None);
        assert_eq!(live.key(), id.key());
    }
}

/// A revoked session stays revoked for the connection, though the key of a renewal was followed.
#[tokio::test]
async fn revocation_by_a_former_key_ends_the_connection() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    let renewed = world.renew(&id).await;
    assert_eq!((end(&mut live), live.key()), (None, renewed.key()));
    assert!(world.other_process().sessions.revoke("ada", id.key()).await.unwrap());
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn connection_ends_at_a_record_that_cannot_be_read() {
    let world = World::new();
    let mut live = connect(&world, &world.user("ada").await).await;
    assert_eq!(end(&mut live), None);
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Unreadable));
}

/// A clock that is set back delays no end beyond the interval, and ends no session.
#[tokio::test]
async fn clock_that_is_set_back_ends_and_delays_nothing() {
    let world = World::new();
    let id = world.user("ada").await;
    let now = world.sessions_now();
    world.wait(HOUR / 2);
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.clock.set(now);
    assert_eq!(end(&mut live), None);
    live.touch().await.unwrap();
    world.log_out(&id).await;
    world.wait(HOUR / 2 + INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn dropped_handles_leave_nothing() {
    let world = World::new();
    let id = world.user("ada").await;
    let before = Arc::strong_count(&world.store);
    for _ in 0..10 {
        let mut live = connect(&world, &id).await;
        let mut clone = live.clone();
        assert_eq!((end(&mut live), end(&mut clone)), (None, None));
        drop(live.touch());
    }
    assert_eq!(Arc::strong_count(&world.store), before);
    world.store.calls();
    world.wait(HOUR / 2);
    assert!(world.store.calls().is_empty(), "nobody waits");
}

/// I1: writes after the response's head, by many tasks of several processes.
#[tokio::test]
async fn concurrent_updates_of_connections_add_up() {
    let world = World::new();
    let id = world.user("ada").await;
    let other = world.other_process();
    let connections =
        [connect(&world, &id).await, connect(&world, &id).await, connect(&other, &id).await];
    let updates = (0..60).map(|number| {
        let live = connections[number % 3].clone();
        async move { live.update(VISITS, |visits| *visits += 1).await.unwrap() }
    });
    let mut seen = join_all(updates).await;
    seen.sort_unstable();
    assert_eq!(seen, (2..=61).collect::<Vec<_>>());
    assert_eq!(world.open(&id).await.get(VISITS), Some(61));
}
