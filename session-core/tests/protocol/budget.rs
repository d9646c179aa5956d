//! I12: the commands of each kind of request.

use session_core::CookieChange;

use crate::support::{VISITS, Verb, World};

#[tokio::test]
async fn an_anonymous_read_costs_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    assert_eq!(session.get(VISITS), None);
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn a_first_write_costs_one() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Create]);
}

#[tokio::test]
async fn a_read_costs_one() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    for _ in 0..10 {
        assert_eq!(session.get(VISITS), Some(1));
    }
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);
}

#[tokio::test]
async fn a_write_costs_two() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    for _ in 0..10 {
        session.update(VISITS, |visits| *visits += 1).unwrap();
    }
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
}

#[tokio::test]
async fn a_login_costs_three_commands_in_two_round_trips() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    session.authenticate("ada").unwrap();
    let _ = session.finish().await.unwrap();
    // The second is two commands in one round trip.
    assert_eq!(world.store.calls(), [Verb::Load, Verb::CreateEntered, Verb::Commit]);
}

#[tokio::test]
async fn a_logout_costs_three_one_of_them_not_waited_for() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Delete, Verb::Leave]);
}

#[tokio::test]
async fn a_login_or_renewal_of_an_owners_session_costs_four_in_two_round_trips() {
    for login in [true, false] {
        let world = World::new();
        let id = world.user("ada").await;
        let session = world.open(&id).await;
        if login {
            session.authenticate("ada").unwrap()
        } else {
            session.renew().unwrap()
        }
        world.store.calls();
        let _ = session.finish().await.unwrap();
        // The first is two commands in one round trip, the last is not waited for.
        assert_eq!(world.store.calls(), [Verb::CreateEntered, Verb::Commit, Verb::Leave]);
    }
}

#[tokio::test]
async fn a_list_costs_the_index_and_the_sessions() {
    let world = World::new();
    let _ = (world.user("ada").await, world.user("ada").await);
    assert_eq!(world.sessions.of("ada").await.unwrap().len(), 2);
    assert_eq!(world.store.calls(), [Verb::Entries, Verb::LoadMany]);
    assert_eq!(world.sessions.of("nobody").await.unwrap().len(), 0);
    assert_eq!(world.store.calls(), [Verb::Entries]);
}

#[tokio::test]
async fn ending_costs_the_index_and_the_sessions_and_what_is_not_waited_for() {
    let world = World::new();
    let ids = [world.user("ada").await, world.user("ada").await, world.user("ada").await];
    assert!(world.sessions.end_one("ada", ids[0].key()).await.unwrap());
    assert_eq!(world.store.calls(), [Verb::LoadMany, Verb::EndMany, Verb::Leave]);
    let session = world.open(&ids[1]).await;
    world.store.calls();
    assert_eq!(world.sessions.end_others(&session).await.unwrap(), 1);
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Entries, Verb::LoadMany, Verb::Load, Verb::EndMany, Verb::Leave]);
    assert_eq!(world.sessions.end_all("ada").await.unwrap(), 1);
    let calls = world.store.calls();
    assert_eq!(calls, [Verb::Entries, Verb::LoadMany, Verb::EndMany, Verb::Leave]);
}
