//! I7: a cookie that a login has replaced begins no session in place of the login.

use session_core::{CookieChange, SessionError, StoreErrorKind};

use crate::support::{Fault, MILLISECOND, NOTE, SECOND, Verb, World, told};

/// The browser may have sent the request before the response of the login arrived. A new session
/// would replace the session to which the user has just signed in.
#[tokio::test]
async fn former_cookie_of_a_recent_login_makes_no_session_of_its_own() {
    for at in [SECOND, 30 * SECOND - MILLISECOND] {
        let world = World::new();
        let id = world.visitor().await;
        world.login(&id, "ada").await;
        world.wait(at);
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        assert!(!session.had_unknown_id());
        assert!(matches!(session.try_finish(), Some(CookieChange::Keep)));

        let session = world.open(&id).await;
        session.set(NOTE, "late").unwrap();
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.count().await.0, 1);

        // A login is an act of the user, and joins the session of the first login.
        let _ = world.login(&id, "ada").await;
        assert_eq!(world.count().await.0, 1);
    }
}

/// The response of a login was lost. If a browser still sends the old cookie half a minute later,
/// it can use the application, and can sign in.
#[tokio::test]
async fn lost_response_of_a_login_does_not_fail_later_requests() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    world.wait(30 * SECOND);
    let session = world.open(&id).await;
    assert!(session.had_unknown_id());
    session.set(NOTE, "another session").unwrap();
    let fresh = told(session.finish().await.unwrap());
    assert!(fresh.key() != id.key() && fresh.key() != new.key());

    // Until the tombstone expires, a login under the old cookie joins the session of the first
    // login.
    world.wait(269 * SECOND);
    assert_eq!(world.login(&id, "ada").await.key(), new.key());
    world.wait(SECOND);
    assert_ne!(world.login(&id, "ada").await.key(), new.key());
}

#[tokio::test]
async fn live_cookie_opens_beside_a_former_one() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    let cookies = [id.expose().as_bytes(), new.expose().as_bytes()];
    let session = world.sessions.open(cookies).await.unwrap();
    assert_eq!(session.key(), Some(new.key()));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

/// After a request destroys a superseded session, it may begin a new session.
#[tokio::test]
async fn superseded_cookie_allows_a_new_session_after_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    world.login(&id, "ada").await;
    let late = world.try_change(&id, |session| session.set(NOTE, "refused")).await;
    assert!(matches!(late, Err(SessionError::Ended)));
    let late = world.open(&id).await;
    late.destroy().unwrap();
    late.set(NOTE, "fresh").unwrap();
    let fresh = told(late.finish().await.unwrap());
    assert_eq!(world.open(&fresh).await.names(), ["note"]);
}

/// I7: a new session would replace the session of the login, in any order of the browser's cookies.
#[tokio::test]
async fn superseded_cookie_counts_more_than_an_unreadable_one() {
    let world = World::new();
    let (id, unreadable) = (world.visitor().await, world.visitor().await);
    world.login(&id, "ada").await;
    for (nth, cookies) in [[&unreadable, &id], [&id, &unreadable]].into_iter().enumerate() {
        world.store.fail_nth(nth + 1, Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let cookies = cookies.map(|id| id.expose().as_bytes());
        let session = world.sessions.open(cookies).await.unwrap();
        session.set(NOTE, "late").unwrap();
        assert!(matches!(session.finish().await, Err(SessionError::Ended)), "{nth}");
        assert!(matches!(session.pending_cookie(), CookieChange::Keep), "{nth}");
    }
}
