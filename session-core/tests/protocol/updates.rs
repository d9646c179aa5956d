//! I1: no lost update.

use std::{
    cell::RefCell,
    error::Error as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use session_core::{
    BoxError, Codec, CookieChange, Entry, Event, Events, Format, Key, Session, SessionError,
    SessionId, SessionInfo, Sessions, SessionsBuilder,
};

use crate::support::{Fault, NOTE, Steps, VISITS, Verb, World, interleavings, run, steps, told};

/// The same value, as read by another version of the application.
const TEXT: Key<String> = Key::new(VISITS.name());

#[tokio::test]
async fn changes_of_different_values_both_count() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.other_process().open(&id).await);
    left.set(VISITS, 2).unwrap();
    right.set(NOTE, "right").unwrap();
    let _ = left.finish().await.unwrap();
    let _ = right.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(VISITS), Some(2));
    assert_eq!(after.get(NOTE).as_deref(), Some("right"));
}

#[tokio::test]
async fn later_commit_wins_for_one_value() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(VISITS, 22).unwrap();
    first.set(VISITS, 11).unwrap();
    let _ = first.finish().await.unwrap();
    let _ = second.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(22));
}

#[tokio::test]
async fn removal_and_change_of_another_value_both_count() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.remove(VISITS).unwrap();
    right.set(NOTE, "stays").unwrap();
    let _ = right.finish().await.unwrap();
    let _ = left.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note"]);
}

#[tokio::test]
async fn update_runs_again_on_the_newer_value() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    assert_eq!(left.update(VISITS, |visits| *visits += 10).unwrap(), 11);
    assert_eq!(right.update(VISITS, |visits| *visits += 100).unwrap(), 101);
    let _ = left.finish().await.unwrap();
    let _ = right.finish().await.unwrap();
    assert_eq!(right.get(VISITS), Some(111), "the request sees what it committed");
    assert_eq!(world.open(&id).await.get(VISITS), Some(111));
}

#[tokio::test]
async fn changes_are_replayed_in_their_order() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.set(VISITS, 5).unwrap();
    left.update(VISITS, |visits| *visits *= 2).unwrap();
    left.clear().unwrap();
    left.set(NOTE, "after the clear").unwrap();
    right.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = right.finish().await.unwrap();
    let _ = left.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note"]);
}

#[tokio::test]
async fn update_that_fails_on_replay_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    let long = "l".repeat(40 * 1024);
    left.update(NOTE, move |note| note.push_str(&long)).unwrap();
    right.set(NOTE, "r".repeat(40 * 1024)).unwrap();
    let _ = right.finish().await.unwrap();
    for _ in 0..2 {
        // The changes stay recorded.
        assert!(matches!(left.commit().await, Err(SessionError::TooLarge { .. })));
    }
    left.discard();
    left.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE), Some("r".repeat(40 * 1024)));
}

// Unreadable values.

/// A process of the old version finds a value of the new version: the value stays.
#[tokio::test]
async fn update_of_an_unreadable_value_fails_and_keeps_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(matches!(
        session.update(TEXT, |text| text.push('!')),
        Err(SessionError::Decode { name, .. }) if name == VISITS.name()
    ));
    assert!(matches!(
        session.try_update(TEXT, |text, _| {
            text.push('!');
            Ok::<_, SessionError>(())
        }),
        Err(SessionError::Decode { .. })
    ));
    session.set(NOTE, "the rest is stored").unwrap();
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.contains(NOTE)), (Some(1), true));
}

#[tokio::test]
async fn update_of_a_value_that_became_unreadable_fails_the_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.update(VISITS, |visits| *visits += 5).unwrap();
    right.set(TEXT, "no number").unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Decode { .. })));
    assert_eq!(world.open(&id).await.get(TEXT).as_deref(), Some("no number"));
}

#[tokio::test]
async fn update_or_reset_replaces_an_unreadable_value() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(session.update_or_reset(TEXT, |text| text.push('!')).unwrap(), "!");
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(TEXT).as_deref(), Some("!"));
}

#[tokio::test]
async fn update_or_reset_replaces_a_value_that_became_unreadable() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    assert_eq!(left.update_or_reset(VISITS, |visits| *visits += 5).unwrap(), 6);
    right.set(TEXT, "no number").unwrap();
    let _ = right.finish().await.unwrap();
    left.commit().await.unwrap();
    assert_eq!(left.get(VISITS), Some(5));
    assert_eq!(world.open(&id).await.get(VISITS), Some(5));
}

#[tokio::test]
async fn update_or_reset_keeps_a_readable_value() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(session.update_or_reset(VISITS, |visits| *visits += 5).unwrap(), 6);
}

// Updates with a condition.

const LIMIT: Key<u64> = Key::new("limit");

/// Adds one, up to the session's limit.
fn add_within_limit(session: &Session) -> Result<u64, SessionError> {
    session.try_update(VISITS, |visits, view| {
        if *visits >= view.get(LIMIT).unwrap_or(2) {
            return Err("the limit is reached");
        }
        *visits += 1;
        Ok(())
    })
}

#[tokio::test]
async fn refused_update_records_nothing_and_names_its_reason() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(add_within_limit(&session).unwrap(), 2);
    let error = add_within_limit(&session).unwrap_err();
    assert!(matches!(&error, SessionError::Refused { name, .. } if name == VISITS.name()));
    assert_eq!(error.source().unwrap().to_string(), "the limit is reached");
    assert!(!error.is_retryable());
    assert_eq!(session.get(VISITS), Some(2));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

#[tokio::test]
async fn try_update_sees_the_other_values_and_the_owner() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(LIMIT, 1).unwrap();
    assert!(matches!(add_within_limit(&session), Err(SessionError::Refused { .. })));
    session
        .try_update(NOTE, |note, view| {
            let is_ada = view.owner() == Some(&"ada".into());
            *note = format!("{is_ada} {:?} {:?}", view.get(LIMIT), view.get(TEXT));
            Ok::<_, SessionError>(())
        })
        .unwrap();
    assert_eq!(session.get(NOTE).as_deref(), Some("true Some(1) None"));
}

/// Two requests each find room for one more, and one of them gets the room.
#[tokio::test]
async fn update_that_is_refused_on_replay_fails_the_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    add_within_limit(&left).unwrap();
    left.set(NOTE, "left").unwrap();
    add_within_limit(&right).unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Refused { .. })));
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.get(NOTE)), (Some(2), None));
}

#[tokio::test]
async fn replay_of_a_try_update_sees_the_newer_values() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    add_within_limit(&left).unwrap();
    right.set(LIMIT, 1).unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Refused { .. })));
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

/// A clone of the session changes the condition while the closure runs.
#[tokio::test]
async fn try_update_runs_again_if_a_clone_changed_its_condition() {
    let world = World::new();
    let session = world.open(&world.visitor().await).await;
    let clone = session.clone();
    let result = session.try_update(VISITS, move |visits, view| {
        let is_full = *visits >= view.get(LIMIT).unwrap_or(2);
        clone.set(LIMIT, 1).unwrap();
        if is_full {
            return Err("the limit is reached");
        }
        *visits += 1;
        Ok(())
    });
    assert!(matches!(result, Err(SessionError::Refused { .. })), "{result:?}");
    assert_eq!(session.get(VISITS), Some(1));
}

/// The closure writes the same value as its update.
#[tokio::test]
async fn update_that_always_changes_its_own_value_gives_up() {
    let world = World::new();
    let session = world.anonymous().await;
    let clone = session.clone();
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    let result = session.update(VISITS, move |visits| {
        let run = counter.fetch_add(1, Ordering::Relaxed);
        assert!(run < 100, "it must not hang the server");
        clone.set(VISITS, run as u64).unwrap();
        *visits += 1;
    });
    assert!(matches!(result, Err(SessionError::Contended)), "{result:?}");
    assert!(runs.load(Ordering::Relaxed) <= 8);
}

// Values that are taken once.

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

// Many requests.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_increments_add_fifty() {
    let world = World::new();
    let id = world.visitor().await;
    let other = world.other_process();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        // Half of the requests go to another process.
        let sessions = if number % 2 == 0 { &world } else { &other }.sessions.clone();
        let id = id.clone();
        tasks.spawn(async move {
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            tokio::task::yield_now().await;
            session.update(VISITS, |visits| *visits += 1).unwrap();
            let _ = session.finish().await.unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(world.open(&id).await.get(VISITS), Some(51));
}

#[tokio::test]
async fn request_that_loses_128_races_gives_up_and_can_retry() {
    let world = World::new();
    let id = world.visitor().await;
    let slow = world.open(&id).await;
    slow.update(VISITS, |visits| *visits += 1).unwrap();
    overtake(&world, &id, 128);
    assert!(matches!(slow.commit().await, Err(SessionError::Contended)));
    slow.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

/// Makes another request commit before each of the next commits.
fn overtake(world: &World, id: &SessionId, times: u64) {
    if times == 0 {
        return;
    }
    let (other, id) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, move || async move {
        let session = other.open(&id).await;
        session.set(NOTE, times.to_string()).unwrap();
        session.commit().await.unwrap();
        overtake(&other, &id, times - 1);
    });
}

#[tokio::test]
async fn clones_are_one_session() {
    let world = World::new();
    let session = world.anonymous().await;
    let clone = session.clone();
    session.set(VISITS, 1).unwrap();
    clone.update(VISITS, |visits| *visits += 1).unwrap();
    assert_eq!(session.get(VISITS), Some(2));
    clone.commit().await.unwrap();
    assert_eq!(session.key(), clone.key());
    assert!(session.key().is_some());
}

#[tokio::test]
async fn change_of_a_clone_during_a_commit_waits_for_the_next() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let clone = session.clone();
    world.store.before(Verb::Commit, move || async move {
        clone.update(VISITS, |visits| *visits += 10).unwrap();
        clone.set(NOTE, "late").unwrap();
    });
    session.commit().await.unwrap();
    assert_eq!(session.get(VISITS), Some(12), "the request sees all it did");
    let other = world.open(&id).await;
    assert_eq!((other.get(VISITS), other.get(NOTE)), (Some(2), None));
    let _ = session.finish().await.unwrap();
    let other = world.open(&id).await;
    assert_eq!(other.get(VISITS), Some(12));
    assert_eq!(other.get(NOTE).as_deref(), Some("late"));
}

#[tokio::test]
async fn discard_during_a_commit_does_not_undo_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    let clone = session.clone();
    world.store.before(Verb::Commit, move || async move {
        clone.discard();
    });
    session.commit().await.unwrap();
    assert_eq!(session.get(VISITS), Some(2));
    session.set(NOTE, "next").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note", "visits"]);
}

#[tokio::test]
async fn two_commits_of_a_request_each_store_their_part() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    session.commit().await.unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    session.commit().await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(3));
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Session>();
    check::<Sessions>();
    check::<SessionsBuilder>();
    check::<SessionInfo>();
    check::<CookieChange>();
    check::<(Event, Events)>();
    check::<Entry>();
    check::<SessionId>();
}

/// A commit without a change to store still completes the changes before it.
#[tokio::test]
async fn committed_removal_of_nothing_undoes_no_later_change() {
    let world = World::new();
    let id = world.visitor().await;
    let (mine, other) = (world.open(&id).await, world.other_process().open(&id).await);
    mine.remove(NOTE).unwrap();
    mine.commit().await.unwrap();
    other.set(NOTE, "later").unwrap();
    let _ = other.finish().await.unwrap();
    mine.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = mine.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(NOTE).as_deref(), Some("later"));
    assert_eq!(after.get(VISITS), Some(2));
}

/// An update may read any value through its view, so the replay keeps the order of all changes
/// before the update.
#[tokio::test]
async fn replay_keeps_the_values_read_by_an_update() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "read by the update").unwrap();
    session
        .try_update(VISITS, |visits, view| {
            if view.get(NOTE).as_deref() != Some("read by the update") {
                return Err("another note");
            }
            *visits += 1;
            Ok(())
        })
        .unwrap();
    session.set(NOTE, "after").unwrap();
    world.change(&id, |session| session.set(VISITS, 10)).await;
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(11), Some("after")));
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
