//! I8: the sessions of an owner are known, and can be ended from elsewhere.

use std::{sync::Arc, time::Duration};

use session_core::{
    CookieChange, Family, IndexEntry, Lifetime, ManualClock, OwnerIndex as _, SessionError,
    SessionId, SessionKey, SessionStore as _, Sessions, StoreErrorKind,
};

use crate::support::{Fault, NOTE, Peek as _, VISITS, Verb, World, told};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn keys(ids: &[&SessionId]) -> Vec<SessionKey> {
    ids.iter().map(|id| id.key()).collect()
}

async fn listed(world: &World, owner: &str) -> Vec<SessionKey> {
    world.sessions.list(owner).await.unwrap().iter().map(|info| info.key()).collect()
}

async fn entered(world: &World, owner: &str) -> Vec<SessionKey> {
    let owner = session_core::Owner::from(owner).key();
    let entries = world.store.entries(&owner, world.sessions_now()).await.unwrap();
    entries.iter().map(|entry| entry.key).collect()
}

async fn finish(session: session_core::Session) -> SessionId {
    told(session.finish().await.unwrap())
}

#[tokio::test]
async fn a_list_has_the_owners_sessions_and_nobody_elses_the_last_used_first() {
    let world = World::new();
    world.visitor().await;
    world.user("grace").await;
    let first = world.user("ada").await;
    world.wait(MINUTE);
    let second = world.user("ada").await;
    world.wait(MINUTE);
    assert_eq!(listed(&world, "ada").await, keys(&[&second, &first]));
    world.wait(10 * MINUTE);
    let _ = world.open(&first).await.finish().await.unwrap();
    assert_eq!(listed(&world, "ada").await, keys(&[&first, &second]));
    assert_eq!(listed(&world, "nobody").await, []);
}

#[tokio::test]
async fn a_list_tells_what_the_sessions_hold() {
    let world = World::new();
    let id = world.user("ada").await;
    let signed_in_at = world.sessions_now();
    world.wait(10 * MINUTE);
    let session = world.open(&id).await;
    session.set(NOTE, &"Firefox on Linux".to_owned()).unwrap();
    session.commit().await.unwrap();
    let other = world.open(&world.user("ada").await).await;
    let list = session.sessions().list("ada").await.unwrap();
    let info = list.iter().find(|info| info.is(&session)).unwrap();
    assert_eq!(info.key(), id.key());
    assert_eq!(info.created_at(), signed_in_at);
    assert_eq!(info.authenticated_at(), Some(signed_in_at));
    assert_eq!(info.last_seen_at(), world.sessions_now());
    assert_eq!(info.expires_at(), world.sessions_now() + HOUR);
    assert_eq!(info.get(NOTE).as_deref(), Some("Firefox on Linux"));
    assert_eq!(info.get(VISITS), Some(1));
    assert!(!info.is(&other) && !info.is(&world.anonymous().await));
    let text = format!("{list:?}");
    assert!(!text.contains("Firefox") && !text.contains("ada"), "{text}");
}

#[tokio::test]
async fn a_session_that_expired_or_was_ended_is_not_listed() {
    let world = World::new();
    let (ended, stays) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&ended).await;
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(entered(&world, "ada").await, keys(&[&stays]));
    world.wait(HOUR);
    assert_eq!(listed(&world, "ada").await, []);
    world.user("ada").await;
    world.wait(23 * HOUR + 10 * SECOND);
    assert_eq!(entered(&world, "ada").await.len(), 1, "the dead one goes at its absolute deadline");
}

#[tokio::test]
async fn a_session_that_gets_another_id_is_listed_once() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.renew().unwrap();
    let renewed = finish(session).await;
    assert_eq!(entered(&world, "ada").await, keys(&[&renewed]));
    let session = world.open(&renewed).await;
    session.authenticate("ada").unwrap();
    let again = finish(session).await;
    assert_eq!(entered(&world, "ada").await, keys(&[&again]));
    assert_eq!(listed(&world, "ada").await, keys(&[&again]));
}

#[tokio::test]
async fn a_session_that_another_user_takes_over_leaves_the_first_ones_list() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("grace").unwrap();
    let id = finish(session).await;
    assert_eq!(entered(&world, "ada").await, []);
    assert_eq!(listed(&world, "grace").await, keys(&[&id]));
}

#[tokio::test]
async fn ending_all_of_the_first_user_leaves_the_session_to_the_second() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("grace").unwrap();
    world.store.fail(Verb::Leave, Fault::DOWN);
    let id = finish(session).await;
    assert_eq!(entered(&world, "ada").await.len(), 1, "the former key is still there");
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 0);
    assert!(world.opens(&id).await);
    assert_eq!(entered(&world, "ada").await, []);
}

#[tokio::test]
async fn a_list_finds_a_session_that_moves_while_it_is_made() {
    let world = World::new();
    let id = world.user("ada").await;
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::LoadMany, move || async move {
        let session = other.open(&former).await;
        session.renew().unwrap();
        let _ = session.finish().await.unwrap();
    });
    let list = listed(&world, "ada").await;
    assert_eq!(list.len(), 1);
    assert_ne!(list, keys(&[&id]));
}

#[tokio::test]
async fn a_session_that_was_ended_from_elsewhere_opens_nothing_and_stores_nothing() {
    let world = World::new();
    let id = world.user("ada").await;
    let under_way = world.open(&id).await;
    under_way.set(VISITS, &2).unwrap();
    assert!(world.other_process().sessions.revoke("ada", id.key()).await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(matches!(under_way.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await, (0, 0));
    assert_eq!(entered(&world, "ada").await, []);
    assert!(!world.sessions.revoke("ada", id.key()).await.unwrap());
}

#[tokio::test]
async fn the_key_of_another_owners_session_is_as_good_as_none_and_nothing_is_touched() {
    let world = World::new();
    let (others, visitor) = (world.user("grace").await, world.visitor().await);
    let unknown = SessionKey::from_bytes([7; SessionKey::LEN]);
    world.store.calls();
    for key in [others.key(), visitor.key(), unknown] {
        assert!(!world.sessions.revoke("ada", key).await.unwrap());
        let calls = world.store.calls();
        let reads = |verb| matches!(verb, Verb::Entries | Verb::Load | Verb::LoadMany);
        assert!(calls.iter().copied().all(reads), "{calls:?}");
    }
    assert!(world.opens(&others).await);
    assert!(world.opens(&visitor).await);
    assert_eq!(world.stored(&SessionId::from_random_bits([0; 32])).await, None);
}

#[tokio::test]
async fn a_former_key_ends_the_session_where_it_is_now() {
    for login in [true, false] {
        let world = World::new();
        let former = world.user("ada").await;
        let session = world.open(&former).await;
        if login {
            session.authenticate("ada").unwrap()
        } else {
            session.renew().unwrap()
        }
        let id = finish(session).await;
        assert!(world.sessions.revoke("ada", former.key()).await.unwrap());
        assert!(!world.opens(&id).await);
        assert_eq!(entered(&world, "ada").await, []);
    }
}

#[tokio::test]
async fn ending_all_ends_all_and_no_others() {
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
    assert_eq!(entered(&world, "ada").await, []);
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 0);
    assert_eq!(world.sessions.revoke_all("nobody").await.unwrap(), 0);
}

#[tokio::test]
async fn ending_all_finds_a_session_that_moves_meanwhile() {
    let world = World::new();
    let id = world.user("ada").await;
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::DeleteOrBlock, move || async move {
        let session = other.open(&former).await;
        session.renew().unwrap();
        let _ = session.finish().await.unwrap();
    });
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(world.count().await.0, 0);
    assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
}

#[tokio::test]
async fn ending_the_others_leaves_this_one() {
    let world = World::new();
    let ids = [world.user("ada").await, world.user("ada").await, world.user("ada").await];
    let session = world.open(&ids[1]).await;
    assert_eq!(session.sessions().revoke_others(&session).await.unwrap(), 2);
    assert_eq!(listed(&world, "ada").await, keys(&[&ids[1]]));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert!(world.opens(&ids[1]).await);
}

#[tokio::test]
async fn ending_the_others_after_a_login_counts_the_login_first() {
    let world = World::new();
    let (id, other) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    let id = finish(session).await;
    assert!(world.opens(&id).await);
    assert!(!world.opens(&other).await);
    // One who signs in only now is found out by the others' end, too.
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    assert!(!world.opens(&id).await);
    assert!(world.opens(&finish(session).await).await);
}

#[tokio::test]
async fn ending_the_others_by_a_request_whose_session_moved_spares_it_where_it_is_now() {
    let world = World::new();
    let (id, other) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&id).await;
    let renewing = world.open(&id).await;
    renewing.renew().unwrap();
    let renewed = finish(renewing).await;
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    assert!(world.opens(&renewed).await);
    assert!(!world.opens(&other).await);
}

#[tokio::test]
async fn an_anonymous_session_has_no_others() {
    let world = World::new();
    world.user("ada").await;
    let stored = world.open(&world.visitor().await).await;
    for session in [stored, world.anonymous().await] {
        assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 0);
        assert!(!world.store.calls().contains(&Verb::Entries));
    }
}

#[tokio::test]
async fn a_session_that_was_ended_ends_no_others() {
    let world = World::new();
    let (ended, other) = (world.user("ada").await, world.user("ada").await);
    let session = world.open(&ended).await;
    world.sessions.revoke("ada", ended.key()).await.unwrap();
    assert!(matches!(world.sessions.revoke_others(&session).await, Err(SessionError::Ended)));
    assert!(world.opens(&other).await);
}

#[tokio::test]
async fn an_owner_may_be_any_bytes_up_to_the_limit() {
    let world = World::new();
    let owners: [Vec<u8>; 5] =
        [b"a".to_vec(), vec![0], b"\r\n {}*".to_vec(), vec![0xff; 255], vec![0xff; 256]];
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
async fn a_lifetime_that_grows_is_in_the_index_before_it_is_in_the_session() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Enter, Verb::Commit]);
    world.wait(25 * HOUR);
    world.user("ada").await;
    assert!(listed(&world, "ada").await.contains(&id.key()));
    // One that shrinks is kept for as long as before.
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::new(HOUR, 48 * HOUR).unwrap()).unwrap();
    world.store.calls();
    assert!(session.commit().await.is_ok());
    assert_eq!(world.store.calls(), [Verb::Commit]);
}

#[tokio::test]
async fn a_lifetime_that_grows_by_a_replay_is_in_the_index_first_too() {
    let world = World::new();
    let id = world.user("ada").await;
    let (longer, other) = (world.open(&id).await, world.open(&id).await);
    longer.set_lifetime(Lifetime::remember_me()).unwrap();
    other.renew().unwrap();
    let new = finish(other).await;
    world.store.calls();
    assert_eq!(finish(longer).await.key(), new.key());
    let calls = world.store.calls();
    assert_eq!(calls.iter().filter(|verb| **verb == Verb::Enter).count(), 2, "for both: {calls:?}");
    world.wait(25 * HOUR);
    world.user("ada").await;
    assert_eq!(listed(&world, "ada").await.len(), 2);
}

#[tokio::test]
async fn a_lifetime_that_cannot_be_entered_is_not_stored() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    world.store.fail(Verb::Enter, Fault::DOWN);
    assert!(session.commit().await.is_err());
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::standard());
    session.commit().await.unwrap();
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::remember_me());
}

#[tokio::test]
async fn a_login_that_came_to_nothing_leaves_the_index() {
    for (verb, fault) in [
        (Verb::CreateEntered, Fault::DOWN),
        (Verb::CreateEntered, Fault::Before(StoreErrorKind::Full)),
        (Verb::Commit, Fault::DOWN),
    ] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        world.store.fail(verb, fault);
        assert!(session.finish().await.is_err());
        assert_eq!(entered(&world, "ada").await, []);
        assert_eq!(world.count().await, (1, 0));
    }
}

#[tokio::test]
async fn a_login_whose_answers_were_lost_is_in_the_index() {
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
async fn ending_whose_answer_was_lost_is_asked_for_again() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(Verb::DeleteOrBlock, fault);
        world.sessions.revoke_all("ada").await.unwrap();
        assert!(!world.opens(&id).await);
        assert_eq!(entered(&world, "ada").await, []);
    }
}

#[tokio::test]
async fn an_outage_is_an_error_and_not_an_empty_list() {
    for verb in [Verb::Entries, Verb::LoadMany, Verb::DeleteOrBlock] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(verb, Fault::DOWN);
        let list = world.sessions.list("ada").await;
        assert_eq!(list.is_err(), verb != Verb::DeleteOrBlock);
        world.store.fail(Verb::Entries, Fault::DOWN);
        assert!(world.sessions.revoke_all("ada").await.is_err());
        assert!(world.opens(&id).await);
    }
}

/// What a login meets whose key was barred before its session was there.
#[tokio::test]
async fn a_login_that_is_overtaken_by_the_end_of_all_takes_another_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let other = world.other_process();
    let store = Arc::clone(&world.store);
    world.store.before(Verb::CreateEntered, move || async move {
        // The entry is there and the session is not.
        let pending = SessionKey::from_bytes([1; SessionKey::LEN]);
        let owner = session_core::Owner::from("ada").key();
        let now = other.sessions_now();
        let family = Family::from_u64(1);
        let entry = IndexEntry { key: pending, family, until: now + HOUR };
        store.enter(&owner, entry, now).await.unwrap();
        assert_eq!(other.sessions.revoke_all("ada").await.unwrap(), 0);
        let entry = store.peek(pending, now).await;
        assert!(matches!(entry, Some(session_core::Entry::Moved(_))), "{entry:?}");
        let session_core::Entry::Moved(marker) = entry.unwrap() else { unreachable!() };
        assert_eq!(marker.successor(), None);
        assert_eq!(store.load(&pending, now + 5 * MINUTE).await.unwrap(), None);
    });
    let id = finish(session).await;
    assert!(world.opens(&id).await);
}

/// Who ended it is about to take its key out of the index: under that key it must not come back.
#[tokio::test]
async fn a_login_that_was_ended_before_it_asked_again_takes_another_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let other = world.other_process();
    let (forgets, forgotten) = (async_channel::bounded::<()>(1), async_channel::bounded::<()>(1));
    let (ending, ended) = async_channel::bounded(1);
    world.store.fail(Verb::CreateEntered, Fault::ANSWER_LOST);
    world.store.before(Verb::Create, move || async move {
        ending
            .send(tokio::spawn(async move { other.sessions.revoke_all("ada").await }))
            .await
            .unwrap();
        forgets.1.recv().await.unwrap();
    });
    world.store.before(Verb::Leave, move || async move {
        forgets.0.send(()).await.unwrap();
        forgotten.1.recv().await.unwrap();
    });
    let id = finish(session).await;
    forgotten.0.send(()).await.unwrap();
    assert_eq!(ended.try_recv().expect("it asked again").await.unwrap().unwrap(), 1);
    assert!(world.opens(&id).await);
    assert_eq!(entered(&world, "ada").await, keys(&[&id]));
}

/// Another process whose clock is two seconds ahead.
fn ahead(world: &World) -> World {
    let clock = Arc::new(ManualClock::new(world.sessions_now() + 2 * SECOND));
    let sessions = Sessions::builder(Arc::clone(&world.store)).with_clock(Arc::clone(&clock));
    World { store: Arc::clone(&world.store), clock, sessions: sessions.build().unwrap() }
}

/// What has just expired by this server's clock goes on by one that is behind.
#[tokio::test]
async fn a_session_in_its_last_seconds_is_ended_by_a_server_whose_clock_is_ahead() {
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
