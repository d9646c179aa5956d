//! I8: a revocation ends the sessions it names, and no other.

use std::sync::Arc;

use session_core::{ManualClock, SessionError, SessionId, SessionKey, Sessions};

use crate::support::{Fault, HOUR, MINUTE, Peek as _, SECOND, VISITS, Verb, World, finish, keys};

#[tokio::test]
async fn revoked_session_opens_nothing_and_stores_nothing() {
    let world = World::new();
    let id = world.user("ada").await;
    let under_way = world.open(&id).await;
    under_way.set(VISITS, 2).unwrap();
    assert!(world.other_process().sessions.revoke("ada", id.key()).await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(matches!(under_way.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
    assert_eq!(world.entered("ada").await, []);
    assert!(!world.sessions.revoke("ada", id.key()).await.unwrap());
}

#[tokio::test]
async fn revoke_by_the_key_of_another_owner_touches_nothing() {
    let world = World::new();
    let (others, visitor) = (world.user("grace").await, world.visitor().await);
    let unknown = SessionKey::from_bytes([7; SessionKey::LEN]);
    world.store.calls();
    for key in [others.key(), visitor.key(), unknown] {
        assert!(!world.sessions.revoke("ada", key).await.unwrap());
        let calls = world.store.calls();
        let reads = |verb: &Verb| matches!(verb, Verb::Entries | Verb::Load);
        assert!(calls.iter().all(reads), "{calls:?}");
    }
    assert!(world.opens(&others).await);
    assert!(world.opens(&visitor).await);
    assert_eq!(world.stored(&SessionId::from_random_bits([0; 32])).await, None);
}

/// A list of devices may stay open in a browser while the sessions are renewed.
#[tokio::test]
async fn revoke_by_a_key_that_was_renewed_since_ends_the_session() {
    for renewals in 1..=4 {
        let world = World::new();
        let first = world.user("ada").await;
        let other = world.user("ada").await;
        let mut id = first.clone();
        for _ in 0..renewals {
            world.use_for_the_grace(&id).await;
            id = world.renew(&id).await;
        }
        assert!(world.opens(&id).await);
        assert!(world.sessions.revoke("ada", first.key()).await.unwrap(), "{renewals}");
        assert!(!world.opens(&id).await && world.opens(&other).await);
        assert_eq!(world.entered("ada").await, keys(&[&other]));
        assert!(!world.sessions.revoke("ada", first.key()).await.unwrap(), "it is gone");
    }
}

#[tokio::test]
async fn revoke_all_ends_all_sessions_of_one_owner() {
    let world = World::new();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.user("ada").await);
        world.wait(MINUTE);
    }
    let other = world.user("grace").await;
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 5);
    for id in &ids {
        assert!(!world.opens(id).await);
    }
    assert!(world.opens(&other).await);
    assert_eq!(world.entered("ada").await, []);
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 0);
    assert_eq!(world.sessions.revoke_all("nobody").await.unwrap(), 0);
}

#[tokio::test]
async fn revoke_all_of_the_first_user_spares_the_second() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("grace").unwrap();
    world.store.fail(Verb::Leave, Fault::DOWN);
    let id = finish(session).await;
    assert_eq!(world.entered("ada").await.len(), 1, "the former key is still there");
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 0);
    assert!(world.opens(&id).await);
    assert_eq!(world.entered("ada").await, []);
}

/// Returns another process, whose clock is two seconds ahead.
fn ahead(world: &World) -> World {
    let clock = Arc::new(ManualClock::new(world.sessions_now() + 2 * SECOND));
    let sessions = Sessions::builder(Arc::clone(&world.store)).with_clock(Arc::clone(&clock));
    World { store: Arc::clone(&world.store), clock, sessions: sessions.build().unwrap() }
}

/// A session that has just expired by this server's clock is alive by a slower clock.
#[tokio::test]
async fn server_whose_clock_is_ahead_revokes_sessions_until_their_end() {
    for what in ["all", "others", "one"] {
        let world = World::new();
        world.store.keep_expired();
        let stolen = world.user("ada").await;
        world.wait(HOUR - SECOND);
        let own = world.user("ada").await;
        let fast = ahead(&world);
        let session = fast.open(&own).await;
        match what {
            "all" => drop(fast.sessions.revoke_all("ada").await.unwrap()),
            "others" => drop(fast.sessions.revoke_others(&session).await.unwrap()),
            _ => drop(fast.sessions.revoke("ada", stolen.key()).await.unwrap()),
        }
        assert!(!world.opens(&stolen).await, "{what}");
    }
}

#[tokio::test]
async fn owner_may_be_any_bytes_up_to_the_limit() {
    let world = World::new();
    let owners: [Vec<u8>; 4] = [vec![0], b"\r\n {}*".to_vec(), vec![0xff; 255], vec![0xff; 256]];
    for owner in &owners {
        let session = world.anonymous().await;
        session.authenticate(&owner[..]).unwrap();
        finish(session).await;
    }
    for owner in &owners {
        assert_eq!(world.sessions.list(&owner[..]).await.unwrap().len(), 1);
        assert_eq!(world.sessions.revoke_all(&owner[..]).await.unwrap(), 1);
    }
    let long = vec![0; 257];
    let key = SessionKey::from_bytes([0; SessionKey::LEN]);
    world.store.calls();
    for error in [
        world.sessions.list(&long[..]).await.unwrap_err(),
        world.sessions.revoke(&long[..], key).await.unwrap_err(),
        world.sessions.revoke_all(&long[..]).await.unwrap_err(),
    ] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"the owner exceeds the limit of 256");
        }
    }
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn operator_revokes_a_session_of_any_owner() {
    let world = World::new();
    let (user, visitor, other) =
        (world.user("ada").await, world.visitor().await, world.user("ada").await);
    let former = world.user("grace").await;
    let renewed = world.renew(&former).await;
    for (presented, opened) in [(&user, &user), (&visitor, &visitor), (&former, &renewed)] {
        let under_way = world.open(opened).await;
        under_way.set(VISITS, 2).unwrap();
        assert!(world.sessions.revoke_any(presented.key()).await.unwrap());
        assert!(!world.opens(opened).await);
        assert!(matches!(under_way.finish().await, Err(SessionError::Ended)));
        assert!(!world.sessions.revoke_any(presented.key()).await.unwrap(), "it is gone");
    }
    assert!(world.opens(&other).await);
    assert_eq!(world.entered("ada").await, keys(&[&other]));
    let unknown = SessionKey::from_bytes([7; SessionKey::LEN]);
    world.store.calls();
    assert!(!world.sessions.revoke_any(unknown).await.unwrap());
    assert_eq!(world.store.calls(), [Verb::Load], "nothing is stored under an unknown key");
}
