//! I7: a response changes the cookie only for its own session.

use std::time::Duration;

use session_core::{
    CookieChange, IdGenerator as _, Lifetime, OsRandom, Session, SessionError, SessionId,
    StoreErrorKind,
};

use crate::support::{DAY, Fault, HOUR, MINUTE, NOTE, VISITS, Verb, World, told};

/// The browser's cookie.
#[derive(Clone)]
struct Jar(Option<SessionId>);

impl Jar {
    fn receive(&mut self, change: &CookieChange) {
        match change {
            CookieChange::Set { id, .. } => self.0 = Some(id.clone()),
            CookieChange::Remove => self.0 = None,
            CookieChange::Keep => {}
        }
    }

    /// Returns the jar after these responses, in both orders.
    fn after(&self, one: &CookieChange, other: &CookieChange) -> [Self; 2] {
        [[one, other], [other, one]].map(|order| {
            let mut jar = self.clone();
            for change in order {
                jar.receive(change);
            }
            jar
        })
    }
}

fn max_age(change: CookieChange) -> Option<Duration> {
    match change {
        CookieChange::Set { max_age, .. } => max_age,
        other => panic!("the response sets no cookie: {other:?}"),
    }
}

/// Signs in with a cookie, and returns the response.
async fn log_in(world: &World, id: &SessionId) -> CookieChange {
    let session = world.open(id).await;
    session.authenticate("ada").unwrap();
    session.finish().await.unwrap()
}

#[tokio::test]
async fn response_sets_the_cookie_of_a_new_session_only() {
    let world = World::new();
    let session = world.anonymous().await;
    assert!(matches!(session.try_finish(), Some(CookieChange::Keep)));
    let id = world.visitor().await;
    assert!(matches!(world.read(&id).await, CookieChange::Keep));
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn session_committed_early_sets_the_cookie_at_the_end() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.commit().await.unwrap();
    assert!(world.opens(&told(session.try_finish().unwrap())).await);
}

/// By the time the response arrives, the browser may hold a newer cookie.
#[tokio::test]
async fn cookie_that_opens_nothing_stays() {
    let world = World::new();
    let session = world.open(&OsRandom.generate()).await;
    assert!(matches!(session.try_finish(), Some(CookieChange::Keep)));
    let session = world.open(&OsRandom.generate()).await;
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let junk = world.sessions.open([b"junk".as_slice()]).await.unwrap();
    assert!(matches!(junk.finish().await.unwrap(), CookieChange::Keep));
}

/// The state of the cookie's session before the browser signs in.
#[derive(Clone, Copy, Debug)]
enum Before {
    Expired,
    LoggedOut,
    Revoked,
    Unknown,
    /// The session lives, and the login moves it.
    Alive,
    Renewed,
}

impl Before {
    const ALL: [Self; 6] =
        [Self::Expired, Self::LoggedOut, Self::Revoked, Self::Unknown, Self::Alive, Self::Renewed];

    /// Returns the cookie that both tabs send.
    async fn cookie(self, world: &World) -> SessionId {
        let id = world.user("ada").await;
        match self {
            Self::Expired => world.wait(HOUR),
            Self::LoggedOut => {
                world.log_out(&id).await;
            }
            Self::Revoked => assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1),
            Self::Unknown => return OsRandom.generate(),
            Self::Alive => {}
            Self::Renewed => {
                world.renew(&id).await;
            }
        }
        id
    }
}

/// One tab loads a slow page, and the other signs in. The browser is signed in, in any order of
/// requests and of responses.
#[tokio::test]
async fn slow_page_undoes_no_login() {
    for before in Before::ALL {
        for opens_first in [true, false] {
            let world = World::new();
            let old = before.cookie(&world).await;
            let jar = Jar(Some(old.clone()));
            let (slow, login) = if opens_first {
                let slow = world.open(&old).await;
                let login = log_in(&world, &old).await;
                (slow.finish().await.unwrap(), login)
            } else {
                let login = log_in(&world, &old).await;
                (world.open(&old).await.finish().await.unwrap(), login)
            };
            let new = told(login.clone());
            for jar in jar.after(&slow, &login) {
                let id = jar.0.unwrap_or_else(|| panic!("{before:?}: the cookie was removed"));
                assert_eq!(id.key(), new.key(), "{before:?}, {opens_first}");
                assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
            }
        }
    }
}

/// The same holds for a slow request that writes, if the store knows of the browser's newer ID.
#[tokio::test]
async fn slow_write_undoes_no_login() {
    for before in [Before::Alive, Before::Renewed] {
        for opens_first in [true, false] {
            let world = World::new();
            let old = before.cookie(&world).await;
            let slow = world.open(&old).await;
            let login = log_in(&world, &old).await;
            let slow = if opens_first { slow } else { world.open(&old).await };
            slow.set(NOTE, "written").unwrap();
            let change = match slow.finish().await {
                Ok(change) => change,
                // The slow request came after the login: a new session would replace the session of
                // the login.
                Err(SessionError::Ended) if !opens_first => slow.pending_cookie(),
                Err(error) => panic!("{before:?}: {error}"),
            };
            for jar in Jar(Some(old)).after(&change, &login) {
                let session = world.open(&jar.0.unwrap()).await;
                assert_eq!(session.owner(), Some("ada".into()), "{before:?}, {opens_first}");
                assert_eq!(session.get(NOTE).is_some(), opens_first);
            }
        }
    }
}

/// Of two clicks on "sign out", the slow one found that the session had ended already. The user
/// has signed in again meanwhile.
#[tokio::test]
async fn second_logout_undoes_no_login() {
    for expires in [true, false] {
        let world = World::new();
        let old = world.user("ada").await;
        let slow = world.open(&old).await;
        slow.destroy().unwrap();
        let mut jar = Jar(Some(old.clone()));
        if expires {
            world.wait(HOUR);
        } else {
            let first = world.open(&old).await;
            first.destroy().unwrap();
            let first = first.finish().await.unwrap();
            assert!(matches!(first, CookieChange::Remove));
            jar.receive(&first);
        }
        let late = slow.finish().await.unwrap();
        let login = log_in(&world, &old).await;
        for jar in jar.after(&late, &login) {
            let id = jar.0.expect("the cookie was removed");
            assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
        }
    }
}

/// The client has not received the ID of a session that the request itself created.
#[tokio::test]
async fn session_created_and_destroyed_keeps_the_cookie() {
    let world = World::new();
    let old = world.user("ada").await;
    for ends_first in [true, false] {
        let session = if ends_first {
            let session = world.open(&old).await;
            assert_eq!(world.sessions.revoke_all("ada").await.unwrap(), 1);
            session.destroy().unwrap();
            session
        } else {
            world.anonymous().await
        };
        session.set(NOTE, "draft").unwrap();
        session.commit().await.unwrap();
        session.destroy().unwrap();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "{ends_first}");
    }
}

/// A response after an error sends no ID, and the next response does.
#[tokio::test]
async fn former_id_receives_the_new_one_after_an_outage() {
    let world = World::new();
    let old = world.user("ada").await;
    let renewed = world.renew(&old).await;

    let session = world.open(&old).await;
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    world.store.set_outage(None);

    let session = world.open(&old).await;
    session.set(NOTE, "lost").unwrap();
    world.store.fail(Verb::Commit, Fault::DOWN);
    session.finish().await.unwrap_err();
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));

    for writes in [false, true] {
        let session = world.open(&old).await;
        if writes {
            session.set(NOTE, "written").unwrap();
        }
        assert!(session.try_finish().is_none());
        assert_eq!(told(session.finish().await.unwrap()).key(), renewed.key());
    }
}

#[tokio::test]
async fn persistent_cookie_alone_has_a_max_age() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    assert_eq!(max_age(session.finish().await.unwrap()), None);

    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    world.wait(MINUTE);
    let change = session.finish().await.unwrap();
    // The session begins at the commit.
    assert_eq!(max_age(change), Some(30 * DAY));
}

#[tokio::test]
async fn change_of_the_lifetime_sets_the_cookie_again() {
    let world = World::new();
    let id = world.visitor().await;
    let remember = |session: &Session| session.set_lifetime(Lifetime::remember_me());
    let change = world.try_change(&id, remember).await.unwrap();
    assert_eq!(told(change.clone()).expose(), id.expose());
    assert_eq!(max_age(change), Some(30 * DAY));
    let change = world.try_change(&id, remember).await.unwrap();
    assert!(matches!(change, CookieChange::Keep));
}

#[tokio::test]
async fn request_knows_that_its_cookie_opens_nothing() {
    let world = World::new();
    assert!(!world.anonymous().await.had_unknown_id());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(!session.had_unknown_id());
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    assert!(!session.had_unknown_id());
    let session = world.open(&id).await;
    assert!(session.had_unknown_id());
    session.authenticate("ada").unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(!world.open(&id).await.had_unknown_id());
}

/// I4: the response sends the ID of a stored session, whatever fails after the commit.
#[tokio::test]
async fn failed_finish_still_sets_the_cookie_of_an_earlier_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    session.set(NOTE, "lost").unwrap();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    world.store.set_outage(None);
    let new = told(session.pending_cookie());
    assert!(world.opens(&new).await);

    // A failure alone keeps the cookie.
    let session = world.open(&new).await;
    session.destroy().unwrap();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));
}

/// I7: a cookie left untried may open a session.
#[tokio::test]
async fn cookie_behind_many_dead_ones_stays() {
    let world = World::new();
    let id = world.visitor().await;
    let junk = [b"junk".as_slice(); 4];
    let cookies = junk.into_iter().chain([id.expose().as_bytes()]);
    let session = world.sessions.open(cookies).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}
