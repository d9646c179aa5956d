//! `end_by`: an end set by the application holds beside any lifetime.

use proptest::prelude::*;
use session_core::{CookieChange, Lifetime, Session, SessionError, SessionId, Timestamp};

use crate::support::{HOUR, MILLISECOND, MINUTE, NOTE, VISITS, World, run, told};

/// Asserts that the session ends exactly at this instant, however busy it is.
async fn assert_ends_at(world: &World, id: &SessionId, end: Timestamp) {
    let before = Timestamp::from_millis(end.as_millis() - 1);
    while world.sessions_now() < before {
        let left = before.since(world.sessions_now());
        world.wait(left.min(30 * MINUTE));
        world
            .change(id, |session| {
                assert!(session.key().is_some(), "it ended too early");
                session.update(VISITS, |visits| *visits += 1)
            })
            .await;
    }
    world.wait(MILLISECOND);
    assert!(!world.opens(id).await, "it lives on");
    assert_eq!(world.stored(id).await, None, "the store has it no more");
}

#[tokio::test]
async fn session_ends_by_the_end_that_was_set() {
    let world = World::new();
    let id = world.visitor().await;
    let end = world.sessions_now() + 3 * HOUR;
    world.change(&id, |session| session.end_by(end)).await;
    assert_ends_at(&world, &id, end).await;
}

#[tokio::test]
async fn earliest_of_several_ends_counts() {
    let world = World::new();
    let id = world.visitor().await;
    let now = world.sessions_now();
    world.change(&id, |session| session.end_by(now + 3 * HOUR)).await;
    world.change(&id, |session| session.end_by(now + 5 * HOUR)).await;
    let session = world.open(&id).await;
    assert!(session.end_by(now + 3 * HOUR).is_ok());
    assert!(session.try_finish().is_some(), "nothing to write");
    world
        .change(&id, |session| {
            session.end_by(now + 2 * HOUR)?;
            session.end_by(now + 4 * HOUR)
        })
        .await;
    assert_ends_at(&world, &id, now + 2 * HOUR).await;
}

#[tokio::test]
async fn end_raises_no_absolute_deadline() {
    let world = World::new();
    let id = world.visitor().await;
    let end = world.sessions_now() + 24 * HOUR;
    world.change(&id, |session| session.end_by(end + HOUR)).await;
    assert_ends_at(&world, &id, end).await;
}

#[tokio::test]
async fn end_survives_a_lifetime_that_is_set_later() {
    for same_request in [false, true] {
        for first in [false, true] {
            let world = World::new();
            let id = world.visitor().await;
            let end = world.sessions_now() + 3 * HOUR;
            let remember = |session: &Session| session.set_lifetime(Lifetime::remember_me());
            let cut = |session: &Session| session.end_by(end);
            if same_request {
                world
                    .change(&id, |session| {
                        if first {
                            remember(session)?;
                        }
                        cut(session)?;
                        remember(session)
                    })
                    .await;
            } else {
                if first {
                    world.change(&id, remember).await;
                }
                world.change(&id, cut).await;
                world.change(&id, remember).await;
            }
            let session = world.open(&id).await;
            assert_eq!(
                session.lifetime(),
                Lifetime::remember_me(),
                "the lifetime is as it was set"
            );
            assert_eq!(session.expires_at(), Some(end));
            assert_ends_at(&world, &id, end).await;
        }
    }
}

#[tokio::test]
async fn end_counts_beside_the_commits_of_others() {
    let world = World::new();
    let id = world.visitor().await;
    let now = world.sessions_now();
    let (left, middle, right) =
        (world.open(&id).await, world.open(&id).await, world.open(&id).await);
    left.end_by(now + 3 * HOUR).unwrap();
    middle.end_by(now + 2 * HOUR).unwrap();
    right.set_lifetime(Lifetime::remember_me()).unwrap();
    right.set(NOTE, "kept").unwrap();
    for session in [middle, left, right] {
        let _ = session.finish().await.unwrap();
    }
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("kept"));
    assert_ends_at(&world, &id, now + 2 * HOUR).await;
}

/// The setter only records the end. The commit ends the session, and returns an error.
#[tokio::test]
async fn end_in_the_past_is_reported_by_the_commit() {
    for span in [0, 3_600_000] {
        let world = World::new();
        let id = world.user("ada").await;
        let session = world.open(&id).await;
        let past = Timestamp::from_millis(world.sessions_now().as_millis() - span);
        session.end_by(past).unwrap();
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert!(matches!(session.pending_cookie(), CookieChange::Keep));
        assert_ended(&world, &id).await;
    }
}

/// The token of the identity provider had expired. The visitor's session stays as it is.
#[tokio::test]
async fn login_with_an_end_in_the_past_stores_nothing() {
    let world = World::new();
    for session in [world.anonymous().await, world.open(&world.visitor().await).await] {
        world.store.calls();
        session.authenticate("ada").unwrap();
        session.end_by(Timestamp::from_millis(1)).unwrap();
        assert!(matches!(session.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.store.calls(), []);
    }
}

/// I1: the end counts beside another request's commit, although the session is at another revision
/// then.
#[tokio::test]
async fn end_in_the_past_counts_beside_a_concurrent_write() {
    let world = World::new();
    let id = world.user("ada").await;
    let (ending, other) = (world.open(&id).await, world.open(&id).await);
    other.set(NOTE, "written").unwrap();
    let _ = other.finish().await.unwrap();
    ending.end_by(world.sessions_now()).unwrap();
    assert!(matches!(ending.finish().await, Err(SessionError::Ended)));
    assert_ended(&world, &id).await;
}

/// After a login, an overtaken request cannot end the session by an end in the past.
#[tokio::test]
async fn overtaken_end_in_the_past_ends_no_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.end_by(Timestamp::from_millis(1)).unwrap();
    slow.set(NOTE, "carried").unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&new).await;
    assert_eq!(session.get(NOTE).as_deref(), Some("carried"));
}

#[tokio::test]
async fn end_that_passes_before_the_commit_ends_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now() + MINUTE).unwrap();
    world.wait(MINUTE);
    assert!(matches!(session.finish().await, Err(SessionError::Ended)));
    assert_ended(&world, &id).await;
}

/// Asserts that the session is over, like the session at the identity provider.
async fn assert_ended(world: &World, id: &SessionId) {
    assert!(!world.opens(id).await, "it lives on");
    assert_eq!(world.count().await.0, 0);
    assert_eq!(world.count_entered().await, 0);
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 0);
}

#[tokio::test]
async fn login_resets_the_end_of_the_login_before() {
    let world = World::new();
    let id = world.user("ada").await;
    let now = world.sessions_now();
    world.change(&id, |session| session.end_by(now + 3 * HOUR)).await;
    let new = world.login(&id, "ada").await;
    assert_ends_at(&world, &new, now + 24 * HOUR).await;
}

#[tokio::test]
async fn end_set_with_a_login_holds_in_either_order() {
    for before in [false, true] {
        let world = World::new();
        let id = world.visitor().await;
        let end = world.sessions_now() + 3 * HOUR;
        let session = world.open(&id).await;
        if before {
            session.end_by(end).unwrap();
        }
        session.authenticate("ada").unwrap();
        if !before {
            session.end_by(end).unwrap();
        }
        let new = told(session.finish().await.unwrap());
        assert_ends_at(&world, &new, end).await;
    }
}

#[tokio::test]
async fn end_sets_the_max_age_of_a_persistent_cookie() {
    let world = World::with_lifetime(Lifetime::remember_me());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now() + 3 * HOUR).unwrap();
    match session.finish().await.unwrap() {
        CookieChange::Set { id: same, max_age, .. } => {
            assert_eq!((same.key(), max_age), (id.key(), Some(3 * HOUR)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn end_alone_stores_no_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.end_by(world.sessions_now() + HOUR).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

proptest! {
    /// Security first: only a login raises an end.
    #[test]
    fn end_is_never_raised_without_a_login(
        steps in prop::collection::vec((any::<bool>(), 1..20_u32, any::<bool>()), 1..12),
    ) {
        run(async {
            let world = World::new();
            let id = world.visitor().await;
            let begin = world.sessions_now();
            let (mut end, mut absolute) = (Timestamp::MAX, 24 * HOUR);
            let mut session = world.open(&id).await;
            for (sets_end, hours, commits) in steps {
                if sets_end {
                    session.end_by(begin + hours * HOUR).unwrap();
                    end = end.min(begin + hours * HOUR);
                } else {
                    absolute = hours * HOUR;
                    session.set_lifetime(Lifetime::new(HOUR, absolute).unwrap()).unwrap();
                }
                if commits {
                    let _ = session.finish().await.unwrap();
                    session = world.open(&id).await;
                }
            }
            let _ = session.finish().await.unwrap();
            let session = world.open(&id).await;
            let expected = end.min(begin + absolute).min(begin + HOUR);
            assert_eq!(session.expires_at(), Some(expected));
        });
    }
}
