//! I6: changes of clones during a commit are stored or reported.

use session_core::{CookieChange, Limits, Session, SessionError, SessionId};

use crate::support::{Fault, NOTE, TOKEN, VISITS, Verb, World, told};

/// The operation of a clone during the commit.
type Deed = fn(&Session);

/// The outcome of the commit in flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Stored,
    Refused,
    /// The store has carried the commit out, and both answers are lost.
    AnswersLost,
    /// Both calls are lost.
    CallsLost,
}

const FATES: [Fate; 4] = [Fate::Stored, Fate::Refused, Fate::AnswersLost, Fate::CallsLost];

impl Fate {
    fn is_stored(self) -> bool {
        matches!(self, Self::Stored | Self::AnswersLost)
    }

    fn is_lost(self) -> bool {
        matches!(self, Self::AnswersLost | Self::CallsLost)
    }
}

fn change(session: &Session) {
    session.set(NOTE, "of the clone").unwrap();
}

fn discard(session: &Session) {
    session.discard();
}

fn destroy(session: &Session) {
    session.destroy().unwrap();
}

/// Commits two visits of a visitor's session with an outcome, while a clone performs its operation.
/// Returns the session.
async fn commit_beside(deed: Deed, fate: Fate) -> (World, SessionId, Session) {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(VISITS, 2).unwrap();
    meet(&world, &session, Verb::Commit, deed, fate).await;
    (world, id, session)
}

/// Commits while a clone performs its operation.
async fn meet(world: &World, session: &Session, verb: Verb, deed: Deed, fate: Fate) {
    let clone = session.clone();
    world.store.before(verb, move || async move { deed(&clone) });
    let faults = match fate {
        Fate::Stored => Vec::new(),
        Fate::Refused => vec![Fault::DOWN],
        Fate::AnswersLost => vec![Fault::ANSWER_LOST; 2],
        Fate::CallsLost => vec![Fault::UNSENT; 2],
    };
    for (nth, fault) in (1..).zip(faults) {
        world.store.fail_nth(nth, verb, fault);
    }
    let committed = session.commit().await;
    assert_eq!(committed.is_ok(), fate == Fate::Stored, "{fate:?}: {committed:?}");
}

/// Returns the stored values.
async fn stored(world: &World, id: &SessionId) -> Option<(Option<u64>, Option<String>)> {
    let session = world.open(id).await;
    session.key().map(|_| (session.get(VISITS), session.get(NOTE)))
}

fn values(visits: u64, note: Option<&str>) -> Option<(Option<u64>, Option<String>)> {
    Some((Some(visits), note.map(str::to_owned)))
}

#[tokio::test]
async fn change_during_a_commit_is_stored_by_the_next() {
    for fate in [Fate::Stored, Fate::Refused] {
        let (world, id, session) = commit_beside(change, fate).await;
        assert_eq!(session.get(VISITS), Some(2), "{fate:?}");
        assert_eq!(session.get(NOTE).as_deref(), Some("of the clone"), "{fate:?}");
        let before = if fate.is_stored() { 2 } else { 1 };
        assert_eq!(stored(&world, &id).await, values(before, None), "{fate:?}");
        let _ = session.finish().await.unwrap();
        assert_eq!(stored(&world, &id).await, values(2, Some("of the clone")), "{fate:?}");
    }
}

/// The refused changes are replayed in front of the clone's changes, in their order.
#[tokio::test]
async fn refused_changes_are_replayed_before_later_ones() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let double: Deed = |session| {
        session.update(VISITS, |visits| *visits *= 10).unwrap();
    };
    meet(&world, &session, Verb::Commit, double, Fate::Refused).await;
    assert_eq!(session.get(VISITS), Some(20));
    other.set(VISITS, 5).unwrap();
    other.commit().await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(stored(&world, &id).await, values(60, None));
}

#[tokio::test]
async fn change_during_a_lost_commit_waits_for_a_discard() {
    for fate in [Fate::AnswersLost, Fate::CallsLost] {
        let (world, id, session) = commit_beside(change, fate).await;
        for _ in 0..2 {
            assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
        }
        let before = if fate.is_stored() { 2 } else { 1 };
        assert_eq!(stored(&world, &id).await, values(before, None), "{fate:?}");
        session.discard();
        change(&session);
        session.commit().await.unwrap();
        assert_eq!(stored(&world, &id).await, values(before, Some("of the clone")), "{fate:?}");
    }
}

#[tokio::test]
async fn discard_during_a_commit_drops_only_unstored_changes() {
    for fate in FATES {
        let (world, id, session) = commit_beside(discard, fate).await;
        let before = if fate.is_stored() { 2 } else { 1 };
        if !fate.is_lost() {
            assert_eq!(session.get(VISITS), Some(before), "{fate:?}");
        }
        session.commit().await.unwrap();
        assert_eq!(stored(&world, &id).await, values(before, None), "{fate:?}");
        change(&session);
        let _ = session.finish().await.unwrap();
        assert_eq!(stored(&world, &id).await, values(before, Some("of the clone")), "{fate:?}");
    }
}

#[tokio::test]
async fn discard_before_a_change_keeps_the_change() {
    for fate in FATES {
        let deed: Deed = |session| {
            discard(session);
            change(session);
        };
        let (world, id, session) = commit_beside(deed, fate).await;
        assert_eq!(session.get(NOTE).as_deref(), Some("of the clone"), "{fate:?}");
        let _ = session.finish().await.unwrap();
        let before = if fate.is_stored() { 2 } else { 1 };
        assert_eq!(stored(&world, &id).await, values(before, Some("of the clone")), "{fate:?}");
    }
}

#[tokio::test]
async fn destroy_during_a_commit_deletes_the_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let (world, id, session) = commit_beside(destroy, fate).await;
        assert_eq!((session.key(), session.get(VISITS)), (None, None), "{fate:?}");
        assert!(world.opens(&id).await, "{fate:?}: not yet");
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove), "{fate:?}");
        assert!(!world.opens(&id).await, "{fate:?}");
        assert_eq!(world.count().await, (0, 0), "{fate:?}");
    }
}

/// A false report of a logout would be worse than an error.
#[tokio::test]
async fn destroy_during_a_lost_commit_reports_a_failure() {
    for fate in [Fate::AnswersLost, Fate::CallsLost] {
        let (world, id, session) = commit_beside(destroy, fate).await;
        assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)), "{fate:?}");
        assert!(world.opens(&id).await, "{fate:?}");
        session.discard();
        session.destroy().unwrap();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove), "{fate:?}");
        assert!(!world.opens(&id).await, "{fate:?}");
    }
}

#[tokio::test]
async fn destroy_taken_back_during_a_commit_keeps_the_session() {
    for fate in FATES {
        let deed: Deed = |session| {
            destroy(session);
            discard(session);
        };
        let (world, id, session) = commit_beside(deed, fate).await;
        assert_eq!(session.key(), Some(id.key()), "{fate:?}");
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "{fate:?}");
        let before = if fate.is_stored() { 2 } else { 1 };
        assert_eq!(stored(&world, &id).await, values(before, None), "{fate:?}");
    }
}

/// An application may set a farewell for the next page.
#[tokio::test]
async fn change_after_a_destroy_begins_a_new_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let deed: Deed = |session| {
            destroy(session);
            change(session);
        };
        let (world, id, session) = commit_beside(deed, fate).await;
        let new = told(session.finish().await.unwrap());
        assert!(!world.opens(&id).await, "{fate:?}");
        let expected = Some((None, Some("of the clone".to_owned())));
        assert_eq!(stored(&world, &new).await, expected, "{fate:?}");
        assert_eq!(world.count().await, (1, 0), "{fate:?}");
    }
}

/// Here the commit stores the session for the first time.
#[tokio::test]
async fn destroy_during_the_first_commit_deletes_the_new_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let world = World::new();
        let session = world.anonymous().await;
        session.set(VISITS, 2).unwrap();
        meet(&world, &session, Verb::Create, destroy, fate).await;
        assert_eq!(session.key(), None, "{fate:?}");
        assert!(!matches!(session.finish().await.unwrap(), CookieChange::Set { .. }), "{fate:?}");
        assert_eq!(world.count().await, (0, 0), "{fate:?}");
    }
}

#[tokio::test]
async fn discard_during_the_first_commit_keeps_the_stored_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let world = World::new();
        let session = world.anonymous().await;
        session.set(VISITS, 2).unwrap();
        meet(&world, &session, Verb::Create, discard, fate).await;
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Set { .. }), fate.is_stored(), "{fate:?}");
        assert_eq!(world.count().await.0, usize::from(fate.is_stored()), "{fate:?}");
    }
}

/// During a login in flight, the clone's logout deletes the session under its new key.
#[tokio::test]
async fn destroy_during_a_login_deletes_the_session_under_its_new_key() {
    for fate in [Fate::Stored, Fate::Refused] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        meet(&world, &session, Verb::Commit, destroy, fate).await;
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove), "{fate:?}");
        assert_eq!(world.count().await.0, 0, "{fate:?}");
        assert_eq!(world.sessions.list("ada").await.unwrap().len(), 0, "{fate:?}");
    }
}

async fn delete_beside(deed: Deed, fate: Fate) -> (World, SessionId, Session) {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    meet(&world, &session, Verb::Delete, deed, fate).await;
    (world, id, session)
}

#[tokio::test]
async fn refused_deletion_is_repeated_by_the_next_commit() {
    let (world, id, session) = delete_beside(|_| {}, Fate::Refused).await;
    assert!(world.opens(&id).await);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn lost_deletion_is_reported_until_a_discard() {
    for fate in [Fate::AnswersLost, Fate::CallsLost] {
        let (world, id, session) = delete_beside(|_| {}, fate).await;
        assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)), "{fate:?}");
        assert!(matches!(session.pending_cookie(), CookieChange::Keep), "{fate:?}");
        assert_eq!(world.opens(&id).await, !fate.is_stored(), "{fate:?}");
        session.discard();
        session.destroy().unwrap();
        // If the session was deleted already, another request may have set a newer cookie.
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Keep), fate.is_stored(), "{fate:?}: {change:?}");
        assert!(!world.opens(&id).await, "{fate:?}");
    }
}

#[tokio::test]
async fn discard_during_a_deletion_keeps_an_undeleted_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let (world, id, session) = delete_beside(discard, fate).await;
        let is_deleted = fate.is_stored();
        assert_eq!(session.key().is_none(), is_deleted, "{fate:?}");
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Remove), is_deleted, "{fate:?}: {change:?}");
        assert_eq!(world.opens(&id).await, !is_deleted, "{fate:?}");
    }
}

#[tokio::test]
async fn change_during_a_deletion_begins_a_new_session() {
    for fate in [Fate::Stored, Fate::Refused] {
        let (world, id, session) = delete_beside(change, fate).await;
        let new = told(session.finish().await.unwrap());
        assert!(!world.opens(&id).await, "{fate:?}");
        assert_ne!(new.key(), id.key());
        assert_eq!(stored(&world, &new).await, Some((None, Some("of the clone".to_owned()))));
        assert_eq!(world.count().await, (1, 0), "{fate:?}");
    }
}

/// I6: if a clone's change fits into the session that the request has read, but not into the newer
/// one, the next commit fails. With room for the change, the commit stores it.
#[tokio::test]
async fn change_during_a_commit_is_stored_or_reported() {
    for makes_room in [false, true] {
        let limits = Limits::default().with_values(2);
        let world = World::with(|sessions| sessions.with_limits(limits));
        let id = world.visitor().await;
        let session = world.open(&id).await;
        let (clone, other) = (session.clone(), world.open(&id).await);
        session.update(VISITS, |visits| *visits += 1).unwrap();
        world.store.before(Verb::Commit, move || async move {
            clone.set(NOTE, "late").unwrap();
            other.set(TOKEN, "theirs").unwrap();
            let _ = other.finish().await.unwrap();
        });
        session.commit().await.unwrap();
        assert_eq!(session.get(NOTE).as_deref(), Some("late"), "the request sees its change");
        if makes_room {
            session.remove(TOKEN).unwrap();
        }
        let finished = session.finish().await;
        let stored = world.open(&id).await;
        assert_eq!(stored.get(VISITS), Some(2));
        let is_reported = matches!(finished, Err(SessionError::TooLarge { .. }));
        let is_stored = stored.get(NOTE).as_deref() == Some("late");
        assert!(is_stored != is_reported && (makes_room || is_reported), "{finished:?}");
    }
}

#[tokio::test]
async fn discarded_destroy_during_a_login_keeps_the_login() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, move || async move { clone.destroy().unwrap() });
    session.commit().await.unwrap();
    session.discard();
    let new = told(session.finish().await.unwrap());
    assert!(world.open(&new).await.owner().is_some());
}

#[tokio::test]
async fn request_does_not_finish_while_a_clone_commits() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.discard();
        assert!(clone.try_finish().is_none());
    });
    session.commit().await.unwrap();
    assert!(world.opens(&told(session.finish().await.unwrap())).await);
}

#[tokio::test]
async fn clones_are_one_session() {
    let world = World::new();
    let session = world.anonymous().await;
    let clone = session.clone();
    session.set(VISITS, 1).unwrap();
    clone.update(VISITS, |visits| *visits += 1).unwrap();
    assert_eq!(session.get(VISITS), Some(2));
    clone.commit().await.unwrap();
    assert_eq!(session.key(), clone.key());
    assert!(session.key().is_some());
}

#[tokio::test]
async fn aborted_request_reports_a_commit_in_doubt_to_its_clones() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(VISITS, 2).unwrap();
    world.fail_twice(Verb::Commit, Fault::ANSWER_LOST);
    assert!(session.commit().await.is_err());
    assert!(matches!(session.abort(), CookieChange::Keep));
    assert!(matches!(clone.commit().await, Err(SessionError::Closed)));
}
