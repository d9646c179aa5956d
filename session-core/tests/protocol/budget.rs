//! I12: the store commands of each kind of request.
//!
//! `CreateEntered` is two commands in one round trip. A store may answer before `Leave` completes.

use futures_util::FutureExt as _;
use session_core::{AtLimit, CookieChange, SessionLimit, StoreErrorKind};

use crate::support::{MILLISECOND, MOVES, VISITS, Verb, World};

/// Returns the number of commands in some calls.
fn commands(calls: &[Verb]) -> usize {
    calls.iter().map(|verb| if *verb == Verb::CreateEntered { 2 } else { 1 }).sum()
}

/// Returns the number of round trips for which a request waits.
fn round_trips(calls: &[Verb]) -> usize {
    calls.iter().filter(|verb| **verb != Verb::Leave).count()
}

#[tokio::test]
async fn anonymous_read_costs_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    assert_eq!(session.get(VISITS), None);
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn first_write_costs_one_command() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Create]);
}

#[tokio::test]
async fn read_costs_one_command() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    for _ in 0..10 {
        assert_eq!(session.get(VISITS), Some(1));
    }
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);
}

#[tokio::test]
async fn write_costs_two_commands() {
    for owner in [None, Some("ada")] {
        let world = World::new();
        let id = match owner {
            Some(owner) => world.user(owner).await,
            None => world.visitor().await,
        };
        let session = world.open(&id).await;
        for _ in 0..10 {
            session.update(VISITS, |visits| *visits += 1).unwrap();
        }
        let _ = session.finish().await.unwrap();
        assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    }
}

#[tokio::test]
async fn visitors_login_costs_three_commands_after_the_load() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    session.authenticate("ada").unwrap();
    let _ = session.finish().await.unwrap();
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Load, Verb::CreateEntered, Verb::Commit]);
    assert_eq!((commands(&calls[1..]), round_trips(&calls[1..])), (3, 2));
}

#[tokio::test]
async fn new_id_of_a_user_costs_four_commands_after_the_load() {
    for change in MOVES {
        // The session keeps its place in a limit.
        for world in [World::new(), World::limited(1, AtLimit::EvictOldest)] {
            let id = world.user("ada").await;
            let session = world.open(&id).await;
            change(&session).unwrap();
            world.store.calls();
            let _ = session.finish().await.unwrap();
            let calls = world.store.calls();
            assert_eq!(calls, [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
            assert_eq!((commands(&calls), round_trips(&calls)), (4, 2));
        }
    }
}

#[tokio::test]
async fn logout_costs_three_commands() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Load, Verb::Delete, Verb::Leave]);
    assert_eq!((commands(&calls), round_trips(&calls)), (3, 2));
}

/// Once per renewal, a request records the presentation, and so starts the grace of the former ID.
/// Later requests cost one load again.
#[tokio::test]
async fn first_request_with_a_renewed_id_costs_one_command_more() {
    let world = World::new();
    let id = world.user("ada").await;
    let renewed = world.renew(&id).await;
    world.store.calls();
    for expected in [vec![Verb::Load, Verb::Commit], vec![Verb::Load]] {
        assert!(matches!(world.read(&renewed).await, CookieChange::Keep));
        assert_eq!(world.store.calls(), expected);
    }
}

/// A former ID costs two more loads: of its tombstone, and of the present ID before the response
/// sends it.
#[tokio::test]
async fn former_id_of_a_renewal_costs_three_loads() {
    let world = World::new();
    let id = world.visitor().await;
    world.renew(&id).await;
    world.store.calls();
    assert!(matches!(world.open(&id).await.finish().await.unwrap(), CookieChange::Set { .. }));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Load, Verb::Load]);
}

/// The login costs two round trips more than other logins, as documented at `with_session_limit`.
#[tokio::test]
async fn limited_login_costs_two_round_trips_more() {
    let limit = SessionLimit::new(3, AtLimit::EvictOldest).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let _ = world.user("ada").await;
    world.wait(MILLISECOND);
    for id in [None, Some(world.visitor().await)] {
        let session = match &id {
            Some(id) => world.open(id).await,
            None => world.anonymous().await,
        };
        session.authenticate("ada").unwrap();
        world.store.calls();
        let _ = session.finish().await.unwrap();
        let mut expected = vec![Verb::CreateEntered, Verb::Entries, Verb::LoadMany];
        expected.extend(id.map(|_| Verb::Commit));
        assert_eq!(world.store.calls(), expected);
    }
}

/// Only a login with an eviction loads its own session again, and revokes the other session.
#[tokio::test]
async fn evicting_login_costs_a_revocation_more() {
    let limit = SessionLimit::new(1, AtLimit::EvictOldest).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let _ = world.user("ada").await;
    world.wait(MILLISECOND);
    let session = world.open(&world.visitor().await).await;
    session.authenticate("ada").unwrap();
    world.store.calls();
    let _ = session.finish().await.unwrap();
    assert_eq!(
        world.store.calls(),
        [
            Verb::CreateEntered,
            Verb::Entries,
            Verb::LoadMany,
            Verb::Load,
            Verb::DeleteOrBlock,
            Verb::Leave,
            Verb::Commit,
        ]
    );
}

#[tokio::test]
async fn list_costs_the_index_and_the_sessions() {
    let world = World::new();
    let _ = (world.user("ada").await, world.user("ada").await);
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 2);
    assert_eq!(world.store.calls(), [Verb::Entries, Verb::LoadMany]);
    assert_eq!(world.sessions.list("nobody").await.unwrap().len(), 0);
    assert_eq!(world.store.calls(), [Verb::Entries]);
}

#[tokio::test]
async fn revocation_costs_the_index_and_the_sessions() {
    let world = World::new();
    let ids = [world.user("ada").await, world.user("ada").await, world.user("ada").await];
    assert!(world.sessions.revoke("ada", ids[0].key()).await.unwrap());
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Entries, Verb::Entries, Verb::DeleteOrBlock, Verb::Leave]);
    let session = world.open(&ids[1]).await;
    world.store.calls();
    assert_eq!(world.sessions.revoke_others(&session).await.unwrap(), 1);
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Load, Verb::Entries, Verb::DeleteOrBlock, Verb::Leave]);
    assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
    assert_eq!(world.store.calls(), [Verb::Entries, Verb::DeleteOrBlock, Verb::Leave]);
}

#[tokio::test]
async fn ping_is_one_call_and_fails_in_an_outage() {
    let world = World::new();
    world.sessions.ping().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Ping]);
    world.store.set_outage(Some(StoreErrorKind::Timeout));
    assert_eq!(world.sessions.ping().await.unwrap_err().kind(), StoreErrorKind::Timeout);
}

/// A connection that waits loads its session after three quarters of the interval, or up to a quarter
/// later. An update is a load and a commit.
#[tokio::test]
async fn live_connection_costs_4_loads_in_3_intervals() {
    let world = World::new();
    let mut live = world.open(&world.user("ada").await).await.live().await.unwrap();
    world.store.calls();
    for _ in 0..30 * 100 {
        assert!(live.ended().now_or_never().is_none());
        world.wait(world.sessions.live_interval() / 100);
    }
    let loads = world.store.calls();
    assert!((29..=40).contains(&loads.len()), "in 30 intervals: {}", loads.len());
    assert!(loads.iter().all(|verb| *verb == Verb::Load));
    live.update(VISITS, |visits| *visits += 1).await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
}
