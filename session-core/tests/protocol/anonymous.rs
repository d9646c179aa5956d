//! A visitor's session has the lifetime of visitors until its login.

use session_core::{Lifetime, Sessions};

use crate::support::{HOUR, MILLISECOND, MINUTE, VISITS, World, probe, told};

fn short() -> Lifetime {
    Lifetime::new(10 * MINUTE, 30 * MINUTE).unwrap()
}

fn world() -> World {
    World::with(|sessions| sessions.with_anonymous_lifetime(short()))
}

#[tokio::test]
async fn visitor_has_the_anonymous_lifetime() {
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
async fn visitor_has_the_default_lifetime_without_another() {
    let sessions = Sessions::new(probe());
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::standard());
    let sessions = Sessions::builder(probe()).with_lifetime(Lifetime::strict()).build().unwrap();
    assert_eq!(sessions.anonymous_lifetime(), Lifetime::strict());
}

#[tokio::test]
async fn login_begins_the_users_lifetime() {
    let world = world();
    let id = world.visitor().await;
    world.wait(9 * MINUTE);
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    assert_eq!(session.lifetime(), Lifetime::standard(), "before the commit too");
    let new = told(session.finish().await.unwrap());
    let login = world.sessions_now();
    let session = world.open(&new).await;
    assert_eq!(session.lifetime(), Lifetime::standard());
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
async fn login_without_a_visit_has_the_users_lifetime() {
    let world = world();
    let id = world.user("ada").await;
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::standard());
}

/// "remember me" belongs to the login whose request set it.
#[tokio::test]
async fn lifetime_set_by_the_login_request_counts() {
    for lifetime in [Lifetime::remember_me(), short()] {
        for sets_first in [true, false] {
            let world = world();
            let id = world.visitor().await;
            let session = world.open(&id).await;
            if sets_first {
                session.set_lifetime(lifetime).unwrap();
            }
            session.authenticate("ada").unwrap();
            if !sets_first {
                session.set_lifetime(lifetime).unwrap();
            }
            assert_eq!(session.lifetime(), lifetime);
            let new = told(session.finish().await.unwrap());
            assert_eq!(world.open(&new).await.lifetime(), lifetime, "{sets_first}");
        }
    }
}

/// The lifetime of an earlier request never goes to the next login, by the same user or
/// another.
#[tokio::test]
async fn lifetime_set_before_the_login_request_is_reset() {
    for owner in [None, Some("ada"), Some("bob")] {
        let world = world();
        let id = match owner {
            Some(owner) => world.user(owner).await,
            None => world.visitor().await,
        };
        world.change(&id, |session| session.set_lifetime(Lifetime::remember_me())).await;
        let new = world.login(&id, "ada").await;
        assert_eq!(world.open(&new).await.lifetime(), Lifetime::standard(), "{owner:?}");
    }
}

#[tokio::test]
async fn second_login_in_a_request_keeps_the_chosen_lifetime() {
    let world = world();
    let session = world.open(&world.user("ada").await).await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    session.authenticate("ada").unwrap();
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.lifetime(), Lifetime::remember_me());
}

/// The lifetime of a login comes from the settings of the deployment that signs the user in.
#[tokio::test]
async fn login_after_a_deployment_has_the_users_lifetime() {
    let world = world();
    let id = world.visitor().await;
    let deployed = world.other_process();
    let session = deployed.open(&id).await;
    assert_eq!(session.lifetime(), short());
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_eq!(deployed.open(&new).await.lifetime(), Lifetime::standard());
}

/// The login is replayed on the other request's commit. The login keeps the values of that commit,
/// but not its lifetime.
#[tokio::test]
async fn login_resets_a_lifetime_that_was_set_meanwhile() {
    let world = world();
    let id = world.visitor().await;
    let (login, other) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    other.set_lifetime(Lifetime::remember_me()).unwrap();
    other.set(VISITS, 2).unwrap();
    let _ = other.finish().await.unwrap();
    let new = told(login.finish().await.unwrap());
    let session = world.open(&new).await;
    assert_eq!((session.lifetime(), session.get(VISITS)), (Lifetime::standard(), Some(2)));
}
