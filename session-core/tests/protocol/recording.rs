//! What a handler records, and what of it is written.

use session_core::{Key, SessionError};

use crate::support::{NOTE, VISITS, Verb, World, told};

#[tokio::test]
async fn writing_what_is_there_writes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &1).unwrap();
    assert_eq!(session.update(VISITS, |_| {}).unwrap(), 1);
    session.remove(NOTE).unwrap();
    assert_eq!(session.take(NOTE).unwrap(), None);
    session.set_lifetime(session.lifetime()).unwrap();
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);
}

#[tokio::test]
async fn a_clear_of_nothing_writes_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.clear().unwrap();
    assert_eq!(session.take(NOTE).unwrap(), None);
    session.remove(NOTE).unwrap();
    assert!(session.finish_without_io().is_some());
    assert_eq!(world.store.calls(), []);
}

#[tokio::test]
async fn writing_back_what_this_request_changed_is_written() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, &2).unwrap();
    session.set(VISITS, &1).unwrap();
    assert_eq!(session.get(VISITS), Some(1));
    session.remove(VISITS).unwrap();
    session.set(VISITS, &1).unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn a_clear_keeps_the_session_and_its_owner() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.clear().unwrap();
    let _ = session.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!(session.names(), [""; 0]);
    assert_eq!(session.owner(), Some("ada".into()));
}

#[tokio::test]
async fn a_value_that_is_taken_is_gone() {
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
async fn an_unreadable_value_counts_as_missing_and_does_not_cost_the_others() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let text: Key<String> = Key::new(VISITS.name());
    session.set(NOTE, &"readable".to_owned()).unwrap();
    assert!(matches!(session.try_get(text), Err(SessionError::Decode { .. })));
    assert_eq!(world.sessions.unreadable_values(), 0);
    assert_eq!(session.get(text), None);
    assert_eq!(world.sessions.unreadable_values(), 1);
    assert!(session.contains(text), "reading changes nothing");
    assert_eq!(session.get(NOTE).as_deref(), Some("readable"));
    assert_eq!(session.update(text, |text| text.push('!')).unwrap(), "!");
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(text).as_deref(), Some("!"));
}

#[tokio::test]
async fn after_the_response_has_begun_a_change_is_an_error() {
    let world = World::new();
    let id = world.visitor().await;
    for without_io in [true, false] {
        let session = world.open(&id).await;
        if without_io {
            assert!(session.finish_without_io().is_some());
        } else {
            let _ = session.finish().await.unwrap();
        }
        let refused = [
            session.set(VISITS, &9),
            session.update(VISITS, |visits| *visits += 1).map(drop),
            session.remove(VISITS),
            session.take(VISITS).map(drop),
            session.clear(),
            session.authenticate("ada"),
            session.renew(),
            session.set_lifetime(session_core::Lifetime::aal1()),
            session.destroy(),
        ];
        for result in refused {
            assert!(matches!(result, Err(SessionError::Closed)), "{result:?}");
        }
        assert_eq!(session.get(VISITS), Some(1), "reading works on");
        session.commit().await.unwrap();
    }
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn an_update_may_use_the_session() {
    let world = World::new();
    let session = world.anonymous().await;
    let inner = session.clone();
    let visits =
        session.update(VISITS, move |visits| *visits += inner.get(NOTE).map_or(1, |_| 2)).unwrap();
    assert_eq!(visits, 1);
}

#[tokio::test]
async fn an_update_sees_what_its_own_closure_wrote() {
    let world = World::new();
    let session = world.anonymous().await;
    let inner = session.clone();
    let first = std::sync::atomic::AtomicBool::new(true);
    let visits = session
        .update(VISITS, move |visits| {
            if first.swap(false, std::sync::atomic::Ordering::Relaxed) {
                inner.set(VISITS, &40).unwrap();
            }
            *visits += 2;
        })
        .unwrap();
    assert_eq!(visits, 42);
    assert_eq!(session.get(VISITS), Some(42));
}

#[tokio::test]
async fn a_session_of_removed_values_only_is_still_a_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(VISITS, &1).unwrap();
    session.commit().await.unwrap();
    session.remove(VISITS).unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(world.opens(&id).await);
}
