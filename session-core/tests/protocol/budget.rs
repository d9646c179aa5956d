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
async fn a_login_costs_three() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    session.authenticate("ada").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Create, Verb::Commit]);
}

#[tokio::test]
async fn a_logout_costs_two() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Delete]);
}
