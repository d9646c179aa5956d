//! I1: concurrent changes of one session all count.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use session_core::{SessionError, SessionId};

use crate::support::{NOTE, TOKEN, VISITS, Verb, World};

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

/// I1: the later commit wins, even if it writes the value read before.
#[tokio::test]
async fn set_of_the_former_value_wins_over_an_earlier_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    other.set(VISITS, 9).unwrap();
    other.set(TOKEN, "theirs").unwrap();
    let _ = other.finish().await.unwrap();
    mine.set(VISITS, 1).unwrap();
    mine.remove(TOKEN).unwrap();
    mine.set(NOTE, "mine").unwrap();
    let _ = mine.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.get(TOKEN)), (Some(1), None));

    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    mine.remove(NOTE).unwrap();
    mine.remove(VISITS).unwrap();
    mine.clear().unwrap();
    other.set(TOKEN, "theirs").unwrap();
    let _ = other.finish().await.unwrap();
    let _ = mine.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), Vec::<String>::new());
}

/// Closures of the application run without the mutex of the session.
#[tokio::test]
async fn replayed_update_can_read_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(NOTE, "first").unwrap();
    world.store.before(Verb::Commit, move || async move {
        let reader = clone.clone();
        clone.update(VISITS, move |visits| *visits += reader.names().len() as u64).unwrap();
    });
    session.commit().await.unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(3));
}

/// A closure must not change the session. If it does, the server must not hang.
#[tokio::test]
async fn update_that_writes_the_session_ends() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(TOKEN, "same").unwrap();
    session.commit().await.unwrap();
    let clone = session.clone();
    session.set(NOTE, "first").unwrap();
    world.store.before(Verb::Commit, move || async move {
        let writer = clone.clone();
        let change = move |visits: &mut u64| {
            *visits += 1;
            let _ = writer.set(TOKEN, "same");
        };
        clone.update(VISITS, change).unwrap();
    });
    session.commit().await.unwrap();
    // After the response has begun, the closure's own writes are refused, and the update completes.
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}
