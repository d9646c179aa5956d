//! I4: a login gives the session a fresh ID, and resets what belonged to the login before.

use session_core::{Lifetime, SessionError, Sessions};

use crate::support::{DAY, MINUTE, NOTE, SECOND, TOKEN, VISITS, Verb, World, told};

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

/// A visitor's values go to the user who signed in, but not to the next user.
#[tokio::test]
async fn values_of_a_visitor_do_not_reach_the_second_user() {
    let world = World::new();
    let id = world.visitor().await;
    let late = world.open(&id).await;
    late.set(NOTE, "late").unwrap();
    let id = world.login(&id, "ada").await;
    let id = world.login(&id, "grace").await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&id).await.names(), [""; 0]);
}

/// The owner is the same again, but the values of the first login are deleted.
#[tokio::test]
async fn values_do_not_reach_the_same_user_past_another() {
    let world = World::new();
    let id = world.user("ada").await;
    let late = world.open(&id).await;
    late.set(NOTE, "late").unwrap();
    let id = world.login(&id, "grace").await;
    let id = world.login(&id, "ada").await;
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&id).await.names(), [""; 0]);
}

/// The docs of `end_by`: in whatever order, the end belongs to the new session.
#[tokio::test]
async fn end_set_before_take_once_belongs_to_the_login() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "state")).await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now() + 600 * SECOND).unwrap();
    assert_eq!(session.take_once(TOKEN).await.unwrap().as_deref(), Some("state"));
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    world.wait(601 * SECOND);
    assert!(!world.opens(&new).await, "open after its end");
}

/// The docs of `authenticate`: the default lifetime, unless this request sets one.
#[tokio::test]
async fn lifetime_set_before_take_once_belongs_to_the_login() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "state")).await;
    let session = world.open(&id).await;
    session.set_lifetime(Lifetime::strict()).unwrap();
    session.take_once(TOKEN).await.unwrap();
    session.authenticate("ada").unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(session.lifetime(), Lifetime::strict());
}
