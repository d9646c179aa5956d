//! Visitors may live shorter than users.

use std::time::Duration;

use session_core::{Lifetime, Sessions};

use crate::support::{VISITS, World, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn short() -> Lifetime {
    Lifetime::new(10 * MINUTE, 30 * MINUTE).unwrap()
}

fn world() -> World {
    World::with(|sessions| sessions.with_anonymous_lifetime(short()))
}

#[tokio::test]
async fn a_visitor_has_the_anonymous_lifetime() {
    let world = world();
    assert_eq!(world.anonymous().await.lifetime(), short());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(session.lifetime(), short());
    assert_eq!(session.expires_at(), Some(world.sessions_now() + 10 * MINUTE));
    world.wait(10 * MINUTE - MILLISECOND);
    assert!(world.opens(&id).await);
    world.wait(MILLISECOND);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn without_one_there_is_no_difference() {
    let sessions = Sessions::new(crate::support::Probe::default());
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::aal2());
    let sessions = sessions.with_lifetime(Lifetime::aal3());
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::aal3());
}

#[tokio::test]
async fn a_login_gives_the_owned_lifetime_which_begins_with_it() {
    let world = world();
    let id = world.visitor().await;
    world.wait(9 * MINUTE);
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert_eq!(session.lifetime(), Lifetime::aal2(), "at once");
    let new = told(session.finish().await.unwrap());
    let login = world.sessions_now();
    let session = world.open(&new).await;
    assert_eq!(session.lifetime(), Lifetime::aal2());
    assert_eq!(session.created_at(), Some(login));
    assert_eq!(session.expires_at(), Some(login + HOUR));
    // The absolute deadline counts from the login, not from the visit.
    for _ in 0..47 {
        world.wait(30 * MINUTE);
        let session = world.open(&new).await;
        assert!(session.key().is_some());
        let _ = session.finish().await.unwrap();
    }
    world.wait(30 * MINUTE - MILLISECOND);
    assert!(world.opens(&new).await);
    world.wait(MILLISECOND);
    assert!(!world.opens(&new).await);
}

#[tokio::test]
async fn a_login_without_a_session_before_has_the_owned_lifetime() {
    let world = world();
    let id = world.user("ada").await;
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::aal2());
}

#[tokio::test]
async fn a_lifetime_that_was_set_stays_through_the_login() {
    for (same_request, lifetime) in
        [(false, Lifetime::aal1()), (true, Lifetime::aal1()), (false, short()), (true, short())]
    {
        let world = world();
        let id = world.visitor().await;
        let mut session = world.open(&id).await;
        session.set_lifetime(lifetime).unwrap();
        if !same_request {
            let _ = session.finish().await.unwrap();
            session = world.open(&id).await;
        }
        session.authenticate("ada").unwrap();
        let new = told(session.finish().await.unwrap());
        assert_eq!(world.open(&new).await.lifetime(), lifetime, "{same_request}");
    }
}

#[tokio::test]
async fn a_second_login_changes_no_lifetime() {
    let world = world();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.lifetime(), Lifetime::aal1());
}

/// The record says itself that its lifetime is a visitor's: another deployment's settings do not
/// matter.
#[tokio::test]
async fn a_login_after_a_deployment_that_changed_the_lifetimes_still_gives_the_owned_one() {
    let world = world();
    let id = world.visitor().await;
    let deployed = world.other_process();
    let session = deployed.open(&id).await;
    assert_eq!(session.lifetime(), short());
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(deployed.open(&new).await.lifetime(), Lifetime::aal2());
}

#[tokio::test]
async fn a_login_that_merges_with_a_lifetime_set_meanwhile_keeps_that() {
    let world = world();
    let id = world.visitor().await;
    let (login, other) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    other.set_lifetime(Lifetime::aal3()).unwrap();
    other.set(VISITS, &2).unwrap();
    let _ = other.finish().await.unwrap();
    let new = told(login.finish().await.unwrap());
    let session = world.open(&new).await;
    assert_eq!((session.lifetime(), session.get(VISITS)), (Lifetime::aal3(), Some(2)));
}
