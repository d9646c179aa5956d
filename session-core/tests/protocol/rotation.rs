//! I4: a rotation changes the ID and nothing else, and the former ID opens nothing.

use session_core::{CookieChange, Lifetime, SessionError};

use crate::support::{CLOSING, DAY, MINUTE, NOTE, VISITS, World, told};

/// A rotation is not a login: the end of the session and the age of its proof of identity stay.
#[tokio::test]
async fn rotation_changes_the_id_and_nothing_else() {
    let world = World::new();
    let end = world.sessions_now() + 10 * DAY;
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    session.end_by(end).unwrap();
    session.set(VISITS, 1).unwrap();
    let id = told(session.finish().await.unwrap());
    let began = world.sessions_now();

    world.wait(DAY);
    let new = world.rotate(&id).await;
    assert_ne!(new.key(), id.key());
    assert!(!world.opens(&id).await);
    let session = world.open(&new).await;
    assert_eq!((session.get(VISITS), session.owner()), (Some(1), Some("ada".into())));
    assert_eq!(session.lifetime(), Lifetime::remember_me());
    assert_eq!((session.created_at(), session.expires_at()), (Some(began), Some(end)));
    assert_eq!(session.authenticated_at(), Some(began));
    assert!(matches!(session.require_fresh(MINUTE), Err(SessionError::NotFresh)));
    let listed = world.sessions.list("ada").await.unwrap();
    assert_eq!(listed.iter().map(|info| info.key()).collect::<Vec<_>>(), [new.key()]);
}

#[tokio::test]
async fn hourly_rotations_do_not_outlive_the_absolute_deadline() {
    let world = World::new();
    let mut id = world.user("ada").await;
    for _ in 0..47 {
        world.wait(30 * MINUTE);
        id = world.rotate(&id).await;
    }
    world.wait(30 * MINUTE);
    assert!(!world.opens(&id).await);
}

/// If a browser sends the former ID, it has received the new ID by now, or is about to.
#[tokio::test]
async fn former_id_of_a_closing_move_gives_an_empty_session() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.user("ada").await;
        let new = world.moved(&id, closing).await;
        let session = world.open(&id).await;
        assert_eq!((session.key(), session.owner()), (None, None));
        assert!(!session.had_unknown_id());
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));

        let late = world.try_change(&id, |session| session.set(NOTE, "late")).await;
        assert!(matches!(late, Err(SessionError::Ended)));
        assert_eq!(world.open(&new).await.get(NOTE), None);
        assert_eq!(world.count().await.0, 1);
    }
}
