//! I4: the second click on "sign in" joins the session of the first, and no other login does.

use session_core::{CookieChange, Lifetime, Session, SessionError};

use crate::support::{NOTE, VISITS, World, told};

/// The second click of a double click opens its session after the first click has signed in.
#[tokio::test]
async fn login_under_a_visitors_former_id_joins_the_same_user() {
    for renewed in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let mut new = world.login(&id, "ada").await;
        if renewed {
            new = world.renew(&new).await;
        }
        let session = world.open(&id).await;
        session.set(NOTE, "second").unwrap();
        session.authenticate("ada").unwrap();
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        assert_eq!(session.get(VISITS), Some(1));
        let after = world.open(&new).await;
        assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(1), Some("second")));
        assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);
    }
}

/// The request records the removals while its own session is empty.
#[tokio::test]
async fn late_login_removes_the_values_removed_before_it() {
    type Removal = fn(&Session) -> Result<(), SessionError>;
    let removals: [Removal; 2] = [|session| session.remove(VISITS), Session::clear];
    for commits_before_login in [true, false] {
        for removal in removals {
            let world = World::new();
            let id = world.visitor().await;
            let new = world.login(&id, "ada").await;
            let session = world.open(&id).await;
            removal(&session).unwrap();
            if commits_before_login {
                session.commit().await.unwrap();
            }
            session.authenticate("ada").unwrap();
            assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
            assert_eq!(world.open(&new).await.get(VISITS), None);
        }
    }
}

/// A removal without an effect on the stored session keeps a later commit of another request.
#[tokio::test]
async fn late_login_repeats_no_removal_that_was_committed() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    let late = world.open(&id).await;
    late.authenticate("ada").unwrap();
    late.commit().await.unwrap();
    late.remove(NOTE).unwrap();
    late.commit().await.unwrap();
    let other = world.open(&new).await;
    other.set(NOTE, "other").unwrap();
    let _ = other.finish().await.unwrap();
    late.set(VISITS, 2).unwrap();
    let _ = late.finish().await.unwrap();
    let session = world.open(&new).await;
    assert_eq!((session.get(NOTE).as_deref(), session.get(VISITS)), (Some("other"), Some(2)));
}

/// The second click of a double click has stored a value before its login.
#[tokio::test]
async fn login_after_an_overtaken_commit_joins_the_first() {
    let world = World::new();
    let id = world.visitor().await;
    let second = world.open(&id).await;
    second.set(NOTE, "second").unwrap();
    let new = world.login(&id, "ada").await;
    second.commit().await.unwrap();
    assert!(matches!(second.pending_cookie(), CookieChange::Keep));
    second.set_lifetime(Lifetime::remember_me()).unwrap();
    second.commit().await.unwrap();
    assert!(matches!(second.pending_cookie(), CookieChange::Keep));
    second.authenticate("ada").unwrap();
    assert_eq!(told(second.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(NOTE).as_deref(), Some("second"));
}

/// Of several logins in one request, the last counts. The earlier logins remove no value of the
/// joined session.
#[tokio::test]
async fn joining_request_that_signed_in_twice_clears_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let second = world.open(&id).await;
    let new = world.login(&id, "ada").await;
    second.authenticate("grace").unwrap();
    second.authenticate("ada").unwrap();
    assert_eq!(told(second.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(VISITS), Some(1));
}

/// Only the same user under a visitor's former ID joins the session: a user's former ID may be
/// stolen.
#[tokio::test]
async fn login_under_any_other_former_id_begins_anew() {
    for (former_owner, owner) in [(None, "eve"), (Some("ada"), "ada"), (Some("ada"), "eve")] {
        let world = World::new();
        let id = match former_owner {
            Some(owner) => world.user(owner).await,
            None => world.visitor().await,
        };
        let new = world.login(&id, "ada").await;
        let own = world.login(&id, owner).await;
        assert_ne!(own.key(), new.key());
        let session = world.open(&own).await;
        assert_eq!((session.owner(), session.get(VISITS)), (Some(owner.into()), None));
        assert_eq!(world.open(&new).await.owner(), Some("ada".into()));
    }
}

#[tokio::test]
async fn login_under_a_former_id_begins_anew_after_a_logout() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    world.log_out(&new).await;
    let own = world.login(&id, "ada").await;
    let session = world.open(&own).await;
    assert_eq!((session.owner(), session.get(VISITS)), (Some("ada".into()), None));
    assert!(!world.opens(&new).await);
}

#[tokio::test]
async fn login_after_a_destroy_joins_no_session() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.authenticate("ada").unwrap();
    let own = told(session.finish().await.unwrap());
    assert_ne!(own.key(), new.key());
    assert_eq!(world.open(&own).await.get(VISITS), None);
}
