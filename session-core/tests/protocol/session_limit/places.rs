//! I8: a session takes one place of its owner's limit, and nothing else takes a place.

use std::{sync::mpsc, time::Duration};

use session_core::{AtLimit, Lifetime, SessionLimit};

use crate::support::{HOUR, MINUTE, Peek as _, Verb, World, sign_in, told};

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

/// The number of broken-off logins of one browser does not matter.
#[tokio::test]
async fn logins_that_broke_off_take_no_second_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for is_owned in [true, false] {
            let world = World::limited(1, at_limit);
            let id = if is_owned { world.sign_in().await.unwrap() } else { world.visitor().await };
            world.break_off(&id, sign_in).await;
            world.break_off(&id, sign_in).await;
            let session = world.open(&id).await;
            session.authenticate("ada").unwrap();
            let id = told(session.finish().await.unwrap());
            assert!(world.opens(&id).await);
            assert_eq!(world.listed("ada").await.len(), 1);
            assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
            assert_eq!(world.count().await.0, 0);
            assert_eq!(world.count_entered().await, 0);
        }
    }
}
