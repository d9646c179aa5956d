//! I2: no resurrection.

use std::time::Duration;

use session_core::{CookieChange, SessionError};

use crate::support::{NOTE, VISITS, Verb, World, told};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_commit_after_destroy_is_ended() {
    let world = World::new();
    let id = world.visitor().await;
    let (late, ending) = (world.open(&id).await, world.open(&id).await);
    ending.destroy().unwrap();
    assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
    late.set(VISITS, &2).unwrap();
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn a_commit_after_expiry_is_ended() {
    let world = World::new();
    let id = world.visitor().await;
    let late = world.open(&id).await;
    late.set(VISITS, &2).unwrap();
    world.wait(HOUR);
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn a_touch_brings_nothing_back() {
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
async fn a_login_or_renewal_of_what_was_ended_is_ended_and_leaves_nothing() {
    for login in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let (late, ending) = (world.open(&id).await, world.open(&id).await);
        if login {
            late.authenticate("ada").unwrap()
        } else {
            late.renew().unwrap()
        }
        ending.destroy().unwrap();
        let _ = ending.finish().await.unwrap();
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.count().await, (0, 0));
    }
}

#[tokio::test]
async fn a_destroy_in_the_middle_of_a_login_ends_the_new_session_too() {
    let world = World::new();
    let id = world.visitor().await;
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    // The new record is there, the tombstone is not.
    world.store.before(Verb::Commit, move || async move {
        let ending = other.open(&former).await;
        ending.destroy().unwrap();
        let _ = ending.finish().await.unwrap();
    });
    assert!(matches!(login.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn a_destroy_by_who_loaded_the_session_before_it_moved_ends_the_new_one() {
    for moves in 1..4 {
        let world = World::new();
        let mut id = world.visitor().await;
        let ending = world.open(&id).await;
        for number in 0..moves {
            let session = world.open(&id).await;
            if number % 2 == 0 {
                session.authenticate("ada").unwrap();
            } else {
                session.renew().unwrap();
            }
            id = told(session.finish().await.unwrap());
        }
        ending.destroy().unwrap();
        assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
        assert!(!world.opens(&id).await);
        assert_eq!(world.count().await.0, 0);
    }
}

#[tokio::test]
async fn what_is_written_after_destroy_is_a_new_session() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(NOTE, &"before".to_owned()).unwrap();
    session.destroy().unwrap();
    assert_eq!(session.get(VISITS), None);
    assert_eq!(session.owner(), None);
    session.set(NOTE, &"good bye".to_owned()).unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key());
    assert!(!world.opens(&id).await);
    let after = world.open(&new).await;
    assert_eq!(after.names(), ["note"]);
    assert_eq!(after.get(NOTE).as_deref(), Some("good bye"));
    assert_eq!(after.owner(), None);
}

#[tokio::test]
async fn destroy_of_what_was_never_stored_stores_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn destroy_twice_is_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn a_destroy_by_a_clone_during_the_commit_ends_what_was_committed() {
    for stored_before in [true, false] {
        let world = World::new();
        let session = if stored_before {
            world.open(&world.visitor().await).await
        } else {
            world.anonymous().await
        };
        session.set(VISITS, &2).unwrap();
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
async fn a_destroy_that_was_given_up_destroys_nothing_and_tells_what_was_to_be_told() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.commit().await.unwrap();
    session.destroy().unwrap();
    session.discard();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn what_was_discarded_is_not_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    session.authenticate("ada").unwrap();
    session.discard();
    assert_eq!(session.get(VISITS), Some(1));
    assert_eq!(session.owner(), None);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), [Verb::Load]);
}
