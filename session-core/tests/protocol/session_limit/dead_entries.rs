//! I8: a login under a limit removes dead entries of the index, and no entry of a live session.

use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, Entry, Family, IndexEntry, ManualClock, Owner, SessionIndex as _, SessionKey,
    SessionLimit, SessionStore as _, Sessions,
};

use crate::support::{HOUR, Peek as _, VISITS, Verb, World, told};

/// A login takes no place before it stores its session: then it will find this login.
#[tokio::test]
async fn key_of_a_login_under_way_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = World::limited(1, at_limit);
        let (owner, now) = (Owner::from("ada").key(), world.sessions_now());
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        let entry = IndexEntry::new(key, Family::from_u64(1), now + HOUR);
        world.store.enter(&owner, entry, now).await.unwrap();
        let id = world.sign_in().await.unwrap();
        assert_eq!(world.listed("ada").await, [id.key()]);
        assert!(world.store.is_entered(key, now).await);
        assert_eq!(world.store.peek(key, now).await, None, "it may still store its session");
    }
}

/// Many keys without a session are first blocked, and then removed. So every login stays in the
/// index.
#[tokio::test]
async fn many_dead_entries_are_blocked_and_removed() {
    let world = World::limited(1, AtLimit::Reject);
    let (owner, now) = (Owner::from("ada").key(), world.sessions_now());
    let dead: Vec<_> = (0..16).map(|number| SessionKey::from_bytes([number; 16])).collect();
    for (number, key) in dead.iter().enumerate() {
        let family = Family::from_u64(number as u64);
        let entry = IndexEntry::new(*key, family, now + HOUR);
        world.store.enter(&owner, entry, now).await.unwrap();
    }
    let id = world.sign_in().await.unwrap();
    assert_eq!(world.store.entered(now).await, [id.key()]);
    for key in dead {
        let entry = world.store.peek(key, now).await;
        assert!(matches!(entry, Some(Entry::Tombstone(_))), "{entry:?}");
    }
}

/// Another login has entered its key. The login stores its session while this login removes dead
/// entries.
#[tokio::test]
async fn clearing_of_dead_entries_spares_a_login_under_way() {
    for verb in [Verb::DeleteOrBlock, Verb::Create] {
        let world = World::limited(3, AtLimit::EvictOldest);
        let (owner, now) = (Owner::from("ada").key(), world.sessions_now());
        let record = world.store.peek(world.sign_in().await.unwrap().key(), now).await.unwrap();
        let keys: Vec<_> = (0..16).map(|number| SessionKey::from_bytes([number; 16])).collect();
        for key in &keys {
            let entry = IndexEntry::new(*key, record.family(), now + HOUR);
            world.store.enter(&owner, entry, now).await.unwrap();
        }
        let (store, under_way) = (Arc::clone(&world.store), keys[7]);
        world.store.before(verb, move || async move {
            store.recorded().store().create(&under_way, record, now).await.unwrap();
        });
        world.sign_in().await.unwrap();
        if verb == Verb::Create {
            let entry = world.store.peek(under_way, now).await;
            assert!(matches!(entry, Some(Entry::Session(_))), "{entry:?}");
            assert!(world.store.is_entered(under_way, now).await);
            assert!(!world.store.is_entered(keys[8], now).await);
        }
    }
}

/// Each login that finds many expired sessions removes 32 of their entries.
#[tokio::test]
async fn login_removes_a_bounded_number_of_expired_entries() {
    let world = World::new();
    for _ in 0..70 {
        world.user("ada").await;
    }
    world.wait(HOUR);
    let limited = world.with_limit(2, AtLimit::Reject);
    let login = async || {
        let session = limited.anonymous().await;
        session.authenticate("ada").unwrap();
        world.store.calls();
        let id = told(session.finish().await.unwrap());
        (id, world.store.calls())
    };
    let (first, calls) = login().await;
    assert_eq!(calls.iter().filter(|verb| **verb == Verb::Create).count(), 32);
    // The last 6 of 70 entries are too few.
    let (_, calls) = login().await;
    assert_eq!(calls.iter().filter(|verb| **verb == Verb::Create).count(), 32);
    assert_eq!(world.count_entered().await, 2 + 6);
    assert!(limited.opens(&first).await);
}

/// If a session is alive on another server, a login through a server whose clock is ahead keeps the
/// session's entry (I8).
#[tokio::test]
async fn login_by_a_clock_ahead_leaves_a_live_session_in_the_index() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = World::limited(1, at_limit);
        world.store.keep_expired();
        let id = world.sign_in().await.unwrap();
        world.wait(HOUR - Duration::from_secs(1));
        let clock = ManualClock::new(world.sessions_now() + Duration::from_secs(2));
        let sessions = Sessions::builder(Arc::clone(&world.store))
            .with_clock(clock)
            .with_session_limit(SessionLimit::new(1, at_limit).unwrap())
            .build()
            .unwrap();
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let _ = session.finish().await.unwrap();

        world.change(&id, |session| session.set(VISITS, 7)).await;
        assert!(world.store.is_entered(id.key(), world.sessions_now()).await);
        world.sessions.revoke_all("ada").await.unwrap();
        assert!(!world.opens(&id).await);
    }
}
