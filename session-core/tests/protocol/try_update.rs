//! I1: the condition of a `try_update` holds for the values that its commit stores.

use std::error::Error as _;

use session_core::{Key, Session, SessionError};

use crate::support::{NOTE, VISITS, World};

/// The same value, as read by another version of the application.
const TEXT: Key<String> = Key::new(VISITS.name());

const LIMIT: Key<u64> = Key::new("limit");

/// Adds one, up to the session's limit.
fn add_within_limit(session: &Session) -> Result<u64, SessionError> {
    session.try_update(VISITS, |visits, view| {
        if *visits >= view.get(LIMIT).unwrap_or(2) {
            return Err("the limit is reached");
        }
        *visits += 1;
        Ok(())
    })
}

#[tokio::test]
async fn refused_update_records_nothing_and_names_its_reason() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    assert_eq!(add_within_limit(&session).unwrap(), 2);
    let error = add_within_limit(&session).unwrap_err();
    assert!(matches!(&error, SessionError::Refused { name, .. } if name == VISITS.name()));
    assert_eq!(error.source().unwrap().to_string(), "the limit is reached");
    assert!(!error.is_retryable());
    assert_eq!(session.get(VISITS), Some(2));
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

#[tokio::test]
async fn try_update_sees_the_other_values_and_the_owner() {
    let world = World::new();
    let id = world.user("ada").await;
    let session = world.open(&id).await;
    session.set(LIMIT, 1).unwrap();
    assert!(matches!(add_within_limit(&session), Err(SessionError::Refused { .. })));
    session
        .try_update(NOTE, |note, view| {
            let is_ada = view.owner() == Some(&"ada".into());
            *note = format!("{is_ada} {:?} {:?}", view.get(LIMIT), view.get(TEXT));
            Ok::<_, SessionError>(())
        })
        .unwrap();
    assert_eq!(session.get(NOTE).as_deref(), Some("true Some(1) None"));
}

/// Two requests each find room for one more, and one of them gets the room.
#[tokio::test]
async fn update_that_is_refused_on_replay_fails_the_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    add_within_limit(&left).unwrap();
    left.set(NOTE, "left").unwrap();
    add_within_limit(&right).unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Refused { .. })));
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.get(NOTE)), (Some(2), None));
}

#[tokio::test]
async fn replay_of_a_try_update_sees_the_newer_values() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    add_within_limit(&left).unwrap();
    right.set(LIMIT, 1).unwrap();
    let _ = right.finish().await.unwrap();
    assert!(matches!(left.finish().await, Err(SessionError::Refused { .. })));
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
}

/// A clone of the session changes the condition while the closure runs.
#[tokio::test]
async fn try_update_runs_again_if_a_clone_changed_its_condition() {
    let world = World::new();
    let session = world.open(&world.visitor().await).await;
    let clone = session.clone();
    let result = session.try_update(VISITS, move |visits, view| {
        let is_full = *visits >= view.get(LIMIT).unwrap_or(2);
        clone.set(LIMIT, 1).unwrap();
        if is_full {
            return Err("the limit is reached");
        }
        *visits += 1;
        Ok(())
    });
    assert!(matches!(result, Err(SessionError::Refused { .. })), "{result:?}");
    assert_eq!(session.get(VISITS), Some(1));
}

/// An update may read any value through its view, so the replay keeps the order of all changes
/// before the update.
#[tokio::test]
async fn replay_keeps_the_values_read_by_an_update() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, "read by the update").unwrap();
    session
        .try_update(VISITS, |visits, view| {
            if view.get(NOTE).as_deref() != Some("read by the update") {
                return Err("another note");
            }
            *visits += 1;
            Ok(())
        })
        .unwrap();
    session.set(NOTE, "after").unwrap();
    world.change(&id, |session| session.set(VISITS, 10)).await;
    let _ = session.finish().await.unwrap();
    let after = world.open(&id).await;
    assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(11), Some("after")));
}

/// The closure of the second request runs again on the newer value, also if the request removes or
/// sets the value after the update.
#[tokio::test]
async fn refusal_is_checked_again_before_a_removal_or_set() {
    type Payment = fn(&Session) -> Result<(), SessionError>;
    fn pay(session: &Session) -> Result<u64, SessionError> {
        session.try_update(VISITS, |credit, _| {
            *credit = credit.checked_sub(1).ok_or("no credit")?;
            Ok::<_, &str>(())
        })
    }
    let removes: Payment = |session| {
        pay(session)?;
        session.remove(VISITS)
    };
    let sets: Payment = |session| {
        let left = pay(session)?;
        session.set(VISITS, left)
    };
    for payment in [removes, sets] {
        let world = World::new();
        let id = world.visitor().await;
        let (one, two) = (world.open(&id).await, world.open(&id).await);
        payment(&one).unwrap();
        payment(&two).unwrap();
        two.set(NOTE, "paid").unwrap();
        let _ = one.finish().await.unwrap();
        let second = two.finish().await;
        assert!(matches!(second, Err(SessionError::Refused { .. })), "{second:?}");
    }
}
