//! I2: an ended session stays ended.

use session_core::{CookieChange, SessionError};

use crate::support::{Fault, HOUR, MOVES, NOTE, VISITS, Verb, World, told};

#[tokio::test]
async fn commit_after_destroy_is_ended() {
    let world = World::new();
    let id = world.visitor().await;
    let (late, ending) = (world.open(&id).await, world.open(&id).await);
    ending.destroy().unwrap();
    assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
    late.set(VISITS, 2).unwrap();
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert!(matches!(late.pending_cookie(), CookieChange::Keep));
    assert_eq!(world.count().await, (0, 0));
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn commit_after_expiry_is_ended() {
    let world = World::new();
    let id = world.visitor().await;
    let late = world.open(&id).await;
    late.set(VISITS, 2).unwrap();
    world.wait(HOUR);
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn touch_brings_nothing_back() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(HOUR / 2);
    let (late, ending) = (world.open(&id).await, world.open(&id).await);
    ending.destroy().unwrap();
    let _ = ending.finish().await.unwrap();
    world.store.calls();
    let _ = late.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Touch]);
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn move_of_an_ended_session_leaves_nothing() {
    for change in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let (late, ending) = (world.open(&id).await, world.open(&id).await);
        change(&late).unwrap();
        ending.destroy().unwrap();
        let _ = ending.finish().await.unwrap();
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.count().await, (0, 0));
    }
}

#[tokio::test]
async fn destroy_in_the_middle_of_a_move_ends_the_new_session() {
    for change in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let moving = world.open(&id).await;
        change(&moving).unwrap();
        let (other, former) = (world.other_process(), id.clone());
        // The new record is stored, and the tombstone is not.
        world.store.before(Verb::Commit, move || async move {
            other.log_out(&former).await;
        });
        assert!(matches!(moving.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.count().await, (0, 0));
    }
}

#[tokio::test]
async fn destroy_ends_a_session_that_moved_meanwhile() {
    for moves in 1..4 {
        let world = World::new();
        let mut id = world.visitor().await;
        let ending = world.open(&id).await;
        for change in MOVES.iter().cycle().take(moves) {
            let session = world.open(&id).await;
            change(&session).unwrap();
            id = told(session.finish().await.unwrap());
        }
        ending.destroy().unwrap();
        assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
        assert!(!world.opens(&id).await);
        assert_eq!(world.count().await.0, 0);
    }
}

#[tokio::test]
async fn write_after_destroy_begins_a_new_session() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(NOTE, "before").unwrap();
    session.destroy().unwrap();
    assert_eq!(session.get(VISITS), None);
    assert_eq!(session.owner(), None);
    session.set(NOTE, "good bye").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key());
    assert!(!world.opens(&id).await);
    let after = world.open(&new).await;
    assert_eq!(after.names(), ["note"]);
    assert_eq!(after.get(NOTE).as_deref(), Some("good bye"));
    assert_eq!(after.owner(), None);
}

#[tokio::test]
async fn destroy_of_an_unstored_session_stores_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn second_destroy_in_a_request_changes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Delete]);
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn destroy_by_a_clone_ends_the_session_under_commit() {
    for stored_before in [true, false] {
        let world = World::new();
        let session = if stored_before {
            world.open(&world.visitor().await).await
        } else {
            world.anonymous().await
        };
        session.set(VISITS, 2).unwrap();
        let clone = session.clone();
        let verb = if stored_before { Verb::Commit } else { Verb::Create };
        world.store.before(verb, move || async move {
            clone.destroy().unwrap();
        });
        session.commit().await.unwrap();
        let _ = session.finish().await.unwrap();
        assert_eq!(world.count().await, (0, 0));
    }
}

#[tokio::test]
async fn discarded_destroy_keeps_the_session_and_its_cookie() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.commit().await.unwrap();
    session.destroy().unwrap();
    session.discard();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn discarded_changes_are_not_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    session.authenticate("ada").unwrap();
    session.discard();
    assert_eq!(session.get(VISITS), Some(1));
    assert_eq!(session.owner(), None);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), [Verb::Load]);
}

/// If the client gives a request up, the server drops the request before the response.
#[tokio::test]
async fn closed_request_stores_nothing_and_refuses_changes() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    session.destroy().unwrap();
    session.set(NOTE, "unsent").unwrap();
    let clone = session.clone();
    session.close();
    assert!(matches!(session.set(VISITS, 3), Err(SessionError::Closed)));
    assert!(matches!(session.destroy(), Err(SessionError::Closed)));
    // A task started by the handler may still hold a clone. The clone's commit must not look like a
    // success.
    assert!(matches!(clone.commit().await, Err(SessionError::Closed)));
    assert!(matches!(clone.pending_cookie(), CookieChange::Keep));
    assert_eq!(world.store.calls(), [Verb::Load]);
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

/// I2: a logout that failed half way reports success only after the deletion.
#[tokio::test]
async fn repeated_logout_ends_a_moved_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (ending, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());

    ending.destroy().unwrap();
    world.store.fail_nth(2, Verb::Delete, Fault::DOWN);
    assert!(matches!(ending.commit().await, Err(SessionError::Store(_))));
    assert!(world.opens(&new).await);
    assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
    assert!(!world.opens(&new).await, "the logout reported success");
}
