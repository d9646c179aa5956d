//! Two requests that move one session at once: one record comes to nothing, and is no session to anybody.

use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, CookieChange, Event, Events, Lifetime, SessionError, SessionLimit, Sessions,
};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

fn limit(max: usize, at_limit: AtLimit) -> SessionLimit {
    SessionLimit::new(max, at_limit).unwrap()
}

/// Another process with the same limit.
fn elsewhere(world: &World, limit: SessionLimit) -> World {
    let sessions = Sessions::new(Arc::clone(&world.store)).with_clock(Arc::clone(&world.clock));
    World {
        store: Arc::clone(&world.store),
        clock: Arc::clone(&world.clock),
        sessions: Arc::new(sessions.with_session_limit(limit)),
    }
}

/// A page's requests renew its session all at once. While the record of a slower one is still there another
/// device signs in, for which there is room.
#[tokio::test]
async fn a_renewal_that_was_overtaken_takes_no_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        for periodic in [false, true] {
            let limit = limit(2, at_limit);
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
            let other = elsewhere(&world, limit);
            let (tell, heard) = async_channel::bounded(1);
            world.store.before(Verb::Commit, move || async move {
                let id = told(left.finish().await.unwrap());
                let login = other.anonymous().await;
                login.authenticate("ada").unwrap();
                tell.send((id, told(login.finish().await.unwrap()))).await.unwrap();
            });
            let _ = right.finish().await.unwrap();
            let (id, other) = heard.try_recv().unwrap();
            assert!(world.opens(&id).await, "{at_limit:?}, periodic: {periodic}");
            assert!(world.opens(&other).await, "{at_limit:?}, periodic: {periodic}");
        }
    }
}

/// It is not listed, not counted, and its end is not told.
#[tokio::test]
async fn a_renewal_that_was_overtaken_is_no_session_to_a_list_or_an_end() {
    for what in ["list", "end of all", "end of the others"] {
        let events = Events::with_capacity(100).unwrap();
        let world = World::with(|sessions| sessions.with_events(&events));
        let id = world.user("ada").await;
        let (left, right) = (world.open(&id).await, world.open(&id).await);
        left.renew().unwrap();
        right.renew().unwrap();
        let (tell, heard) = async_channel::bounded(1);
        world.store.before(Verb::Commit, move || async move {
            let _ = left.finish().await.unwrap();
            while events.try_next().is_some() {}
            let sessions = Arc::clone(left.sessions());
            let count = match what {
                "list" => sessions.of("ada").await.unwrap().len(),
                "end of all" => sessions.end_all("ada").await.unwrap(),
                _ => sessions.end_others(&left).await.unwrap(),
            };
            let events = std::iter::from_fn(|| events.try_next());
            let revoked = events.filter(|event| matches!(event, Event::Revoked { .. })).count();
            tell.send((count, revoked)).await.unwrap();
        });
        let _ = right.finish().await;
        let expected = match what {
            "list" => (1, 0),
            "end of all" => (1, 1),
            _ => (0, 0),
        };
        assert_eq!(heard.try_recv().unwrap(), expected, "{what}");
    }
}

/// A login broke off after its record was stored, and was repeated with success: what is left takes no place.
#[tokio::test]
async fn a_login_that_broke_off_takes_no_place_once_another_succeeded() {
    let world = World::with(|sessions| sessions.with_session_limit(limit(2, AtLimit::Reject)));
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.store.fail_nth(1, Verb::Commit, Fault::UNSENT);
    world.store.fail_nth(2, Verb::Commit, Fault::UNSENT);
    assert!(session.finish().await.is_err());
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.sessions.of("ada").await.unwrap().len(), 1);

    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let other = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await && world.opens(&other).await);
    assert_eq!(world.sessions.of("ada").await.unwrap().len(), 2);
}

/// A login at a full limit ends the records of slower moves of the same session; a renewal that was about to
/// be merged into its own goes on with the session.
#[tokio::test]
async fn a_renewal_whose_record_a_faster_login_ended_is_merged_into_the_session() {
    for max in [1, 2] {
        let changed = merged_beside_a_login(max).await;
        assert!(changed.is_ok(), "with room for {max}: {changed:?}");
    }
}

async fn merged_beside_a_login(max: usize) -> Result<CookieChange, SessionError> {
    let limit = limit(max, AtLimit::Reject);
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let id = world.user("ada").await;
    let (renews, writes) = (world.open(&id).await, world.open(&id).await);
    let other = elsewhere(&world, limit);
    renews.renew().unwrap();
    renews.set(NOTE, &"kept".to_owned()).unwrap();
    writes.set(VISITS, &5).unwrap();
    // The first commit is the renewal's tombstone; the third merges the write that came before it.
    world.store.before(Verb::Commit, move || async move { writes.commit().await.unwrap() });
    let (tell, heard) = async_channel::bounded(1);
    world.store.before_nth(3, Verb::Commit, move || async move {
        let session = other.open(&id).await;
        session.authenticate("ada").unwrap();
        tell.send(told(session.finish().await.unwrap())).await.unwrap();
    });
    let changed = renews.finish().await?;
    let session = world.open(&heard.try_recv().unwrap()).await;
    assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (Some(5), Some("kept")));
    Ok(changed)
}
