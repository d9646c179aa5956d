//! `reauthenticate`: the owner proves the identity again, within the same login.

use futures_util::FutureExt as _;
use session_core::{EndReason, EventKind, SessionError};

use crate::support::{
    HOUR, MINUTE, MOVES, NOTE, SECOND, VISITS, Verb, World, kinds, sign_in, told,
};

const AGE: std::time::Duration = MINUTE;

#[tokio::test]
async fn reauthentication_makes_an_old_login_fresh() {
    let world = World::new();
    let id = world.user("ada").await;
    world.wait(30 * MINUTE);
    let session = world.open(&id).await;
    assert!(matches!(session.require_fresh(AGE), Err(SessionError::NotFresh)));
    session.reauthenticate("ada").unwrap();
    session.require_fresh(AGE).unwrap();
    let new = told(session.finish().await.unwrap());
    world.open(&new).await.require_fresh(AGE).unwrap();
    world.wait(AGE + SECOND);
    assert!(world.open(&new).await.require_fresh(AGE).is_err());
}

/// F24: the absolute deadline, the lifetime and the end belong to the login.
#[tokio::test]
async fn reauthentication_keeps_deadlines_and_values() {
    let world = World::new();
    let lifetime = session_core::Lifetime::remember_me();
    let id = world
        .begin(|session| {
            session.set(NOTE, "kept")?;
            sign_in(session)?;
            session.set_lifetime(lifetime)?;
            session.end_by(world.sessions_now() + 2 * HOUR)
        })
        .await;
    let before = world.open(&id).await;
    world.wait(HOUR);
    let new = world.moved(&id, |session| session.reauthenticate("ada")).await;
    let after = world.open(&new).await;
    assert_eq!(after.created_at(), before.created_at());
    assert_eq!(after.expires_at(), before.expires_at(), "the end of the login");
    assert_eq!(after.lifetime(), lifetime);
    assert_eq!(after.get(NOTE).as_deref(), Some("kept"));
    assert_eq!(after.owner_as::<String>().as_deref(), Some("ada"));
    assert_eq!(world.entered("ada").await, [new.key()]);
    world.wait(HOUR);
    assert!(!world.opens(&new).await);
}

#[tokio::test]
async fn reauthentications_never_exceed_the_absolute_lifetime() {
    let world = World::with_lifetime(session_core::Lifetime::aal2());
    let mut id = world.user("ada").await;
    for _ in 0..24 {
        assert!(world.opens(&id).await);
        world.wait(59 * MINUTE);
        id = world.moved(&id, |session| session.reauthenticate("ada")).await;
    }
    world.wait(24 * MINUTE);
    assert!(!world.opens(&id).await, "24 hours after the login");
}

/// OWASP ASVS 5.0, 7.2.4: a stolen ID must not become fresh with the owner's password.
#[tokio::test]
async fn reauthentication_closes_the_old_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut events = world.sessions.events();
    let new = world.moved(&id, |session| session.reauthenticate("ada")).await;
    assert!(!world.opens(&id).await);
    assert!(world.opens(&new).await);
    assert_eq!(kinds(&mut events), [EventKind::Reauthenticated]);
}

#[tokio::test]
async fn reauthentication_of_another_user_is_refused() {
    let world = World::new();
    let user = world.user("ada").await;
    for (id, owner) in [(&user, "bob"), (&user, ""), (&world.visitor().await, "ada")] {
        let session = world.open(id).await;
        assert!(matches!(session.reauthenticate(owner), Err(SessionError::NotFresh)));
        assert!(session.require_fresh(AGE).is_ok() == (id.key() == user.key()));
        assert!(matches!(session.finish().await, Ok(session_core::CookieChange::Keep)));
    }
    let session = world.open(&user).await;
    session.destroy().unwrap();
    assert!(matches!(session.reauthenticate("ada"), Err(SessionError::NotFresh)));
}

/// The password of one user must not confirm the login of another in the same browser.
#[tokio::test]
async fn reauthentication_beside_a_login_of_another_user_fails() {
    let world = World::new();
    let id = world.user("ada").await;
    let late = world.open(&id).await;
    late.reauthenticate("ada").unwrap();
    world.wait(10 * MINUTE);
    let bob = world.login(&id, "bob").await;
    world.wait(MINUTE + SECOND);
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert!(world.open(&bob).await.require_fresh(AGE).is_err());
}

/// S0: a request that a thief holds open while the owner proves the identity.
#[tokio::test]
async fn overtaken_request_never_becomes_fresh() {
    for write in [false, true] {
        let world = World::new();
        let id = world.user("ada").await;
        world.wait(30 * MINUTE);
        let thief = world.open(&id).await;
        let new = world.moved(&id, |session| session.reauthenticate("ada")).await;
        if write {
            thief.set(NOTE, "of the thief").unwrap();
            thief.commit().await.unwrap();
        }
        assert!(matches!(thief.require_fresh(AGE), Err(SessionError::NotFresh)));
        let cookie = thief.finish().await.unwrap();
        assert!(matches!(cookie, session_core::CookieChange::Keep), "{cookie:?}");
        assert!(!world.opens(&id).await);
        world.open(&new).await.require_fresh(AGE).unwrap();
    }
}

/// A held request that moves the session itself fails, and so learns no ID.
#[tokio::test]
async fn of_two_moves_the_later_one_fails() {
    let reauthenticate: fn(&session_core::Session) -> Result<(), SessionError> =
        |session| session.reauthenticate("ada");
    for (first, second) in [
        (reauthenticate, reauthenticate),
        (reauthenticate, MOVES[0]),
        (reauthenticate, MOVES[1]),
        (MOVES[0], reauthenticate),
        (MOVES[1], reauthenticate),
    ] {
        let world = World::new();
        let id = world.user("ada").await;
        let late = world.open(&id).await;
        second(&late).unwrap();
        let new = world.moved(&id, first).await;
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert!(world.opens(&new).await);
        assert_eq!(world.count().await.0, 1);
    }
}

#[tokio::test]
async fn reauthentication_is_replayed_beside_a_write_and_a_renewal() {
    for renews in [false, true] {
        let world = World::new();
        let id = world.user("ada").await;
        world.wait(30 * MINUTE);
        let session = world.open(&id).await;
        session.reauthenticate("ada").unwrap();
        let other = world.open(&id).await;
        other.set(VISITS, 7).unwrap();
        if renews {
            other.renew().unwrap();
        }
        world.store.before(Verb::Commit, move || async move { other.commit().await.unwrap() });
        let new = told(session.finish().await.unwrap());
        let session = world.open(&new).await;
        session.require_fresh(AGE).unwrap();
        assert_eq!(session.get(VISITS), Some(7), "renewal: {renews}");
    }
}

#[tokio::test]
async fn discarded_reauthentication_is_not_fresh() {
    let world = World::new();
    let id = world.user("ada").await;
    world.wait(30 * MINUTE);
    let session = world.open(&id).await;
    session.reauthenticate("ada").unwrap();
    session.discard();
    assert!(session.require_fresh(AGE).is_err());
    let _ = session.finish().await.unwrap();
    assert!(world.open(&id).await.require_fresh(AGE).is_err());
}

#[tokio::test]
async fn connection_from_before_goes_on_unless_carry_over_is_off() {
    for (carries_over, end) in [(true, None), (false, Some(EndReason::Replaced))] {
        let world = World::with(|sessions| sessions.with_carry_over(carries_over));
        let id = world.user("ada").await;
        let mut live = world.open(&id).await.live().await.unwrap();
        let new = world.moved(&id, |session| session.reauthenticate("ada")).await;
        assert_eq!(live.ended().now_or_never(), end, "{carries_over}");
        let updated = live.update(VISITS, |visits| *visits += 1).await;
        assert_eq!(updated.is_ok(), carries_over);
        assert_eq!(world.open(&new).await.get(VISITS).unwrap_or_default() > 1, carries_over);
        world.sessions.revoke_all("ada").await.unwrap();
        world.wait(5 * SECOND);
        assert!(live.ended().now_or_never().is_some(), "a revocation closes it");
    }
}
