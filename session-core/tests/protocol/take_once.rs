//! I1: `take_once` gives a value to one request.

use std::{cell::RefCell, pin::Pin, sync::Arc};

use session_core::{
    BoxError, Codec, CookieChange, Format, Key, Session, SessionError, SessionId, Sessions,
};

use crate::support::{
    Fault, NOTE, Steps, TOKEN, VISITS, Verb, World, interleavings, run, steps, told,
};

/// The same value, as read by another version of the application.
const TEXT: Key<String> = Key::new(VISITS.name());

#[tokio::test]
async fn take_once_commits_and_returns_the_value() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "before").unwrap();
    assert_eq!(session.take_once(VISITS).await.unwrap(), Some(1));
    assert_eq!(world.open(&id).await.names(), ["note"]);
    assert_eq!(session.take_once(VISITS).await.unwrap(), None);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn take_once_of_a_missing_value_costs_nothing() {
    let world = World::new();
    assert_eq!(world.anonymous().await.take_once(VISITS).await.unwrap(), None);
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn take_once_returns_a_value_of_the_same_request() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 7).unwrap();
    assert_eq!(session.take_once(VISITS).await.unwrap(), Some(7));
    let id = told(session.finish().await.unwrap());
    assert!(!world.open(&id).await.contains(VISITS));
}

#[tokio::test]
async fn take_once_returns_nothing_if_the_value_was_changed() {
    let world = World::new();
    let id = world.visitor().await;
    let (taker, writer) = (world.open(&id).await, world.open(&id).await);
    writer.set(VISITS, 2).unwrap();
    let _ = writer.finish().await.unwrap();
    assert_eq!(taker.take_once(VISITS).await.unwrap(), None);
    taker.set(NOTE, "goes on").unwrap();
    let _ = taker.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2), "it is another token");
}

#[tokio::test]
async fn take_once_of_an_unreadable_value_fails_and_keeps_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(matches!(session.take_once(TEXT).await, Err(SessionError::Decode { .. })));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn take_once_returns_the_value_if_its_answer_is_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        world.store.fail(Verb::Commit, fault);
        assert_eq!(session.take_once(VISITS).await.unwrap(), Some(1));
        assert!(!world.open(&id).await.contains(VISITS));
    }
}

/// A request gets the value only if its removal is certain.
#[tokio::test]
async fn take_once_fails_if_no_answer_comes() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    world.fail_twice(Verb::Commit, Fault::ANSWER_LOST);
    assert!(matches!(session.take_once(VISITS).await, Err(SessionError::Store(_))));
    assert_eq!(world.open(&id).await.take_once(VISITS).await.unwrap(), None);
}

/// The docs of `take_once`: an end that came first reports `Ended`, and sends no dead ID.
#[tokio::test]
async fn take_once_on_an_ended_session_sends_no_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(TOKEN, "state").unwrap();
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    let other = world.other_process();
    other.sessions.revoke_all("ada").await.unwrap();
    let answer = session.take_once(TOKEN).await;
    assert!(matches!(answer, Err(SessionError::Ended)), "{answer:?}");
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));
}

/// If another request took the value first, the changes of a clone are still stored.
#[tokio::test]
async fn lost_race_for_a_value_keeps_the_changes_of_a_clone() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    let clone = session.clone();
    world.store.before(Verb::Commit, move || async move {
        clone.set(NOTE, "of the clone").unwrap();
        assert_eq!(other.take_once(VISITS).await.unwrap(), Some(1));
    });
    assert_eq!(session.take_once(VISITS).await.unwrap(), None);
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (None, Some("of the clone")));
}

type Taken = Result<Option<u64>, SessionError>;

type Taker = Pin<Box<dyn Future<Output = Taken>>>;

/// Returns two processes and a visitor's session, on a store that lets other requests in before
/// each command.
fn site() -> (Arc<Steps>, [Sessions; 2], SessionId) {
    let store = Arc::new(steps());
    let processes = [(); 2].map(|()| Sessions::new(Arc::clone(&store)));
    let id = run(async {
        let session = processes[0].open([]).await.unwrap();
        session.set(VISITS, 1).unwrap();
        told(session.finish().await.unwrap())
    });
    (store, processes, id)
}

fn taker(sessions: &Sessions, id: &SessionId) -> Taker {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        let taken = session.take_once(VISITS).await?;
        let _ = session.finish().await?;
        Ok(taken)
    })
}

fn writer(sessions: &Sessions, id: &SessionId) -> Taker {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        session.set(NOTE, "beside")?;
        let _ = session.finish().await?;
        Ok(None)
    })
}

#[test]
fn take_once_gives_the_value_to_one_of_two_requests() {
    for two_processes in [true, false] {
        let make = || {
            let (store, [one, other], id) = site();
            let other = if two_processes { &other } else { &one };
            let takers = [taker(&one, &id), taker(other, &id)];
            (store, takers)
        };
        interleavings(10, make, |_, taken, order| {
            let mut taken = taken.map(|taken| taken.unwrap());
            taken.sort();
            assert_eq!(taken, [None, Some(1)], "{order:?}");
        });
    }
}

/// Beside a write of another value, exactly one request still gets the value.
#[test]
fn take_once_is_exact_beside_another_write() {
    let make = || {
        let (store, [one, other], id) = site();
        let requests = [taker(&one, &id), taker(&other, &id), writer(&one, &id)];
        ((store, one, id), requests)
    };
    interleavings(7, make, |(_store, sessions, id), taken, order| {
        let taken: Vec<_> = taken.into_iter().filter_map(|taken| taken.unwrap()).collect();
        assert_eq!(taken, [1], "{order:?}");
        let session = run(sessions.open([id.expose().as_bytes()])).unwrap();
        assert_eq!(session.names(), ["note"], "{order:?}");
    });
}

/// A format whose decoder lets a clone of the session run in between.
struct Interrupted;

thread_local! {
    static INTERRUPTION: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

impl Codec<u64> for Interrupted {
    const FORMAT: Format = Format::application(0);

    fn encode(value: &u64, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend(value.to_be_bytes());
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<u64, BoxError> {
        if let Some(interruption) = INTERRUPTION.take() {
            interruption();
        }
        Ok(u64::from_be_bytes(bytes.try_into()?))
    }
}

#[test]
fn take_once_gives_the_value_to_one_of_two_clones() {
    let make = || {
        let (_store, [sessions, _], _) = site();
        let session = run(sessions.open([])).unwrap();
        session.set(VISITS, 7).unwrap();
        run(session.commit()).unwrap();
        let take = |session: Session| -> Pin<Box<dyn Future<Output = _>>> {
            Box::pin(async move { session.take_once(VISITS).await.unwrap() })
        };
        ((), [take(session.clone()), take(session)])
    };
    interleavings(6, make, |(), taken, order| {
        assert!(taken == [Some(7), None] || taken == [None, Some(7)], "{order:?}: {taken:?}");
    });
}

#[test]
fn take_once_leaves_a_value_that_a_clone_has_just_set() {
    const TOKEN: Key<u64, Interrupted> = Key::new("token");
    let (_store, [sessions, _], _) = site();
    let session = run(sessions.open([])).unwrap();
    session.set(TOKEN, 7).unwrap();
    run(session.commit()).unwrap();
    let clone = session.clone();
    INTERRUPTION.set(Some(Box::new(move || clone.set(TOKEN, 8).unwrap())));
    assert_eq!(run(session.take_once(TOKEN)).unwrap(), Some(7));
    assert_eq!(session.get(TOKEN), Some(8));
    run(session.commit()).unwrap();
    assert_eq!(session.get(TOKEN), Some(8));
}

#[tokio::test]
async fn failed_take_once_is_a_failed_commit() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(NOTE, "lost").unwrap();
    world.fail_twice(Verb::Commit, Fault::UNSENT);
    assert!(session.take_once(VISITS).await.is_err());
    assert!(session.has_failed_commit());
}
