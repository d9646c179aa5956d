//! I4: the use of a former ID after its grace opens nothing, and is reported.

use std::time::Duration;

use session_core::{CookieChange, Event, EventKind, Events, OnReuse, SessionError, SessionId};

use crate::support::{CLOSING, Fault, MINUTE, NOTE, SECOND, Verb, World, kinds, told};

/// Returns the next event of a kind. Skips all other events.
fn next_of(events: &mut Events, kind: EventKind) -> Option<Event> {
    std::iter::from_fn(|| events.try_next()).find(|event| event.kind == kind)
}

/// Returns a world with a session whose former ID is out of grace, and both IDs.
async fn out_of_grace(reuse: OnReuse) -> (World, SessionId, SessionId) {
    let world = World::with(|sessions| sessions.with_reuse(reuse));
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let _ = world.read(&new).await;
    world.wait(30 * SECOND);
    (world, id, new)
}

#[tokio::test]
async fn reuse_is_reported_and_opens_nothing() {
    let (world, id, new) = out_of_grace(OnReuse::Report).await;
    let mut events = world.sessions.events();
    let session = world.open(&id).await;
    assert_eq!((session.key(), session.owner()), (None, None));
    let event = events.try_next().unwrap();
    assert_eq!((event.kind, event.key), (EventKind::Reused, new.key()));
    assert_eq!((event.former, event.owner), (Some(id.key()), Some("ada".into())));
    assert_eq!(events.try_next(), None);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.open(&new).await.owner(), Some("ada".into()));
}

/// The browser with the reused ID lacks the new ID: its requests under way had the grace.
#[tokio::test]
async fn reused_id_may_begin_a_session_of_its_own() {
    let (world, id, new) = out_of_grace(OnReuse::Report).await;
    let session = world.open(&id).await;
    assert!(session.had_unknown_id());
    session.set(NOTE, "another session").unwrap();
    let own = told(session.finish().await.unwrap());
    assert!(world.opens(&new).await && world.opens(&own).await);
}

/// Without a grace, a request under way is refused for half a minute.
#[tokio::test]
async fn id_of_a_renewal_a_moment_ago_makes_no_session_of_its_own() {
    let world = World::with(|sessions| sessions.with_renewal_grace(Duration::ZERO));
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let _ = world.read(&new).await;
    world.wait(30 * SECOND - Duration::from_millis(1));
    let late = world.try_change(&id, |session| session.set(NOTE, "late")).await;
    assert!(matches!(late, Err(SessionError::Ended)));
    world.wait(Duration::from_millis(1));
    let _ = world.moved(&id, |session| session.set(NOTE, "another session")).await;
}

/// An ID of two moves ago: the last of them has just closed the ID of the browser.
#[tokio::test]
async fn reused_id_makes_no_session_just_after_a_rotation() {
    let world = World::new();
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let _ = world.read(&new).await;
    world.wait(60 * SECOND);
    let _ = world.rotate(&new).await;
    for (wait, is_refused) in [(29, true), (1, false)] {
        world.wait(wait * SECOND);
        let late = world.open(&id).await;
        late.set(NOTE, "late").unwrap();
        assert_eq!(late.finish().await.is_err(), is_refused);
    }
}

/// A client with a reused ID cannot end the session by a logout.
#[tokio::test]
async fn logout_under_a_reused_id_ends_nothing() {
    let (world, id, new) = out_of_grace(OnReuse::Report).await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert!(world.opens(&new).await);
}

/// If the key of the new ID holds an end marker, the session has ended, and its former ID does not
/// count as reused.
#[tokio::test]
async fn old_id_of_an_ended_session_is_not_reused() {
    let world = World::new();
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let _ = world.read(&new).await;
    world.wait(MINUTE);
    let late = world.try_change(&new, |session| session.end_by(world.sessions_now())).await;
    assert!(matches!(late, Err(SessionError::Ended)));
    let mut events = world.sessions.events();
    let late = world.open(&id).await;
    assert!(late.had_unknown_id());
    assert_eq!(kinds(&mut events), []);
}

/// The first request to present the new ID replaces it immediately.
#[tokio::test]
async fn reuse_is_seen_if_the_new_id_was_replaced_at_its_first_use() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.user("ada").await;
        let new = world.renew(&id).await;
        let _ = world.moved(&new, closing).await;
        world.wait(29 * SECOND);
        let mut events = world.sessions.events();
        assert!(!world.opens(&id).await);
        assert_eq!(kinds(&mut events), []);
        world.wait(SECOND);
        assert!(!world.opens(&id).await);
        assert_eq!(kinds(&mut events), [EventKind::Reused]);
    }
}

#[tokio::test]
async fn reuse_ends_the_session_where_the_application_wants_it() {
    let (world, id, new) = out_of_grace(OnReuse::EndSession).await;
    let mut events = world.sessions.events();
    assert!(!world.opens(&id).await);
    assert_eq!(kinds(&mut events), [EventKind::Reused, EventKind::Revoked]);
    assert!(!world.opens(&new).await);
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 0);
    assert_eq!(world.count_entered().await, 0);
}

/// The session has renewed its ID many times since the thief took the cookie.
#[tokio::test]
async fn reuse_of_an_old_id_ends_the_session_after_many_renewals() {
    let world = World::with(|sessions| sessions.with_reuse(OnReuse::EndSession));
    let stolen = world.user("ada").await;
    let mut id = stolen.clone();
    for _ in 0..12 {
        id = world.renew(&id).await;
        world.use_for_the_grace(&id).await;
    }
    assert!(!world.opens(&stolen).await);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn use_within_the_grace_ends_no_session() {
    let world = World::with(|sessions| sessions.with_reuse(OnReuse::EndSession));
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    world.wait(30 * MINUTE);
    assert!(world.opens(&id).await);
    let _ = world.read(&new).await;
    world.wait(30 * SECOND - Duration::from_millis(1));
    assert!(world.opens(&id).await);
    assert!(world.opens(&new).await);
}

#[tokio::test]
async fn outage_while_a_reuse_ends_the_session_fails_no_request() {
    let (world, id, _) = out_of_grace(OnReuse::EndSession).await;
    world.store.fail(Verb::DeleteOrBlock, Fault::DOWN);
    let mut events = world.sessions.events();
    assert_eq!(world.try_open(&id).await.unwrap().key(), None);
    assert_eq!(kinds(&mut events), [EventKind::Reused]);
    assert!(!world.opens(&id).await);
    assert_eq!(kinds(&mut events), [EventKind::Reused, EventKind::Revoked]);
}

/// The ID from two renewals ago.
#[tokio::test]
async fn id_before_the_former_one_is_reused() {
    for reuse in [OnReuse::Report, OnReuse::EndSession] {
        let (world, oldest, former) = out_of_grace(reuse).await;
        let present = world.renew(&former).await;
        let mut events = world.sessions.events();
        assert!(world.opens(&former).await, "the new ID was not presented yet");
        assert!(!world.opens(&oldest).await);
        let event = next_of(&mut events, EventKind::Reused).expect("a reuse");
        assert_eq!((event.key, event.former), (former.key(), Some(oldest.key())));
        assert_eq!(world.opens(&present).await, reuse == OnReuse::Report);
    }
}

/// A stolen ID is detected until the session's absolute deadline.
#[tokio::test]
async fn reuse_is_seen_until_the_absolute_deadline() {
    let (world, id, new) = out_of_grace(OnReuse::Report).await;
    for _ in 0..46 {
        world.wait(30 * MINUTE);
        let _ = world.read(&new).await;
    }
    world.wait(59 * MINUTE);
    let mut events = world.sessions.events();
    assert!(!world.opens(&id).await);
    assert_eq!(kinds(&mut events), [EventKind::Reused]);
    world.wait(MINUTE);
    assert!(!world.opens(&id).await);
    assert_eq!(kinds(&mut events), []);
}
