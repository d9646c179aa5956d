//! I1: no lost update.

use session_core::{SessionError, Sessions};

use crate::support::{NOTE, VISITS, Verb, World};

#[tokio::test]
async fn different_values_of_two_requests_both_count() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.other_process().open(&id).await);
    left.set(VISITS, &2).unwrap();
    right.set(NOTE, &"right".to_owned()).unwrap();
    let _ = left.finish().await.unwrap();
    let _ = right.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(VISITS), Some(2));
    assert_eq!(after.get(NOTE).as_deref(), Some("right"));
}

#[tokio::test]
async fn of_two_values_of_one_name_the_later_commit_wins() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    second.set(VISITS, &22).unwrap();
    first.set(VISITS, &11).unwrap();
    let _ = first.finish().await.unwrap();
    let _ = second.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(22));
}

#[tokio::test]
async fn a_removal_and_a_value_of_another_name_both_count() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.remove(VISITS).unwrap();
    right.set(NOTE, &"stays".to_owned()).unwrap();
    let _ = right.finish().await.unwrap();
    let _ = left.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note"]);
}

#[tokio::test]
async fn an_update_is_done_again_on_the_newer_value() {
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
async fn changes_are_done_again_in_their_order() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.set(VISITS, &5).unwrap();
    left.update(VISITS, |visits| *visits *= 2).unwrap();
    left.clear().unwrap();
    left.set(NOTE, &"after the clear".to_owned()).unwrap();
    right.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = right.finish().await.unwrap();
    let _ = left.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note"]);
}

#[tokio::test]
async fn an_update_that_fails_on_the_newer_value_fails_the_commit_and_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    let long = "l".repeat(40 * 1024);
    left.update(NOTE, move |note| note.push_str(&long)).unwrap();
    right.set(NOTE, &"r".repeat(40 * 1024)).unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.commit().await, Err(SessionError::TooLarge { .. })));
    assert!(matches!(left.commit().await, Err(SessionError::TooLarge { .. })));
    left.discard();
    left.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE), Some("r".repeat(40 * 1024)));
}

#[tokio::test]
async fn an_update_of_what_became_unreadable_starts_anew() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.update(VISITS, |visits| *visits += 5).unwrap();
    right.set(session_core::Key::<String>::new(VISITS.name()), &"no number".to_owned()).unwrap();
    let _ = right.finish().await.unwrap();
    left.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(5));
    assert_eq!(world.sessions.unreadable_values(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_increments_at_once_add_fifty() {
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
async fn a_request_that_is_overtaken_again_and_again_gives_up_and_can_try_again() {
    let world = World::new();
    let id = world.visitor().await;
    let slow = world.open(&id).await;
    slow.update(VISITS, |visits| *visits += 1).unwrap();
    overtake(&world, &id, 128);
    assert!(matches!(slow.commit().await, Err(SessionError::Contended)));
    slow.commit().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

/// Lets another request commit before each of the next commits.
fn overtake(world: &World, id: &session_core::SessionId, times: u64) {
    if times == 0 {
        return;
    }
    let (other, id) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, move || async move {
        let session = other.open(&id).await;
        session.set(NOTE, &times.to_string()).unwrap();
        session.commit().await.unwrap();
        overtake(&other, &id, times - 1);
    });
}

#[tokio::test]
async fn clones_are_one_session() {
    let world = World::new();
    let session = world.anonymous().await;
    let clone = session.clone();
    session.set(VISITS, &1).unwrap();
    clone.update(VISITS, |visits| *visits += 1).unwrap();
    assert_eq!(session.get(VISITS), Some(2));
    clone.commit().await.unwrap();
    assert_eq!(session.key(), clone.key());
    assert!(session.key().is_some());
}

#[tokio::test]
async fn what_a_clone_records_during_a_commit_is_left_for_the_next() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let clone = session.clone();
    world.store.before(Verb::Commit, move || async move {
        clone.update(VISITS, |visits| *visits += 10).unwrap();
        clone.set(NOTE, &"late".to_owned()).unwrap();
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
async fn a_discard_during_a_commit_does_not_undo_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    let clone = session.clone();
    world.store.before(Verb::Commit, move || async move {
        clone.discard();
    });
    session.commit().await.unwrap();
    assert_eq!(session.get(VISITS), Some(2));
    session.set(NOTE, &"next".to_owned()).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), ["note", "visits"]);
}

#[tokio::test]
async fn two_commits_of_one_request_each_store_their_part() {
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
    check::<session_core::Session>();
    check::<Sessions>();
    check::<session_core::Entry>();
    check::<session_core::SessionId>();
}

/// What a commit had nothing to store for is settled by it: what others stored since stays.
#[tokio::test]
async fn a_removal_of_nothing_that_was_committed_undoes_no_later_update() {
    let world = World::new();
    let id = world.visitor().await;
    let (mine, other) = (world.open(&id).await, world.other_process().open(&id).await);
    mine.remove(NOTE).unwrap();
    mine.commit().await.unwrap();
    other.set(NOTE, &"later".to_owned()).unwrap();
    let _ = other.finish().await.unwrap();
    mine.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = mine.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!(after.get(NOTE).as_deref(), Some("later"));
    assert_eq!(after.get(VISITS), Some(2));
}
