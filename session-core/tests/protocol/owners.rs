//! I8: the sessions of an owner are known, and can be revoked from elsewhere.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use session_core::{
    AtLimit, CookieChange, Entry, Family, IndexEntry, Lifetime, ManualClock, Owner,
    OwnerIndex as _, SessionError, SessionId, SessionKey, SessionLimit, SessionStore as _,
    Sessions, StoreError, StoreErrorKind, Timestamp,
    testing::{Answer, Intercept, Intercepted, Operation},
};

use crate::support::{
    CLOSING, Fault, HOUR, MINUTE, MOVES, MapStore, Move, NOTE, Peek as _, SECOND, VISITS, Verb,
    World, finish, keys, told,
};

#[tokio::test]
async fn list_holds_the_sessions_of_one_owner_last_used_first() {
    let world = World::new();
    world.visitor().await;
    world.user("grace").await;
    let first = world.user("ada").await;
    world.wait(MINUTE);
    let second = world.user("ada").await;
    world.wait(MINUTE);
    assert_eq!(world.listed("ada").await, keys(&[&second, &first]));
    world.wait(10 * MINUTE);
    let _ = world.read(&first).await;
    assert_eq!(world.listed("ada").await, keys(&[&first, &second]));
    assert_eq!(world.listed("nobody").await, []);
}

#[tokio::test]
async fn list_shows_the_content_of_the_sessions() {
    let world = World::new();
    let id = world.user("ada").await;
    let signed_in_at = world.sessions_now();
    world.wait(10 * MINUTE);
    let session = world.open(&id).await;
    session.set(NOTE, "Firefox on Linux").unwrap();
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
async fn session_that_expired_or_was_ended_is_not_listed() {
    let world = World::new();
    let (ended, stays) = (world.user("ada").await, world.user("ada").await);
    world.log_out(&ended).await;
    assert_eq!(world.entered("ada").await, keys(&[&stays]));
    world.wait(HOUR);
    assert_eq!(world.listed("ada").await, []);
    world.user("ada").await;
    assert_eq!(world.entered("ada").await.len(), 2, "a clock may be behind");
}

#[tokio::test]
async fn session_that_got_another_id_is_listed_once() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.renew().unwrap();
    let renewed = finish(session).await;
    assert_eq!(world.entered("ada").await, keys(&[&renewed]));
    let session = world.open(&renewed).await;
    session.authenticate("ada").unwrap();
    let again = finish(session).await;
    assert_eq!(world.entered("ada").await, keys(&[&again]));
    assert_eq!(world.listed("ada").await, keys(&[&again]));
}

#[tokio::test]
async fn session_taken_over_by_another_user_leaves_the_first_list() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("grace").unwrap();
    let id = finish(session).await;
    assert_eq!(world.entered("ada").await, []);
    assert_eq!(world.listed("grace").await, keys(&[&id]));
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

#[tokio::test]
async fn list_finds_a_session_that_moves_while_it_is_made() {
    let world = World::new();
    let id = world.user("ada").await;
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::LoadMany, move || async move {
        other.renew(&former).await;
    });
    let list = world.listed("ada").await;
    assert_eq!(list.len(), 1);
    assert_ne!(list, keys(&[&id]));
}

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

#[tokio::test]
async fn revoke_by_a_former_key_ends_the_session_where_it_is() {
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
        assert_eq!(world.entered("ada").await, []);
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
async fn revoke_all_finds_a_session_that_moves_meanwhile() {
    let world = World::new();
    let id = world.user("ada").await;
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::DeleteOrBlock, move || async move {
        other.renew(&former).await;
    });
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(world.count().await.0, 0);
    assert_eq!(world.count_entered().await, 0);
}

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
async fn revoke_others_spares_the_own_session_after_a_renewal() {
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

/// If one server removes a session from the index, the session must have expired on every server.
#[tokio::test]
async fn entry_stays_for_10_seconds_after_the_absolute_deadline() {
    let world = World::new();
    let id = world.user("ada").await;
    world.wait(world.sessions.lifetime().absolute() + 10 * SECOND - Duration::from_millis(1));
    world.user("ada").await;
    assert!(world.entered("ada").await.contains(&id.key()));
    world.wait(Duration::from_millis(1));
    assert!(!world.entered("ada").await.contains(&id.key()));
}

#[tokio::test]
async fn failed_login_leaves_the_index() {
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
        assert_eq!(world.entered("ada").await, []);
        assert_eq!(world.count().await, (1, 0));
    }
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
async fn revocation_is_repeated_if_its_answer_is_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(Verb::DeleteOrBlock, fault);
        world.sessions.revoke_all("ada").await.unwrap();
        assert!(!world.opens(&id).await);
        assert_eq!(world.entered("ada").await, []);
    }
}

#[tokio::test]
async fn outage_is_an_error_and_no_empty_list() {
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
async fn session_in_the_middle_of_a_move_is_one_line() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        let other = world.other_process();
        let (session, observer) = (world.open(&id).await, world.open(&id).await);
        deed(&session).unwrap();
        world.store.before(Verb::Commit, move || async move {
            assert_eq!(other.entered("ada").await.len(), 2);
            let list = other.sessions.list("ada").await.unwrap();
            assert_eq!(list.len(), 1, "{list:?}");
            assert!(list[0].is(&observer));
        });
        finish(session).await;
        assert_eq!(world.listed("ada").await.len(), 1);
    }
}

#[tokio::test]
async fn session_in_the_middle_of_a_move_is_revoked_as_one() {
    for deed in MOVES {
        for all in [false, true] {
            let world = World::new();
            let id = world.user("ada").await;
            let mut events = world.sessions.events();
            let (sessions, key) = (world.sessions.clone(), id.key());
            let session = world.open(&id).await;
            deed(&session).unwrap();
            world.store.before(Verb::Commit, move || async move {
                if all {
                    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
                } else {
                    assert!(sessions.revoke("ada", key).await.unwrap());
                }
            });
            assert!(matches!(session.finish().await, Err(SessionError::Ended)));
            assert_eq!(world.count().await.0, 0);
            let revoked = std::iter::from_fn(|| events.try_next())
                .filter(|event| event.kind == session_core::EventKind::Revoked);
            assert_eq!(revoked.count(), 1);
        }
    }
}

/// Stops a move between its two records, like a crash of the process.
async fn crash_in(world: &World, id: &SessionId, deed: Move) {
    let session = world.open(id).await;
    deed(&session).unwrap();
    world.store.before(Verb::Commit, pending);
    let mut finish = pin!(session.finish());
    let is_pending = poll_fn(|context| Poll::Ready(finish.as_mut().poll(context).is_pending()));
    assert!(is_pending.await);
}

#[tokio::test]
async fn record_of_a_crashed_move_is_no_second_device() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        crash_in(&world, &id, deed).await;
        assert_eq!(world.count().await.0, 2);
        assert_eq!(world.listed("ada").await.len(), 1);

        world.wait(10 * MINUTE);
        let session = world.open(&id).await;
        let _ = session.finish().await.unwrap();
        let list = world.sessions.list("ada").await.unwrap();
        assert_eq!(list.len(), 1);
        assert!(list[0].is(&session) && list[0].key() == id.key(), "the client uses this one");

        let left = world.entered("ada").await.into_iter().find(|key| *key != id.key());
        assert!(world.sessions.revoke("ada", left.unwrap()).await.unwrap());
        assert!(!world.opens(&id).await);
        assert_eq!(world.count().await.0, 0, "revoked as one");
    }
}

#[tokio::test]
async fn record_of_a_crashed_move_is_hidden_by_the_next_one() {
    for deed in MOVES {
        let world = World::new();
        let id = world.user("ada").await;
        crash_in(&world, &id, deed).await;
        world.wait(MINUTE);
        let new = world.moved(&id, deed).await;
        assert_eq!(world.listed("ada").await, keys(&[&new]));
        assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
        assert_eq!(world.count().await.0, 0);
    }
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
async fn revoke_ends_a_session_that_moves_after_its_key_was_found() {
    for deed in MOVES {
        for number in [1, 2] {
            let world = World::new();
            let id = world.user("ada").await;
            let (other, former) = (world.other_process(), id.clone());
            world.store.before_nth(number, Verb::Entries, move || async move {
                other.moved(&former, deed).await;
            });
            assert!(world.sessions.revoke("ada", id.key()).await.unwrap());
            assert_eq!(world.count().await.0, 0);
        }
    }
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
async fn list_shows_no_session_that_another_user_took_over_meanwhile() {
    let world = World::new();
    let id = world.user("ada").await;
    let other = world.other_process();
    world.store.before(Verb::LoadMany, move || async move {
        let session = other.open(&id).await;
        session.authenticate("grace").unwrap();
        finish(session).await;
    });
    assert_eq!(world.listed("ada").await, []);
    assert_eq!(world.listed("grace").await.len(), 1);
}

#[tokio::test]
async fn empty_owner_is_refused_and_stores_nothing() {
    let world = World::new();
    let key = SessionKey::from_bytes([0; SessionKey::LEN]);
    for error in [
        world.sessions.list("").await.unwrap_err(),
        world.sessions.revoke("", key).await.unwrap_err(),
        world.sessions.revoke_all("").await.unwrap_err(),
        world.anonymous().await.authenticate("").unwrap_err(),
    ] {
        assert!(matches!(error, SessionError::EmptyOwner), "{error:?}");
    }
    assert_eq!(world.store.calls(), []);
}

/// I13: a long list yields to other tasks.
#[tokio::test]
async fn long_list_yields_to_other_tasks() {
    let world = World::new();
    for _ in 0..1_000 {
        world.user("ada").await;
    }
    let (list_pauses, listed) = pauses(world.sessions.list("ada")).await;
    assert!(list_pauses >= 10, "{list_pauses} pauses");
    assert_eq!(listed, 1_000);
    let session = world.open(&world.user("ada").await).await;
    let (revocation_pauses, revoked) = pauses(world.sessions.revoke_others(&session)).await;
    assert!(revocation_pauses >= 10, "{revocation_pauses} pauses");
    assert_eq!(revoked, 1_000);
    assert_eq!(pauses(world.sessions.revoke_all("ada")).await, (1, 1));
}

/// Returns the number of times that a future yields to other tasks, on a store without waits, and
/// the size of its result.
async fn pauses<T: Size>(future: impl Future<Output = Result<T, SessionError>>) -> (usize, usize) {
    let (mut future, mut pauses) = (pin!(future), 0);
    let result = poll_fn(|context| {
        let poll = future.as_mut().poll(context);
        pauses += usize::from(poll.is_pending());
        poll
    });
    let size = result.await.unwrap().size();
    (pauses, size)
}

trait Size {
    fn size(&self) -> usize;
}

impl Size for usize {
    fn size(&self) -> usize {
        *self
    }
}

impl<T> Size for Vec<T> {
    fn size(&self) -> usize {
        self.len()
    }
}

/// A store that makes records unreadable, like those of a later version.
#[derive(Default)]
struct Unreadable(Mutex<Vec<SessionKey>>);

impl Unreadable {
    fn check(&self, key: &SessionKey, entry: Option<Entry>) -> Result<Option<Entry>, StoreError> {
        let is_unreadable = entry.is_some() && self.0.lock().unwrap().contains(key);
        if is_unreadable { Err(StoreError::new(StoreErrorKind::Corrupt)) } else { Ok(entry) }
    }
}

#[session_core::async_trait]
impl Intercept<MapStore> for Unreadable {
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let keys = operation.keys();
        match operation.perform(store, now).await? {
            Answer::Loaded(entry) => self.check(&keys[0], entry).map(Answer::Loaded),
            Answer::LoadedMany(entries) => {
                let check = |(key, entry): (_, Result<_, _>)| self.check(key, entry?);
                Ok(Answer::LoadedMany(keys.iter().zip(entries).map(check).collect()))
            }
            answer => Ok(answer),
        }
    }
}

/// During a deployment, an older version of the application must be able to revoke a session
/// that it cannot read.
#[tokio::test]
async fn unreadable_session_is_revoked_though_it_is_not_listed() {
    for way in ["one", "others", "all"] {
        let store = Arc::new(Intercepted::new(MapStore::default(), Unreadable::default()));
        let sessions = Sessions::new(Arc::clone(&store));
        let user = async || {
            let session = sessions.open([]).await.unwrap();
            session.authenticate("ada").unwrap();
            finish(session).await
        };
        let (unreadable, own) = (user().await, user().await);
        let opens = async |id: &SessionId| {
            sessions.open([id.expose().as_bytes()]).await.unwrap().key().is_some()
        };
        store.intercept().0.lock().unwrap().push(unreadable.key());
        assert!(!opens(&unreadable).await);
        let list = sessions.list("ada").await.unwrap();
        assert_eq!(list.iter().map(|info| info.key()).collect::<Vec<_>>(), keys(&[&own]));

        match way {
            "one" => assert!(sessions.revoke("ada", unreadable.key()).await.unwrap()),
            "others" => {
                let session = sessions.open([own.expose().as_bytes()]).await.unwrap();
                assert_eq!(sessions.revoke_others(&session).await.unwrap(), 1);
            }
            _ => assert_eq!(sessions.revoke_all("ada").await.unwrap(), 2),
        }
        // The later version finds the session deleted.
        store.intercept().0.lock().unwrap().clear();
        assert!(!opens(&unreadable).await, "{way}");
        assert_eq!(opens(&own).await, way != "all");
        assert!(!sessions.revoke("ada", unreadable.key()).await.unwrap());
    }
}

#[tokio::test]
async fn unreadable_session_takes_a_place_in_the_limit() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let store = Arc::new(Intercepted::new(MapStore::default(), Unreadable::default()));
        let limit = SessionLimit::new(2, at_limit).unwrap();
        let sessions = Sessions::builder(Arc::clone(&store)).with_session_limit(limit);
        let sessions = sessions.build().unwrap();
        let user = async || {
            let session = sessions.open([]).await.unwrap();
            session.authenticate("ada").unwrap();
            session.finish().await.map(told)
        };
        let (unreadable, other) = (user().await.unwrap(), user().await.unwrap());
        store.intercept().0.lock().unwrap().push(unreadable.key());
        let new = user().await;
        store.intercept().0.lock().unwrap().clear();
        let opens = async |id: &SessionId| {
            sessions.open([id.expose().as_bytes()]).await.unwrap().key().is_some()
        };
        if at_limit == AtLimit::Reject {
            assert!(matches!(new, Err(SessionError::TooManySessions { limit: 2, .. })));
            assert!(opens(&unreadable).await);
        } else {
            assert!(opens(&new.unwrap()).await);
            assert!(!opens(&unreadable).await, "its age is unknown, so it is the first to go");
        }
        assert!(opens(&other).await);
    }
}
