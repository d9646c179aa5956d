//! I8: `revoke_others` ends all sessions of the owner but the own one.

use std::sync::{Arc, Mutex};

use session_core::{CookieChange, SessionError};

use crate::support::{CLOSING, MOVES, Verb, World, finish, keys};

#[tokio::test]
async fn revoke_others_spares_the_own_session() {
    let world = World::new();
    let ids = [world.user("ada").await, world.user("ada").await, world.user("ada").await];
    let session = world.open(&ids[1]).await;
    assert_eq!(session.sessions().revoke_others(&session).await.unwrap(), 2);
    assert_eq!(world.listed("ada").await, keys(&[&ids[1]]));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert!(world.opens(&ids[1]).await);
}

#[tokio::test]
async fn revoke_others_commits_a_login_first() {
    let world = World::new();
    let (id, other) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    let id = finish(session).await;
    assert!(world.opens(&id).await);
    assert!(!world.opens(&other).await);
    // A request that signs in just now revokes the others, too.
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    assert!(!world.opens(&id).await);
    assert!(world.opens(&finish(session).await).await);
}

#[tokio::test]
async fn revoke_others_spares_the_own_session_whenever_it_moves() {
    for deed in MOVES {
        for verb in [Verb::Entries, Verb::DeleteOrBlock, Verb::Leave] {
            let world = World::new();
            let (own, other) = (world.user("ada").await, world.user("ada").await);
            let session = world.open(&own).await;
            let moved = Arc::new(Mutex::new(None));
            let (process, id, result) = (world.other_process(), own.clone(), Arc::clone(&moved));
            world.store.before(verb, move || async move {
                let id = process.moved(&id, deed).await;
                *result.lock().unwrap() = Some(id);
            });
            assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
            let new = moved.lock().unwrap().take().expect("it has moved");
            assert!(world.opens(&new).await, "before {verb:?}");
            assert!(!world.opens(&other).await);
            assert_eq!(world.listed("ada").await, keys(&[&new]));
        }
    }
}

#[tokio::test]
async fn revoke_others_fails_after_a_login_in_another_tab() {
    for deed in CLOSING {
        let world = World::new();
        let (own, other) = (world.user("ada").await, world.user("ada").await);
        let session = world.open(&own).await;
        world.moved(&own, deed).await;
        let result = world.sessions.revoke_others(&session).await;
        assert!(matches!(result, Err(SessionError::Ended)), "the request may be an attacker's");
        assert!(world.opens(&other).await);
    }
}

#[tokio::test]
async fn session_without_an_owner_has_no_others() {
    let world = World::new();
    world.user("ada").await;
    let stored = world.open(&world.visitor().await).await;
    for session in [stored, world.anonymous().await] {
        assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 0);
        assert!(!world.store.calls().contains(&Verb::Entries));
    }
}

#[tokio::test]
async fn revoked_session_revokes_no_others() {
    let world = World::new();
    let (ended, other) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&ended).await;
    world.sessions.revoke("ada", ended.key()).await.unwrap();
    assert!(matches!(world.sessions.revoke_others(&session).await, Err(SessionError::Ended)));
    assert!(world.opens(&other).await);
}

#[tokio::test]
async fn revoking_the_others_ends_a_session_that_is_moving() {
    for deed in MOVES {
        let world = World::new();
        let (id, other) = (world.user("ada").await, world.user("ada").await);
        let (keeps, session) = (world.open(&id).await, world.open(&other).await);
        deed(&session).unwrap();
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(keeps.sessions().revoke_others(&keeps).await.unwrap(), 1);
        });
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.listed("ada").await, [id.key()]);
        assert_eq!(world.count().await.0, 1);
    }
}
