//! A commit stores what the handler has changed, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use session_core::{CookieChange, Key, Lifetime, SessionError, Timestamp};

use crate::support::{HOUR, NOTE, VISITS, Verb, World, told};

const LIST: Key<Vec<u32>> = Key::new("list");

#[tokio::test]
async fn request_that_writes_the_stored_values_writes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 1).unwrap();
    assert_eq!(session.update(VISITS, |_| {}).unwrap(), 1);
    session.remove(NOTE).unwrap();
    assert_eq!(session.take(NOTE).unwrap(), None);
    session.set_lifetime(session.lifetime()).unwrap();
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);
}

#[tokio::test]
async fn clear_of_an_empty_session_writes_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.clear().unwrap();
    assert_eq!(session.take(NOTE).unwrap(), None);
    session.remove(NOTE).unwrap();
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn set_accepts_values_references_and_slices() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    for visits in &[1, 2] {
        session.set(VISITS, visits).unwrap();
    }
    session.set(LIST, &[1, 2][..]).unwrap();
    session.set(NOTE, "text").unwrap();
    let text = "a string".to_owned();
    session.set(NOTE, &text).unwrap();
    let id = told(session.finish().await.unwrap());
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.get(LIST)), (Some(2), Some(vec![1, 2])));
    assert_eq!(session.get(NOTE).as_deref(), Some("a string"));
}

#[tokio::test]
async fn value_changed_and_changed_back_is_written() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    session.set(VISITS, 1).unwrap();
    assert_eq!(session.get(VISITS), Some(1));
    session.remove(VISITS).unwrap();
    session.set(VISITS, 1).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn clear_keeps_the_session_and_its_owner() {
    let world = World::new();
    let id = world.user("ada").await;
    world.change(&id, |session| session.clear()).await;
    let session = world.open(&id).await;
    assert_eq!(session.names(), [""; 0]);
    assert_eq!(session.owner(), Some("ada".into()));
}

#[tokio::test]
async fn take_removes_the_value() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(session.contains(VISITS));
    assert_eq!(session.take(VISITS).unwrap(), Some(1));
    assert!(!session.contains(VISITS));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.take(VISITS).unwrap(), None);
}

#[tokio::test]
async fn change_after_the_response_began_is_refused() {
    let world = World::new();
    let id = world.visitor().await;
    for ending in ["try_finish", "finish", "close"] {
        let session = world.open(&id).await;
        match ending {
            "try_finish" => assert!(session.try_finish().is_some()),
            "finish" => drop(session.finish().await.unwrap()),
            _ => session.close(),
        }
        let refused = [
            session.set(VISITS, 9),
            session.update(VISITS, |visits| *visits += 1).map(drop),
            session.update_or_reset(VISITS, |visits| *visits += 1).map(drop),
            session.try_update(VISITS, |_, _| Ok::<_, SessionError>(())).map(drop),
            session.remove(VISITS),
            session.take(VISITS).map(drop),
            session.take_once(VISITS).await.map(drop),
            session.issue(VISITS, "token", 9, HOUR),
            session.redeem(VISITS, "token").await.map(drop),
            session.clear(),
            session.authenticate("ada"),
            session.rotate(),
            session.renew(),
            session.set_lifetime(Lifetime::aal1()),
            session.end_by(Timestamp::from_secs(0)),
            session.destroy(),
        ];
        for result in refused {
            assert!(matches!(result, Err(SessionError::Closed)), "{ending}: {result:?}");
        }
        assert_eq!(session.get(VISITS), Some(1), "reading works on");
        session.commit().await.unwrap();
    }
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

/// The closure runs without the mutex of the session: it may read and write a clone.
#[tokio::test]
async fn update_closure_may_use_the_session() {
    let world = World::new();
    let session = world.anonymous().await;
    let inner = session.clone();
    let visits =
        session.update(VISITS, move |visits| *visits += inner.get(NOTE).map_or(1, |_| 2)).unwrap();
    assert_eq!(visits, 1);
    session.close();
}

#[tokio::test]
async fn update_sees_a_write_of_its_own_closure() {
    let world = World::new();
    let session = world.anonymous().await;
    let inner = session.clone();
    let first = AtomicBool::new(true);
    let visits = session
        .update(VISITS, move |visits| {
            if first.swap(false, Ordering::Relaxed) {
                inner.set(VISITS, 40).unwrap();
            }
            *visits += 2;
        })
        .unwrap();
    assert_eq!(visits, 42);
    assert_eq!(session.get(VISITS), Some(42));
    session.close();
}

#[tokio::test]
async fn session_without_values_stays_a_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, 1).unwrap();
    session.commit().await.unwrap();
    session.remove(VISITS).unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await);
}

/// Django CVE-2015-5143: visitors without values must not fill the store.
#[tokio::test]
async fn lifetime_alone_stores_no_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);

    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    session.set(VISITS, 1).unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::remember_me());
}
