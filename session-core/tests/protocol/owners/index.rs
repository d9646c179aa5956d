//! I8: the index of an owner holds each session until its deadline on every server.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use session_core::{
    Entry, Family, IndexEntry, Lifetime, Owner, SessionError, SessionIndex as _, SessionKey,
    SessionStore as _,
};

use crate::support::{Fault, HOUR, MINUTE, Peek as _, SECOND, Verb, World, finish, keys};

#[tokio::test]
async fn longer_lifetime_is_entered_before_it_is_stored() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Enter, Verb::Commit]);
    world.wait(25 * HOUR);
    world.user("ada").await;
    assert!(world.listed("ada").await.contains(&id.key()));
    // If the lifetime shrinks, an entry keeps its deadline.
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::new(HOUR, 30 * HOUR).unwrap()).unwrap();
    world.store.calls();
    session.commit().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Commit]);
}

#[tokio::test]
async fn longer_lifetime_is_entered_before_a_replay_stores_it() {
    let world = World::new();
    let id = world.user("ada").await;
    let (longer, other) = (world.open(&id).await, world.open(&id).await);
    longer.set_lifetime(Lifetime::aal1()).unwrap();
    other.renew().unwrap();
    let new = finish(other).await;
    world.store.calls();
    assert_eq!(finish(longer).await.key(), new.key());
    let calls = world.store.calls();
    assert_eq!(calls.iter().filter(|verb| **verb == Verb::Enter).count(), 2, "for both: {calls:?}");
    world.wait(25 * HOUR);
    world.user("ada").await;
    assert_eq!(world.listed("ada").await.len(), 2);
}

#[tokio::test]
async fn lifetime_that_cannot_be_entered_is_not_stored() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    world.store.fail(Verb::Enter, Fault::DOWN);
    assert!(session.commit().await.is_err());
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::aal2());
    session.commit().await.unwrap();
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::aal1());
}

#[tokio::test]
async fn entry_of_a_session_that_was_ended_ends_at_its_deadline() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    world.sessions.revoke_all("ada").await.unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.listed("ada").await, []);
    world.wait(Lifetime::aal1().absolute() + 10 * SECOND);
    assert_eq!(world.entered("ada").await, []);
}

#[tokio::test]
async fn login_whose_answers_were_lost_is_in_the_index() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    world.store.fail(Verb::CreateEntered, Fault::ANSWER_LOST);
    world.store.fail(Verb::Create, Fault::ANSWER_LOST);
    assert!(session.finish().await.is_err());
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn login_whose_key_was_blocked_takes_another_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let other = world.other_process();
    let store = Arc::clone(&world.store);
    world.store.before(Verb::CreateEntered, move || async move {
        // The index has the entry, but the store has no session.
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        let owner = Owner::from("ada").key();
        let now = other.sessions_now();
        let entry = IndexEntry::new(key, Family::from_u64(1), now + HOUR);
        store.enter(&owner, entry, now).await.unwrap();
        assert_eq!(other.sessions.revoke_all("ada").await.unwrap(), 0);
        let Some(Entry::Tombstone(marker)) = store.peek(key, now).await else {
            panic!("not blocked")
        };
        assert_eq!((marker.successor(), marker.is_renewal()), (None, false));
        assert_eq!(store.load(&key, now + 5 * MINUTE).await.unwrap(), None);
    });
    let id = finish(session).await;
    assert!(world.opens(&id).await);
}

/// The revocation is about to remove the key from the index: the session must not come back under
/// the key.
#[tokio::test]
async fn login_revoked_before_its_repetition_takes_another_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let other = world.other_process();
    let (is_leaving, may_leave) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let revoking = Arc::new(Mutex::new(None));
    world.store.fail(Verb::CreateEntered, Fault::ANSWER_LOST);
    let (leaving, task) = (Arc::clone(&is_leaving), Arc::clone(&revoking));
    world.store.before(Verb::Create, move || async move {
        let revoke = tokio::spawn(async move { other.sessions.revoke_all("ada").await });
        *task.lock().unwrap() = Some(revoke);
        until(&leaving).await;
    });
    let may = Arc::clone(&may_leave);
    world.store.before(Verb::Leave, move || async move {
        is_leaving.store(true, Ordering::SeqCst);
        until(&may).await;
    });
    let id = finish(session).await;
    may_leave.store(true, Ordering::SeqCst);
    let revoking = revoking.lock().unwrap().take().expect("the creation was repeated");
    assert_eq!(revoking.await.unwrap().unwrap(), 1);
    assert!(world.opens(&id).await);
    assert_eq!(world.entered("ada").await, keys(&[&id]));
}

async fn until(condition: &AtomicBool) {
    for _ in 0..10_000 {
        if condition.load(Ordering::SeqCst) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the other task does not go on");
}
