//! I4: a move that breaks off leaves the former ID open, and no second session.

use std::sync::Arc;

use session_core::{CookieChange, SessionError, StoreErrorKind};

use crate::support::{Fault, MOVES, NOTE, VISITS, Verb, World, told};

#[tokio::test]
async fn move_that_fails_leaves_the_former_id_open() {
    for (number, moving) in MOVES.into_iter().enumerate() {
        for fault in [Fault::DOWN, Fault::Before(StoreErrorKind::Full)] {
            for at_create in [true, false] {
                let world = World::new();
                let id = world.visitor().await;
                let session = world.open(&id).await;
                moving(&session).unwrap();
                let verb = match (at_create, number) {
                    (true, 0) => Verb::CreateEntered,
                    (true, _) => Verb::Create,
                    (false, _) => Verb::Commit,
                };
                world.store.fail(verb, fault);
                assert!(matches!(session.finish().await, Err(SessionError::Store(_))));
                assert!(matches!(session.pending_cookie(), CookieChange::Keep));
                let after = world.open(&id).await;
                assert_eq!((after.get(VISITS), after.owner()), (Some(1), None));
                assert_eq!(world.count().await, (1, 0), "the unused record is deleted");
                assert_eq!(world.count_entered().await, 0);
            }
        }
    }
}

#[tokio::test]
async fn dropped_move_leaves_the_former_id_open() {
    for moving in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        moving(&session).unwrap();
        world.drop_in_commit(&session).await;
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
        assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
    }
}

#[tokio::test]
async fn commit_between_load_and_tombstone_is_replayed() {
    for moving in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 100).unwrap();
        moving(&session).unwrap();
        let (other, former) = (world.other_process(), id.clone());
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.update(VISITS, |visits| *visits += 10).unwrap();
            session.set(NOTE, "between").unwrap();
            let _ = session.finish().await.unwrap();
        });
        let new = told(session.finish().await.unwrap());
        let after = world.open(&new).await;
        assert_eq!(after.get(VISITS), Some(111));
        assert_eq!(after.get(NOTE).as_deref(), Some("between"));
        assert_eq!(world.count().await, (1, 1));
    }
}

#[tokio::test]
async fn replay_that_fails_in_a_login_leaves_no_second_session() {
    for fault in [Fault::DOWN, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        let (other, former) = (world.other_process(), id.clone());
        let store = Arc::clone(&world.store);
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.set(NOTE, "between").unwrap();
            let _ = session.finish().await.unwrap();
            // The commit of the replayed record under the new key, and its repetition, fail.
            store.fail_nth(1, Verb::Commit, fault);
            store.fail_nth(2, Verb::Commit, fault);
        });
        assert!(session.finish().await.is_err());
        assert!(world.opens(&id).await);
        assert_eq!(world.count().await, (1, 0));
        assert_eq!(world.count_entered().await, 0);
    }
}

#[tokio::test]
async fn update_that_fails_on_replay_leaves_no_second_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let long = "l".repeat(40 * 1024);
    session.update(NOTE, move |note| note.push_str(&long)).unwrap();
    session.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, move || async move {
        let session = other.open(&former).await;
        session.set(NOTE, "r".repeat(40 * 1024)).unwrap();
        let _ = session.finish().await.unwrap();
    });
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    assert!(world.opens(&id).await);
    assert_eq!(world.count().await, (1, 0));
    assert_eq!(world.count_entered().await, 0);
}
