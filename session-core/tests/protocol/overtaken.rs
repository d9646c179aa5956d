//! Two requests move one session concurrently: the record of the slower request does not count as a
//! session.

use std::{sync::mpsc, time::Duration};

use session_core::{AtLimit, CookieChange, EventKind, Lifetime, SessionError, SessionLimit};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

/// While the record of a slower renewal is still stored, another device signs in within the limit.
#[tokio::test]
async fn overtaken_renewal_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for periodic in [false, true] {
            let limit = SessionLimit::new(2, at_limit).unwrap();
            let aged = Lifetime::default().with_renew_after(Duration::from_secs(600)).unwrap();
            let world = World::with(|sessions| {
                let sessions = sessions.with_session_limit(limit);
                if periodic { sessions.with_lifetime(aged) } else { sessions }
            });
            let id = world.user("ada").await;
            if periodic {
                world.wait(Duration::from_secs(601));
            }
            let (left, right) = (world.open(&id).await, world.open(&id).await);
            if !periodic {
                left.renew().unwrap();
                right.renew().unwrap();
            }
            let other = world.other_process_with(|sessions| sessions.with_session_limit(limit));
            let (send, ids) = mpsc::channel();
            world.store.before(Verb::Commit, move || async move {
                let id = told(left.finish().await.unwrap());
                let login = other.anonymous().await;
                login.authenticate("ada").unwrap();
                send.send((id, told(login.finish().await.unwrap()))).unwrap();
            });
            let _ = right.finish().await.unwrap();
            let (id, other) = ids.try_recv().unwrap();
            assert!(world.opens(&id).await, "{at_limit:?}, periodic: {periodic}");
            assert!(world.opens(&other).await, "{at_limit:?}, periodic: {periodic}");
            assert_eq!(world.count().await.0, 2);
        }
    }
}

/// The record is not listed or counted, and its deletion sends no event.
#[tokio::test]
async fn overtaken_renewal_is_no_session_to_a_list_or_revocation() {
    for call in ["list", "revoke_all", "revoke_others"] {
        let world = World::new();
        let id = world.user("ada").await;
        let (left, right) = (world.open(&id).await, world.open(&id).await);
        left.renew().unwrap();
        right.renew().unwrap();
        let (send, counts) = mpsc::channel();
        world.store.before(Verb::Commit, move || async move {
            let _ = left.finish().await.unwrap();
            let sessions = left.sessions();
            let mut events = sessions.events();
            let count = match call {
                "list" => sessions.list("ada").await.unwrap().len(),
                "revoke_all" => sessions.revoke_all("ada").await.unwrap(),
                _ => sessions.revoke_others(&left).await.unwrap(),
            };
            let events = std::iter::from_fn(|| events.try_next());
            let revoked = events.filter(|event| event.kind == EventKind::Revoked).count();
            send.send((count, revoked)).unwrap();
        });
        let _ = right.finish().await;
        let expected = match call {
            "list" => (1, 0),
            "revoke_all" => (1, 1),
            _ => (0, 0),
        };
        assert_eq!(counts.try_recv().unwrap(), expected, "{call}");
        assert_eq!(world.count().await.0, usize::from(call != "revoke_all"), "{call}");
    }
}

/// A login broke off after the store had its record, and a second try succeeded: the unused record
/// takes no place.
#[tokio::test]
async fn login_that_broke_off_takes_no_place() {
    let world = World::with(|sessions| {
        sessions.with_session_limit(SessionLimit::new(2, AtLimit::Reject).unwrap())
    });
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.fail_twice(Verb::Commit, Fault::UNSENT);
    assert!(session.finish().await.is_err());
    let id = world.login(&id, "ada").await;
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);

    let other = world.begin(|session| session.authenticate("ada")).await;
    assert!(world.opens(&id).await && world.opens(&other).await);
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 2);
}

/// The renewal was about to replay its changes on a newer record when a login moved the session.
#[tokio::test]
async fn renewal_overtaken_by_a_login_stores_its_values() {
    for max in [1, 2] {
        let change = replayed_beside_a_login(max).await;
        assert!(matches!(change, Ok(CookieChange::Keep)), "with room for {max}: {change:?}");
    }
}

async fn replayed_beside_a_login(max: usize) -> Result<CookieChange, SessionError> {
    let limit = SessionLimit::new(max, AtLimit::Reject).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let id = world.user("ada").await;
    let (renews, writes) = (world.open(&id).await, world.open(&id).await);
    let other = world.other_process_with(|sessions| sessions.with_session_limit(limit));
    renews.renew().unwrap();
    renews.set(NOTE, "kept").unwrap();
    writes.set(VISITS, 5).unwrap();
    // The first commit is the renewal's tombstone, the second is the write, and the third is the
    // renewal, replayed on the write.
    world.store.before(Verb::Commit, move || async move { writes.commit().await.unwrap() });
    let (send, ids) = mpsc::channel();
    world.store.before_nth(3, Verb::Commit, move || async move {
        let session = other.open(&id).await;
        session.authenticate("ada").unwrap();
        send.send(told(session.finish().await.unwrap())).unwrap();
    });
    let change = renews.finish().await?;
    let session = world.open(&ids.try_recv().unwrap()).await;
    assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (Some(5), Some("kept")));
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);
    assert_eq!(world.count().await.0, 1);
    assert_eq!(world.count_entered().await, 1);
    Ok(change)
}
