//! I4: a login gives the session a fresh ID, and resets what belonged to the login before.

use session_core::{Lifetime, SessionError, Sessions};

use crate::support::{DAY, MINUTE, NOTE, TOKEN, VISITS, Verb, World, finish, told};

#[tokio::test]
async fn login_keeps_the_values_and_closes_the_former_id() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    assert_ne!(new.key(), id.key());
    assert!(!world.opens(&id).await);
    let session = world.open(&new).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert_eq!(session.owner(), Some("ada".into()));
    assert_eq!(session.authenticated_at(), Some(world.sessions_now()));
    assert_eq!(world.count().await, (1, 1));
    world.wait(Sessions::ROTATION_WINDOW);
    assert_eq!(world.count().await, (1, 0), "the tombstone has expired");
}

#[tokio::test]
async fn login_without_a_session_costs_one_command() {
    let world = World::new();
    let id = world.begin(|session| session.authenticate("ada")).await;
    assert_eq!(world.store.calls(), [Verb::CreateEntered]);
    assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
}

/// "Remember me" and the end of an identity provider's session belong to the login whose request
/// set them.
#[tokio::test]
async fn lifetime_and_end_of_a_login_do_not_go_to_the_next() {
    for owner in ["ada", "grace"] {
        let world = World::new();
        let session = world.anonymous().await;
        session.authenticate("ada").unwrap();
        session.set_lifetime(Lifetime::remember_me()).unwrap();
        session.end_by(world.sessions_now() + 20 * DAY).unwrap();
        let id = told(session.finish().await.unwrap());
        let session = world.open(&id).await;
        assert_eq!(session.lifetime(), Lifetime::remember_me());
        assert_eq!(session.expires_at(), Some(world.sessions_now() + 20 * DAY));

        let session = world.open(&world.login(&id, owner).await).await;
        assert_eq!(session.lifetime(), Lifetime::standard());
        assert_eq!(session.expires_at(), Some(world.sessions_now() + 60 * MINUTE));
        world.wait(60 * MINUTE);
        assert_eq!(world.count().await.0, 0);
    }
}

#[tokio::test]
async fn another_user_begins_without_the_former_users_values() {
    let world = World::new();
    let id = world.visitor().await;
    let id = world.login(&id, "ada").await;
    assert_eq!(world.open(&id).await.get(VISITS), Some(1), "the visitor's value");

    let late = world.open(&id).await;
    late.set(NOTE, "private").unwrap();
    let session = world.open(&id).await;
    session.set(NOTE, "private too").unwrap();
    session.authenticate("grace").unwrap();
    assert_eq!(session.names(), [""; 0]);
    session.set(VISITS, 7).unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    let session = world.open(&id).await;
    assert_eq!((session.names(), session.get(VISITS)), (vec!["visits".to_owned()], Some(7)));

    let id = world.login(&id, "grace").await;
    assert_eq!(world.open(&id).await.get(VISITS), Some(7), "the same user keeps them");
}

/// A visitor's values go to the user who signed in, but not to the next user. The login of another
/// user deletes a user's values, even if the first user signs in again.
#[tokio::test]
async fn late_values_do_not_reach_a_user_past_another() {
    for (first, second, third) in [(None, "ada", "grace"), (Some("ada"), "grace", "ada")] {
        let world = World::new();
        let id = match first {
            Some(owner) => world.user(owner).await,
            None => world.visitor().await,
        };
        let late = world.open(&id).await;
        late.set(NOTE, "late").unwrap();
        let id = world.login(&id, second).await;
        let id = world.login(&id, third).await;
        assert!(matches!(late.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.open(&id).await.names(), [""; 0]);
    }
}

/// `take_once` commits, but the login is still of the same request.
#[tokio::test]
async fn lifetime_and_end_set_before_take_once_belong_to_the_login() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "state")).await;
    let session = world.open(&id).await;
    let end = world.sessions_now() + 10 * MINUTE;
    session.set_lifetime(Lifetime::strict()).unwrap();
    session.end_by(end).unwrap();
    assert_eq!(session.take_once(TOKEN).await.unwrap().as_deref(), Some("state"));
    session.authenticate("ada").unwrap();
    let session = world.open(&finish(session).await).await;
    assert_eq!((session.lifetime(), session.expires_at()), (Lifetime::strict(), Some(end)));
}
