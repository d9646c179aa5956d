//! I4: a rotation changes the ID and nothing else, and the former ID opens nothing.

use session_core::{CookieChange, Lifetime, Session, SessionError};

use crate::support::{CLOSING, DAY, MINUTE, NOTE, VISITS, World, finish};

/// Neither is a login: the end of the session and the age of its proof of identity stay.
#[tokio::test]
async fn rotation_and_renewal_change_the_id_and_nothing_else() {
    for moving in [Session::rotate, Session::renew] {
        let world = World::new();
        let began = world.sessions_now();
        let end = began + 10 * DAY;
        let session = world.anonymous().await;
        session.authenticate("ada").unwrap();
        session.set_lifetime(Lifetime::remember_me()).unwrap();
        session.end_by(end).unwrap();
        session.set(VISITS, 1).unwrap();
        let id = finish(session).await;

        world.wait(DAY);
        let new = world.moved(&id, moving).await;
        assert_ne!(new.key(), id.key());
        let session = world.open(&new).await;
        assert_eq!((session.get(VISITS), session.owner()), (Some(1), Some("ada".into())));
        assert_eq!(session.lifetime(), Lifetime::remember_me());
        assert_eq!((session.created_at(), session.expires_at()), (Some(began), Some(end)));
        assert_eq!(session.authenticated_at(), Some(began));
        assert!(matches!(session.require_fresh(MINUTE), Err(SessionError::NotFresh)));
        assert_eq!(world.listed("ada").await, [new.key()]);
    }
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
