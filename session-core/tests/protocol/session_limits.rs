//! The limit of sessions per owner.

use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Entry, EventKind, Family, IndexEntry, ManualClock, Owner,
    OwnerIndex as _, SessionError, SessionId, SessionKey, SessionLimit, SessionStore as _,
    Sessions, StoreErrorKind, SystemClock,
};

use crate::support::{
    Fault, HOUR, Look as _, MINUTE, Peek as _, Steps, VISITS, Verb, World, steps, told,
};

#[tokio::test]
async fn login_above_the_limit_is_refused_and_stores_nothing() {
    let world = World::limited(2, AtLimit::Reject);
    let ids = [world.sign_in().await.unwrap(), world.sign_in().await.unwrap()];
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let error = session.commit().await.unwrap_err();
    insta::assert_snapshot!(error, @"the owner has as many sessions as the limit of 2 allows");
    assert!(!error.is_retryable());
    assert_eq!(world.count().await, (2, 0));
    assert_eq!(world.count_entered().await, 2);
    // Another owner has its own limit.
    world.user("grace").await;
    // The login is still recorded, and succeeds after one session has ended.
    assert!(world.sessions.revoke("ada", ids[0].key()).await.unwrap());
    let id = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await && world.opens(&ids[1]).await);
}

#[tokio::test]
async fn refused_login_leaves_the_visitors_session_as_it_was() {
    let world = World::limited(1, AtLimit::Reject);
    world.sign_in().await.unwrap();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert!(matches!(session.commit().await, Err(SessionError::TooManySessions { limit: 1, .. })));
    session.discard();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.owner()), (Some(1), None));
}

#[tokio::test]
async fn oldest_login_is_evicted() {
    let world = World::limited(2, AtLimit::EvictOldest);
    let oldest = world.sign_in().await.unwrap();
    world.wait(MINUTE);
    let second = world.sign_in().await.unwrap();
    world.wait(10 * MINUTE);
    let _ = world.read(&oldest).await;
    let third = world.sign_in().await.unwrap();
    assert!(!world.opens(&oldest).await);
    assert!(world.opens(&second).await && world.opens(&third).await);
    assert_eq!(world.count_entered().await, 2);
}

#[tokio::test]
async fn least_recently_used_session_is_evicted() {
    let world = World::limited(2, AtLimit::EvictLeastRecent);
    let oldest = world.sign_in().await.unwrap();
    world.wait(MINUTE);
    let second = world.sign_in().await.unwrap();
    world.wait(10 * MINUTE);
    let _ = world.read(&oldest).await;
    let third = world.sign_in().await.unwrap();
    assert!(!world.opens(&second).await);
    assert!(world.opens(&oldest).await && world.opens(&third).await);
}

#[tokio::test]
async fn lowered_limit_holds_from_the_next_login_on() {
    let world = World::limited(5, AtLimit::EvictOldest);
    for _ in 0..5 {
        world.sign_in().await.unwrap();
        world.wait(MINUTE);
    }
    let strict = world.with_limit(2, AtLimit::EvictOldest);
    strict.sign_in().await.unwrap();
    assert_eq!(strict.listed("ada").await.len(), 2);
}

#[tokio::test]
async fn expired_session_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = World::limited(2, at_limit);
        world.sign_in().await.unwrap();
        world.wait(30 * MINUTE);
        let stays = world.sign_in().await.unwrap();
        world.wait(HOUR - 30 * MINUTE);
        let new = world.sign_in().await.unwrap();
        assert_eq!(world.listed("ada").await, [new.key(), stays.key()]);
    }
}

/// If its clock is behind, a store may keep an expired session for a while.
#[tokio::test]
async fn expired_session_that_is_still_stored_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = World::limited(1, at_limit);
        world.store.keep_expired();
        world.sign_in().await.unwrap();
        world.wait(HOUR);
        let id = world.sign_in().await.unwrap();
        assert_eq!(world.listed("ada").await, [id.key()]);
        // By a clock behind, the session may be alive: the index still holds its key.
        assert_eq!(world.count_entered().await, 2);
    }
}

#[tokio::test]
async fn login_again_takes_the_place_of_its_own_session() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        let world = World::limited(2, at_limit);
        let (mut id, other) = (world.sign_in().await.unwrap(), world.sign_in().await.unwrap());
        for _ in 0..3 {
            id = world.login(&id, "ada").await;
        }
        assert!(world.opens(&id).await && world.opens(&other).await);
        assert_eq!(world.count_entered().await, 2);
    }
}

#[tokio::test]
async fn login_that_another_login_overtook_takes_no_place() {
    for (at_limit, is_visitor) in [
        (AtLimit::Reject, true),
        (AtLimit::Reject, false),
        (AtLimit::EvictOldest, true),
        (AtLimit::EvictOldest, false),
    ] {
        let world = World::limited(1, at_limit);
        let id = if is_visitor { world.visitor().await } else { world.sign_in().await.unwrap() };
        let (left, right) = (world.open(&id).await, world.open(&id).await);
        left.authenticate("ada").unwrap();
        right.authenticate("ada").unwrap();
        let left = told(left.finish().await.unwrap());
        let right = right.finish().await;
        if is_visitor {
            // A double click: both responses hold the ID of the same session.
            assert_eq!(told(right.unwrap()).key(), left.key());
        } else {
            assert!(matches!(right, Err(SessionError::Ended)), "{right:?}");
        }
        assert_eq!(world.listed("ada").await, [left.key()]);
    }
}

#[tokio::test]
async fn record_of_a_crashed_login_takes_no_second_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let world = World::limited(2, at_limit);
        let (id, other) = (world.sign_in().await.unwrap(), world.sign_in().await.unwrap());
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        world.drop_in_commit(&session).await;
        assert_eq!(world.count_entered().await, 3);
        world.wait(MINUTE);
        let again = world.open(&id).await;
        again.authenticate("ada").unwrap();
        let again = told(again.finish().await.unwrap());
        assert!(world.opens(&again).await && world.opens(&other).await, "{at_limit:?}");
        if at_limit != AtLimit::Reject {
            // The session is evicted as one session, with all its records.
            world.wait(MINUTE);
            world.sign_in().await.unwrap();
            world.wait(MINUTE);
            world.sign_in().await.unwrap();
            assert_eq!(world.count().await.0, 2, "{at_limit:?}");
            assert_eq!(world.count_entered().await, 2);
        }
    }
}

#[tokio::test]
async fn session_that_moves_during_a_login_keeps_its_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for verb in [Verb::LoadMany, Verb::DeleteOrBlock] {
            let world = World::limited(1, at_limit);
            let id = world.sign_in().await.unwrap();
            world.wait(MINUTE);
            let (other, former) = (world.with_limit(1, at_limit), id.clone());
            world.store.before(verb, move || async move {
                other.renew(&former).await;
            });
            let new = world.sign_in().await;
            if at_limit == AtLimit::Reject {
                assert!(
                    matches!(new, Err(SessionError::TooManySessions { limit: 1, .. })),
                    "{new:?}"
                );
                assert_eq!(world.listed("ada").await.len(), 1);
            } else {
                assert_eq!(world.listed("ada").await, [new.unwrap().key()], "{verb:?}");
                assert_eq!(world.count().await.0, 1);
            }
            if at_limit == AtLimit::Reject {
                break;
            }
        }
    }
}

/// Two logins never evict each other: the later login stays.
#[tokio::test]
async fn session_that_signs_in_again_is_not_evicted_by_older_login() {
    let world = World::limited(1, AtLimit::EvictOldest);
    let id = world.sign_in().await.unwrap();
    world.wait(MINUTE);
    let (other, former) = (world.with_limit(1, AtLimit::EvictOldest), id.clone());
    let again = Arc::new(std::sync::Mutex::new(None));
    let result = Arc::clone(&again);
    world.store.before(Verb::DeleteOrBlock, move || async move {
        other.wait(Duration::from_secs(10));
        let session = other.open(&former).await;
        session.authenticate("ada").unwrap();
        *result.lock().unwrap() = Some(told(session.finish().await.unwrap()));
    });
    let error = world.sign_in().await.unwrap_err();
    assert!(matches!(error, SessionError::Contended) && error.is_retryable(), "{error:?}");
    let again = again.lock().unwrap().take().expect("it signed in again");
    assert_eq!(world.listed("ada").await, [again.key()]);
    assert!(world.opens(&again).await);
}

#[tokio::test]
async fn eviction_is_reported_once_under_the_key_of_the_session() {
    let world = World::limited(1, AtLimit::EvictOldest);
    let id = world.sign_in().await.unwrap();
    world.wait(MINUTE);
    let mut events = world.sessions.events();
    let new = world.sign_in().await.unwrap();
    let kinds = std::iter::from_fn(|| events.try_next())
        .map(|event| (event.kind, event.key, event.owner))
        .collect::<Vec<_>>();
    let ada = Some(Owner::from("ada"));
    assert_eq!(
        kinds,
        [(EventKind::Evicted, id.key(), ada.clone()), (EventKind::Authenticated, new.key(), ada),]
    );
}

#[tokio::test]
async fn renewal_is_never_refused_and_evicts_nobody() {
    let world = World::limited(2, AtLimit::Reject);
    let ids = [world.sign_in().await.unwrap(), world.sign_in().await.unwrap()];
    let strict = world.with_limit(1, AtLimit::EvictOldest);
    for id in &ids {
        let session = strict.open(id).await;
        session.renew().unwrap();
        strict.store.calls();
        let id = told(session.finish().await.unwrap());
        assert_eq!(strict.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
        assert!(strict.opens(&id).await);
    }
    assert_eq!(strict.listed("ada").await.len(), 2);
}

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

#[tokio::test]
async fn login_fails_if_the_limit_cannot_be_checked() {
    for (verb, fault) in [
        (Verb::Entries, Fault::DOWN),
        (Verb::Entries, Fault::UNSENT),
        (Verb::LoadMany, Fault::DOWN),
        (Verb::DeleteOrBlock, Fault::DOWN),
    ] {
        let world = World::limited(1, AtLimit::EvictOldest);
        let former = world.sign_in().await.unwrap();
        world.wait(MINUTE);
        world.store.fail(verb, fault);
        let result = world.sign_in().await;
        let Err(SessionError::Store(error)) = result else { panic!("{verb:?}: {result:?}") };
        assert!(error.is_retryable());
        assert_eq!(world.listed("ada").await, [former.key()], "nothing is left of the login");
    }
}

#[tokio::test]
async fn eviction_whose_answer_was_lost_is_repeated() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::limited(1, AtLimit::EvictOldest);
        world.sign_in().await.unwrap();
        world.wait(MINUTE);
        world.store.fail(Verb::DeleteOrBlock, fault);
        let id = world.sign_in().await.unwrap();
        assert_eq!(world.listed("ada").await, [id.key()]);
    }
    let world = World::limited(1, AtLimit::EvictOldest);
    world.sign_in().await.unwrap();
    world.wait(MINUTE);
    world.fail_twice(Verb::DeleteOrBlock, Fault::ANSWER_LOST);
    let error = world.sign_in().await.unwrap_err();
    assert!(matches!(error, SessionError::Store(error) if error.kind() == StoreErrorKind::Timeout));
    world.sign_in().await.unwrap();
}

#[tokio::test]
async fn limit_costs_a_login_two_round_trips() {
    let world = World::limited(2, AtLimit::EvictOldest);
    let id = world.sign_in().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Entries]);
    world.sign_in().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Entries, Verb::LoadMany]);
    // A login from a session of the owner keeps that session's place.
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
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
            store.watched().store().create(&under_way, record, now).await.unwrap();
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

/// A login of another server, whose clock is far ahead, must not cause a refusal.
#[tokio::test]
async fn login_evicts_a_login_of_a_clock_ahead() {
    for at_limit in [AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let world = World::limited(1, at_limit);
        let ahead = ManualClock::new(world.sessions_now() + Duration::from_secs(16));
        let sessions = Sessions::builder(Arc::clone(&world.store))
            .with_clock(ahead)
            .with_session_limit(SessionLimit::new(1, at_limit).unwrap())
            .build()
            .unwrap();
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let other = told(session.finish().await.unwrap());
        let id = world.sign_in().await.unwrap();
        assert!(world.opens(&id).await && !world.opens(&other).await);
    }
}

/// Runs logins in three processes, on a store that lets other requests in before each command.
async fn fifty_concurrent_logins(
    at_limit: AtLimit,
) -> (Arc<Steps>, Vec<Result<SessionId, SessionError>>) {
    let store = Arc::new(steps());
    let limit = SessionLimit::new(3, at_limit).unwrap();
    let process =
        || Sessions::builder(Arc::clone(&store)).with_session_limit(limit).build().unwrap();
    let processes = [process(), process(), process()];
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let sessions = processes[number % 3].clone();
            tokio::spawn(async move {
                let session = sessions.open([]).await?;
                session.authenticate("ada")?;
                session.finish().await.map(told)
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    (store, answers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_concurrent_logins_leave_no_more_than_three() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for _ in 0..2 {
            let (store, answers) = fifty_concurrent_logins(at_limit).await;
            let now = SystemClock.now();
            let mut live: Vec<_> = store.live(now).into_iter().map(|(key, _)| key).collect();
            let mut entered = store.entered("ada", now);
            live.sort_unstable();
            entered.sort_unstable();
            assert_eq!(live, entered);
            let mut accepted = Vec::new();
            for answer in answers {
                match answer {
                    Ok(id) => accepted.push(id.key()),
                    Err(SessionError::TooManySessions { limit: 3, .. })
                        if at_limit == AtLimit::Reject => {}
                    Err(SessionError::Contended) if at_limit != AtLimit::Reject => {}
                    Err(error) => panic!("{at_limit:?}: {error}"),
                }
            }
            assert!(live.iter().all(|key| accepted.contains(key)), "a session that nobody knows");
            if at_limit == AtLimit::Reject {
                // Logins that find each other are refused together.
                assert!(accepted.len() <= 3, "{}", accepted.len());
                assert_eq!(live.len(), accepted.len());
            } else {
                assert_eq!(live.len(), 3, "{at_limit:?}");
            }
        }
    }
}

/// Each login that finds many expired sessions removes 32 of their entries.
#[tokio::test]
async fn expired_sessions_cost_each_login_a_bounded_number_of_commands() {
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
