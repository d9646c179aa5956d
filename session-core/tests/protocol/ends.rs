//! An end that was set holds, whatever else says how long a session lives.

use std::time::Duration;

use proptest::prelude::*;
use session_core::{CookieChange, Lifetime, Session, SessionError, SessionId, Timestamp};

use crate::support::{NOTE, VISITS, World, run, told};

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

async fn change(world: &World, id: &SessionId, change: impl Fn(&Session)) {
    let session = world.open(id).await;
    change(&session);
    let _ = session.finish().await.unwrap();
}

/// The session ends at this instant, however busy it is: not before, not after.
async fn assert_ends_at(world: &World, id: &SessionId, end: Timestamp) {
    let before = Timestamp::from_millis(end.as_millis() - 1);
    while world.sessions_now() < before {
        let left = before.since(world.sessions_now());
        world.wait(left.min(30 * MINUTE));
        change(world, id, |session| {
            assert!(session.key().is_some(), "it ended too early");
            session.update(VISITS, |visits| *visits += 1).unwrap();
        })
        .await;
    }
    world.wait(MILLISECOND);
    assert!(!world.opens(id).await, "it lives on");
    assert_eq!(world.stored(id).await, None, "the store knows");
}

#[tokio::test]
async fn a_session_ends_by_the_end_that_was_set_and_later_writes_keep_it() {
    let world = World::new();
    let id = world.visitor().await;
    let end = world.sessions_now() + 3 * HOUR;
    change(&world, &id, |session| session.end_by(end).unwrap()).await;
    assert_ends_at(&world, &id, end).await;
}

#[tokio::test]
async fn a_later_end_changes_nothing_and_an_earlier_one_counts() {
    let world = World::new();
    let id = world.visitor().await;
    let now = world.sessions_now();
    change(&world, &id, |session| session.end_by(now + 3 * HOUR).unwrap()).await;
    change(&world, &id, |session| session.end_by(now + 5 * HOUR).unwrap()).await;
    let session = world.open(&id).await;
    assert!(session.end_by(now + 3 * HOUR).is_ok());
    assert!(session.finish_without_io().is_some(), "nothing to write");
    change(&world, &id, |session| {
        session.end_by(now + 2 * HOUR).unwrap();
        session.end_by(now + 4 * HOUR).unwrap();
    })
    .await;
    assert_ends_at(&world, &id, now + 2 * HOUR).await;
}

#[tokio::test]
async fn an_end_after_the_absolute_deadline_does_not_raise_it() {
    let world = World::new();
    let id = world.visitor().await;
    let end = world.sessions_now() + 24 * HOUR;
    change(&world, &id, |session| session.end_by(end + HOUR).unwrap()).await;
    assert_ends_at(&world, &id, end).await;
}

#[tokio::test]
async fn an_end_survives_a_lifetime_that_is_set_later() {
    for same_request in [false, true] {
        for first in [false, true] {
            let world = World::new();
            let id = world.visitor().await;
            let end = world.sessions_now() + 3 * HOUR;
            let remember = |session: &Session| session.set_lifetime(Lifetime::aal1()).unwrap();
            let cut = |session: &Session| session.end_by(end).unwrap();
            if same_request {
                change(&world, &id, |session| {
                    if first {
                        remember(session);
                    }
                    cut(session);
                    remember(session);
                })
                .await;
            } else {
                if first {
                    change(&world, &id, remember).await;
                }
                change(&world, &id, cut).await;
                change(&world, &id, remember).await;
            }
            let session = world.open(&id).await;
            assert_eq!(session.lifetime(), Lifetime::aal1(), "the lifetime is as it was set");
            assert_eq!(session.expires_at(), Some(end));
            assert_ends_at(&world, &id, end).await;
        }
    }
}

#[tokio::test]
async fn an_end_is_merged_with_what_others_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let now = world.sessions_now();
    let (left, middle, right) =
        (world.open(&id).await, world.open(&id).await, world.open(&id).await);
    left.end_by(now + 3 * HOUR).unwrap();
    middle.end_by(now + 2 * HOUR).unwrap();
    right.set_lifetime(Lifetime::aal1()).unwrap();
    right.set(NOTE, &"kept".to_owned()).unwrap();
    for session in [middle, left, right] {
        let _ = session.finish().await.unwrap();
    }
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("kept"));
    assert_ends_at(&world, &id, now + 2 * HOUR).await;
}

#[tokio::test]
async fn an_end_in_the_past_ends_the_session_and_says_so() {
    let world = World::new();
    for span in [Duration::ZERO, HOUR] {
        let id = world.user("ada").await;
        let session = world.open(&id).await;
        let past = Timestamp::from_millis(
            world.sessions_now().as_millis() - u64::try_from(span.as_millis()).unwrap(),
        );
        assert!(matches!(session.end_by(past), Err(SessionError::Ended)));
        // A handler that passes the error on still has this done.
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
        assert!(!world.opens(&id).await);
    }
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    assert!(session.end_by(Timestamp::from_millis(1)).is_err());
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn an_end_that_passes_before_the_commit_ends_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now() + MINUTE).unwrap();
    world.wait(MINUTE);
    let _ = session.finish().await.unwrap();
    assert!(!world.opens(&id).await);
    assert_eq!(world.count().await, (0, 0));
}

#[tokio::test]
async fn a_login_begins_without_the_end_of_the_login_before() {
    let world = World::new();
    let id = world.user("ada").await;
    let now = world.sessions_now();
    change(&world, &id, |session| session.end_by(now + 3 * HOUR).unwrap()).await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ends_at(&world, &new, now + 24 * HOUR).await;
}

#[tokio::test]
async fn an_end_that_is_set_with_a_login_holds_in_either_order() {
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
async fn a_renewal_keeps_the_end() {
    let world = World::new();
    let id = world.visitor().await;
    let end = world.sessions_now() + 3 * HOUR;
    change(&world, &id, |session| session.end_by(end).unwrap()).await;
    let session = world.open(&id).await;
    session.renew().unwrap();
    let new = told(session.finish().await.unwrap());
    assert_ends_at(&world, &new, end).await;
}

#[tokio::test]
async fn a_persistent_cookie_is_told_the_end() {
    let world = World::with_lifetime(Lifetime::aal1());
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.end_by(world.sessions_now() + 3 * HOUR).unwrap();
    match session.finish().await.unwrap() {
        CookieChange::Set { id: same, max_age } => {
            assert_eq!((same.key(), max_age), (id.key(), Some(3 * HOUR)));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_visitor_without_values_is_not_stored_for_an_end() {
    let world = World::new();
    let session = world.anonymous().await;
    session.end_by(world.sessions_now() + HOUR).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

proptest! {
    /// Security first: nothing but a login raises an end that was set.
    #[test]
    fn no_order_of_ends_and_lifetimes_raises_an_end(
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
