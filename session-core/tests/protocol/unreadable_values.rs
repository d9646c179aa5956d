//! I11: an unreadable value counts as missing, and no update overwrites it.

use session_core::{Key, SessionError};

use crate::support::{NOTE, VISITS, World};

/// The same value, as read by another version of the application.
const TEXT: Key<String> = Key::new(VISITS.name());

/// A process of the old version finds a value of the new version: the value stays.
#[tokio::test]
async fn update_of_an_unreadable_value_fails_and_keeps_it() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert!(matches!(
        session.update(TEXT, |text| text.push('!')),
        Err(SessionError::Decode { name, .. }) if name == VISITS.name()
    ));
    assert!(matches!(
        session.try_update(TEXT, |text, _| {
            text.push('!');
            Ok::<_, SessionError>(())
        }),
        Err(SessionError::Decode { .. })
    ));
    session.set(NOTE, "the rest is stored").unwrap();
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.contains(NOTE)), (Some(1), true));
}

#[tokio::test]
async fn update_of_a_value_that_became_unreadable_fails_the_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.update(VISITS, |visits| *visits += 5).unwrap();
    right.set(TEXT, "no number").unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Decode { .. })));
    assert_eq!(world.open(&id).await.get(TEXT).as_deref(), Some("no number"));
}

#[tokio::test]
async fn update_or_reset_replaces_an_unreadable_value() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(session.update_or_reset(TEXT, |text| text.push('!')).unwrap(), "!");
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(TEXT).as_deref(), Some("!"));
}

#[tokio::test]
async fn update_or_reset_replaces_a_value_that_became_unreadable() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    assert_eq!(left.update_or_reset(VISITS, |visits| *visits += 5).unwrap(), 6);
    right.set(TEXT, "no number").unwrap();
    let _ = right.finish().await.unwrap();
    left.commit().await.unwrap();
    assert_eq!(left.get(VISITS), Some(5));
    assert_eq!(world.open(&id).await.get(VISITS), Some(5));
}

#[tokio::test]
async fn unreadable_value_counts_as_missing_and_costs_no_other() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let text: Key<String> = Key::new(VISITS.name());
    session.set(NOTE, "readable").unwrap();
    assert!(matches!(session.try_get(text), Err(SessionError::Decode { .. })));
    assert_eq!(world.sessions.unreadable_values(), 0);
    assert_eq!(session.get(text), None);
    assert_eq!(world.sessions.unreadable_values(), 1);
    assert!(session.contains(text), "reading changes nothing");
    assert_eq!(session.get(NOTE).as_deref(), Some("readable"));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}
