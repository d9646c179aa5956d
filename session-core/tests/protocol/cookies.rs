//! What a response has to do to the browser's cookie.

use std::time::Duration;

use session_core::{CookieChange, IdGenerator as _, Lifetime, OsRandom, SessionError};

use crate::support::{NOTE, VISITS, World, told};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn max_age(change: CookieChange) -> Option<Duration> {
    match change {
        CookieChange::Set { max_age, .. } => max_age,
        other => panic!("the response sets no cookie: {other:?}"),
    }
}

#[tokio::test]
async fn a_new_session_is_told_and_an_old_one_is_not() {
    let world = World::new();
    let session = world.anonymous().await;
    assert!(session.finish_without_io().is_some());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn a_session_that_was_committed_early_is_told_at_the_end() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.commit().await.unwrap();
    assert!(world.opens(&told(session.finish_without_io().unwrap())).await);
}

#[tokio::test]
async fn nothing_presented_and_nothing_written_keeps_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn an_id_that_opens_nothing_is_removed() {
    let world = World::new();
    let session = world.open(&OsRandom.generate()).await;
    assert!(matches!(session.finish_without_io(), Some(CookieChange::Remove)));
}

#[tokio::test]
async fn a_browser_cookie_has_no_max_age_and_a_persistent_one_that_of_the_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    assert_eq!(max_age(session.finish().await.unwrap()), None);

    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.set_lifetime(Lifetime::aal1()).unwrap();
    world.wait(MINUTE);
    let change = session.finish().await.unwrap();
    assert_eq!(max_age(change), Some(30 * DAY - MINUTE));
}

#[tokio::test]
async fn a_change_of_the_lifetime_is_told() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    let change = session.finish().await.unwrap();
    assert_eq!(told(change.clone()).expose(), id.expose());
    assert_eq!(max_age(change), Some(30 * DAY));
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

/// The browser was just told another ID: a request that it sent before takes that away no more.
#[tokio::test]
async fn a_superseded_cookie_is_left_alone_for_half_a_minute() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());

    world.wait(29 * SECOND);
    let session = world.open(&id).await;
    assert_eq!(session.key(), None);
    assert!(matches!(session.finish_without_io(), Some(CookieChange::Keep)));

    // A session of its own would replace the one that somebody just signed in to.
    let session = world.open(&id).await;
    session.set(NOTE, &"superseded".to_owned()).unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.count().await.0, 1);

    // A login is a deed of the user's.
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let again = told(session.finish().await.unwrap());
    assert!(world.opens(&new).await && world.opens(&again).await);

    world.wait(SECOND);
    let session = world.open(&id).await;
    assert!(matches!(session.finish_without_io(), Some(CookieChange::Remove)));
    let session = world.open(&id).await;
    session.set(NOTE, &"another session".to_owned()).unwrap();
    let fresh = told(session.finish().await.unwrap());
    assert_ne!(fresh.key(), id.key());
}

#[tokio::test]
async fn a_superseded_cookie_next_to_a_live_one_opens_the_live_one() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    let cookies = [id.expose().as_bytes(), new.expose().as_bytes()];
    let session = world.sessions.open(cookies).await.unwrap();
    assert_eq!(session.key(), Some(new.key()));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn who_comes_with_a_dead_cookie_can_be_told() {
    let world = World::new();
    assert!(!world.anonymous().await.cookie_opened_nothing());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(!session.cookie_opened_nothing());
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
    assert!(!session.cookie_opened_nothing());
    let session = world.open(&id).await;
    assert!(session.cookie_opened_nothing());
    session.authenticate("ada").unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(!world.open(&id).await.cookie_opened_nothing());
}
