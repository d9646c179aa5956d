//! I4: a move to a fresh ID by a login, a rotation or a renewal loses no value, and leaves no
//! second session.

use std::{sync::Arc, time::Duration};

use session_core::{
    CookieChange, Entry, Event, EventKind, Events, Lifetime, OnReuse, Session, SessionError,
    SessionId, Sessions, StoreErrorKind, Timestamp,
};

use crate::support::{
    CLOSING, DAY, Fault, MINUTE, MOVES, Move, NOTE, SECOND, VISITS, Verb, World, all_bytes_of,
    kinds, sign_in, told,
};

/// Returns the next event of a kind. Skips all other events.
fn next_of(events: &mut Events, kind: EventKind) -> Option<Event> {
    std::iter::from_fn(|| events.try_next()).find(|event| event.kind == kind)
}

// A login.

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
async fn login_begins_the_absolute_lifetime_anew() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(30 * MINUTE);
    let new = world.login(&id, "ada").await;
    assert_eq!(world.open(&new).await.created_at(), Some(world.sessions_now()));
}

#[tokio::test]
async fn login_without_a_session_costs_one_command() {
    let world = World::new();
    let id = world.begin(|session| session.authenticate("ada")).await;
    assert_eq!(world.store.calls(), [Verb::CreateEntered]);
    assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
}

#[tokio::test]
async fn login_stores_the_new_record_before_the_tombstone() {
    let world = World::new();
    let id = world.visitor().await;
    world.login(&id, "ada").await;
    assert_eq!(world.store.calls(), [Verb::Load, Verb::CreateEntered, Verb::Commit]);
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

/// The end of an earlier login does not shorten the session of the new login either.
#[tokio::test]
async fn login_removes_an_earlier_end() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.end_by(world.sessions_now() + MINUTE).unwrap();
    let id = told(session.finish().await.unwrap());
    let id = world.login(&id, "ada").await;
    world.wait(2 * MINUTE);
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn login_keeps_lifetime_and_end_that_its_request_set() {
    for login_first in [true, false] {
        let world = World::new();
        let end = world.sessions_now() + 10 * DAY;
        let session = world.open(&world.visitor().await).await;
        if login_first {
            session.authenticate("ada").unwrap();
        }
        session.set_lifetime(Lifetime::remember_me()).unwrap();
        session.end_by(end).unwrap();
        if !login_first {
            session.authenticate("ada").unwrap();
        }
        let session = world.open(&told(session.finish().await.unwrap())).await;
        assert_eq!(session.lifetime(), Lifetime::remember_me(), "login first: {login_first}");
        assert_eq!(session.expires_at(), Some(end), "login first: {login_first}");
    }
}

#[tokio::test]
async fn login_ends_a_visitors_lifetime() {
    let short = Lifetime::new(MINUTE, MINUTE).unwrap();
    let world = World::with(|sessions| sessions.with_anonymous_lifetime(short));
    let id = world.visitor().await;
    assert_eq!(world.open(&id).await.lifetime(), short);
    let id = world.login(&id, "ada").await;
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::standard());
}

// A rotation.

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

#[tokio::test]
async fn rotation_is_reported_with_the_former_key() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut events = world.sessions.events();
    let new = world.rotate(&id).await;
    let event = events.try_next().unwrap();
    assert_eq!((event.kind, event.key), (EventKind::Rotated, new.key()));
    assert_eq!((event.former, event.owner), (Some(id.key()), Some("ada".into())));
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn second_concurrent_rotation_fails_and_receives_no_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    first.rotate().unwrap();
    second.rotate().unwrap();
    second.set(NOTE, "late").unwrap();
    let new = told(first.finish().await.unwrap());
    assert!(matches!(second.finish().await, Err(SessionError::Ended)));
    assert!(matches!(second.pending_cookie(), CookieChange::Keep));
    let session = world.open(&new).await;
    assert_eq!((session.get(VISITS), session.get(NOTE)), (Some(1), None));
    assert_eq!(world.count().await.0, 1);
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

// A move that breaks off.

#[tokio::test]
async fn move_that_fails_leaves_the_former_id_open() {
    for (number, moving) in MOVES.into_iter().enumerate() {
        for fault in [Fault::DOWN, Fault::Before(StoreErrorKind::Full)] {
            for at_create in [true, false] {
                let world = World::new();
                let id = world.visitor().await;
                let session = world.open(&id).await;
                moving(&session).unwrap();
                let verb = match (at_create, number) {
                    (true, 0) => Verb::CreateEntered,
                    (true, _) => Verb::Create,
                    (false, _) => Verb::Commit,
                };
                world.store.fail(verb, fault);
                assert!(matches!(session.finish().await, Err(SessionError::Store(_))));
                assert!(matches!(session.pending_cookie(), CookieChange::Keep));
                let after = world.open(&id).await;
                assert_eq!((after.get(VISITS), after.owner()), (Some(1), None));
                assert_eq!(world.count().await, (1, 0), "the unused record is deleted");
                assert_eq!(world.count_entered().await, 0);
            }
        }
    }
}

#[tokio::test]
async fn dropped_move_leaves_the_former_id_open() {
    for moving in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        moving(&session).unwrap();
        world.drop_in_commit(&session).await;
        assert_eq!(world.open(&id).await.get(VISITS), Some(1));
        assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
    }
}

#[tokio::test]
async fn commit_between_load_and_tombstone_is_replayed() {
    for moving in MOVES {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 100).unwrap();
        moving(&session).unwrap();
        let (other, former) = (world.other_process(), id.clone());
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.update(VISITS, |visits| *visits += 10).unwrap();
            session.set(NOTE, "between").unwrap();
            let _ = session.finish().await.unwrap();
        });
        let new = told(session.finish().await.unwrap());
        let after = world.open(&new).await;
        assert_eq!(after.get(VISITS), Some(111));
        assert_eq!(after.get(NOTE).as_deref(), Some("between"));
        assert_eq!(world.count().await, (1, 1));
    }
}

#[tokio::test]
async fn replay_that_fails_in_a_login_leaves_no_second_session() {
    for fault in [Fault::DOWN, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        let (other, former) = (world.other_process(), id.clone());
        let store = Arc::clone(&world.store);
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.set(NOTE, "between").unwrap();
            let _ = session.finish().await.unwrap();
            // The commit of the replayed record under the new key, and its repetition, fail.
            store.fail_nth(1, Verb::Commit, fault);
            store.fail_nth(2, Verb::Commit, fault);
        });
        assert!(session.finish().await.is_err());
        assert!(world.opens(&id).await);
        assert_eq!(world.count().await, (1, 0));
        assert_eq!(world.count_entered().await, 0);
    }
}

#[tokio::test]
async fn update_that_fails_on_replay_leaves_no_second_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let long = "l".repeat(40 * 1024);
    session.update(NOTE, move |note| note.push_str(&long)).unwrap();
    session.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, move || async move {
        let session = other.open(&former).await;
        session.set(NOTE, "r".repeat(40 * 1024)).unwrap();
        let _ = session.finish().await.unwrap();
    });
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    assert!(world.opens(&id).await);
    assert_eq!(world.count().await, (1, 0));
    assert_eq!(world.count_entered().await, 0);
}

// A request overtaken by a login or a rotation.

#[tokio::test]
async fn overtaken_request_stores_its_values_and_receives_no_id() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.visitor().await;
        let writer = world.open(&id).await;
        writer.update(VISITS, |visits| *visits += 1).unwrap();
        writer.set(NOTE, "before").unwrap();
        let new = world.moved(&id, closing).await;
        assert!(matches!(writer.finish().await.unwrap(), CookieChange::Keep));
        let session = world.open(&new).await;
        assert_eq!(session.get(VISITS), Some(2));
        assert_eq!(session.get(NOTE).as_deref(), Some("before"));
    }
}

/// An attacker may have planted the visitor's ID, and may keep a request under way.
#[tokio::test]
async fn request_with_the_former_id_never_receives_the_new_one() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.visitor().await;
        let held = world.open(&id).await;
        held.set(NOTE, "held").unwrap();
        let new = world.moved(&id, closing).await;
        held.commit().await.unwrap();
        held.renew().unwrap();
        held.set(NOTE, "held on").unwrap();
        assert!(matches!(held.pending_cookie(), CookieChange::Keep));
        assert!(matches!(held.finish().await.unwrap(), CookieChange::Keep));
        assert!(world.opens(&new).await, "the user's ID still opens the session");
    }
}

/// The former ID still opens the session, so that another renewal comes only after the grace.
#[tokio::test]
async fn renewal_due_within_the_grace_costs_no_write() {
    let world = World::renewed_after(10 * SECOND);
    let id = world.user("ada").await;
    world.wait(10 * SECOND);
    let new = told(world.read(&id).await);
    world.wait(20 * SECOND);
    let _ = world.read(&new).await;
    world.wait(20 * SECOND);
    world.store.calls();
    assert!(matches!(world.read(&new).await, CookieChange::Keep));
    assert_eq!(world.store.calls(), [Verb::Load]);
    world.wait(10 * SECOND);
    let _ = told(world.read(&new).await);
}

#[tokio::test]
async fn due_renewal_sends_no_id_to_an_overtaken_request() {
    for closing in CLOSING {
        let world = World::renewed_after(MINUTE);
        let id = world.visitor().await;
        let held = world.open(&id).await;
        held.set(NOTE, "held").unwrap();
        let new = world.moved(&id, closing).await;
        held.commit().await.unwrap();
        world.wait(MINUTE);
        assert!(matches!(held.finish().await.unwrap(), CookieChange::Keep));
        assert!(world.opens(&new).await, "the user's ID still opens the session");
    }
}

#[tokio::test]
async fn values_are_not_carried_over_after_the_rotation_window() {
    let world = World::new();
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.set(NOTE, "too late").unwrap();
    let new = world.login(&id, "ada").await;
    world.wait(Sessions::ROTATION_WINDOW);
    assert!(matches!(writer.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&new).await.get(NOTE), None);
}

#[tokio::test]
async fn second_concurrent_login_of_the_user_joins_the_first() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    first.authenticate("ada").unwrap();
    second.authenticate("ada").unwrap();
    let first = told(first.finish().await.unwrap());
    let second = told(second.finish().await.unwrap());
    assert_eq!(first.expose(), second.expose());
    assert!(!world.opens(&id).await);
    assert_eq!(world.open(&first).await.owner(), Some("ada".into()));
    assert_eq!(world.count().await, (1, 1));
}

/// The second click of a double click opens its session after the first click has signed in.
#[tokio::test]
async fn login_under_a_visitors_former_id_joins_the_same_user() {
    for renewed in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let mut new = world.login(&id, "ada").await;
        if renewed {
            new = world.renew(&new).await;
        }
        let session = world.open(&id).await;
        session.set(NOTE, "second").unwrap();
        session.authenticate("ada").unwrap();
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        assert_eq!(session.get(VISITS), Some(1));
        let after = world.open(&new).await;
        assert_eq!((after.get(VISITS), after.get(NOTE).as_deref()), (Some(1), Some("second")));
        assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);
    }
}

/// The request records the removals while its own session is empty.
#[tokio::test]
async fn late_login_removes_the_values_removed_before_it() {
    type Removal = fn(&Session) -> Result<(), SessionError>;
    let removals: [Removal; 2] = [|session| session.remove(VISITS), Session::clear];
    for commits_before_login in [true, false] {
        for removal in removals {
            let world = World::new();
            let id = world.visitor().await;
            let new = world.login(&id, "ada").await;
            let session = world.open(&id).await;
            removal(&session).unwrap();
            if commits_before_login {
                session.commit().await.unwrap();
            }
            session.authenticate("ada").unwrap();
            assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
            assert_eq!(world.open(&new).await.get(VISITS), None);
        }
    }
}

/// A removal without an effect on the stored session keeps a later commit of another request.
#[tokio::test]
async fn late_login_repeats_no_removal_that_was_committed() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    let late = world.open(&id).await;
    late.authenticate("ada").unwrap();
    late.commit().await.unwrap();
    late.remove(NOTE).unwrap();
    late.commit().await.unwrap();
    let other = world.open(&new).await;
    other.set(NOTE, "other").unwrap();
    let _ = other.finish().await.unwrap();
    late.set(VISITS, 2).unwrap();
    let _ = late.finish().await.unwrap();
    let session = world.open(&new).await;
    assert_eq!((session.get(NOTE).as_deref(), session.get(VISITS)), (Some("other"), Some(2)));
}

/// The second click of a double click has stored a value before its login.
#[tokio::test]
async fn login_after_an_overtaken_commit_joins_the_first() {
    let world = World::new();
    let id = world.visitor().await;
    let second = world.open(&id).await;
    second.set(NOTE, "second").unwrap();
    let new = world.login(&id, "ada").await;
    second.commit().await.unwrap();
    assert!(matches!(second.pending_cookie(), CookieChange::Keep));
    second.set_lifetime(Lifetime::remember_me()).unwrap();
    second.commit().await.unwrap();
    assert!(matches!(second.pending_cookie(), CookieChange::Keep));
    second.authenticate("ada").unwrap();
    assert_eq!(told(second.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(NOTE).as_deref(), Some("second"));
}

/// Of several logins in one request, the last counts. The earlier logins remove no value of the
/// joined session.
#[tokio::test]
async fn joining_request_that_signed_in_twice_clears_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let second = world.open(&id).await;
    let new = world.login(&id, "ada").await;
    second.authenticate("grace").unwrap();
    second.authenticate("ada").unwrap();
    assert_eq!(told(second.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(VISITS), Some(1));
}

/// If a clear was recorded before a login or rotation of another request, it removes the values
/// seen by its own request.
#[tokio::test]
async fn overtaken_clear_removes_the_values_its_request_saw() {
    for closing in CLOSING {
        let world = World::new();
        let id = world.visitor().await;
        let late = world.open(&id).await;
        late.clear().unwrap();
        let session = world.open(&id).await;
        closing(&session).unwrap();
        session.set(NOTE, "private").unwrap();
        let new = told(session.finish().await.unwrap());
        let _ = late.finish().await.unwrap();
        let session = world.open(&new).await;
        assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (None, Some("private")));
    }
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

/// Only the same user under a visitor's former ID joins the session: a user's former ID may be
/// stolen.
#[tokio::test]
async fn login_under_any_other_former_id_begins_anew() {
    for (former_owner, owner) in [(None, "eve"), (Some("ada"), "ada"), (Some("ada"), "eve")] {
        let world = World::new();
        let id = match former_owner {
            Some(owner) => world.user(owner).await,
            None => world.visitor().await,
        };
        let new = world.login(&id, "ada").await;
        let own = world.login(&id, owner).await;
        assert_ne!(own.key(), new.key());
        let session = world.open(&own).await;
        assert_eq!((session.owner(), session.get(VISITS)), (Some(owner.into()), None));
        assert_eq!(world.open(&new).await.owner(), Some("ada".into()));
    }
}

#[tokio::test]
async fn login_under_a_former_id_begins_anew_after_a_logout() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    world.log_out(&new).await;
    let own = world.login(&id, "ada").await;
    let session = world.open(&own).await;
    assert_eq!((session.owner(), session.get(VISITS)), (Some("ada".into()), None));
    assert!(!world.opens(&new).await);
}

#[tokio::test]
async fn login_after_a_destroy_joins_no_session() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.login(&id, "ada").await;
    let session = world.open(&id).await;
    session.destroy().unwrap();
    session.authenticate("ada").unwrap();
    let own = told(session.finish().await.unwrap());
    assert_ne!(own.key(), new.key());
    assert_eq!(world.open(&own).await.get(VISITS), None);
}

#[tokio::test]
async fn request_overtaken_without_carry_over_stores_nothing() {
    let world = World::with(|sessions| sessions.with_carry_over(false));
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.set(NOTE, "late").unwrap();
    let new = world.login(&id, "ada").await;
    assert!(matches!(writer.finish().await, Err(SessionError::Ended)));
    assert!(matches!(writer.pending_cookie(), CookieChange::Keep));
    assert_eq!(world.open(&new).await.names(), ["visits"]);
}

/// A request with the former ID never gets the values of the user's login.
#[tokio::test]
async fn concurrent_login_of_another_user_takes_nothing_over() {
    for commits_first in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let (user, other) = (world.open(&id).await, world.open(&id).await);
        user.authenticate("ada").unwrap();
        user.set(NOTE, "private").unwrap();
        let new = told(user.finish().await.unwrap());
        if commits_first {
            other.set(VISITS, 2).unwrap();
            other.commit().await.unwrap();
        }
        other.authenticate("eve").unwrap();
        assert!(matches!(other.finish().await, Err(SessionError::Ended)));
        assert!(matches!(other.pending_cookie(), CookieChange::Keep));
        assert_eq!(world.open(&new).await.owner(), Some("ada".into()));
        assert_eq!(world.count().await.0, 1);
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

// A renewal.

/// The response with the new ID was lost, and the client comes back much later.
#[tokio::test]
async fn former_id_opens_until_the_new_one_is_presented() {
    for (lifetime, away) in
        [(Lifetime::standard(), 59 * MINUTE), (Lifetime::remember_me(), 29 * DAY)]
    {
        let world = World::with_lifetime(lifetime);
        let id = world.user("ada").await;
        let new = world.renew(&id).await;
        world.wait(away);
        let session = world.open(&id).await;
        assert_eq!((session.key(), session.get(VISITS)), (Some(new.key()), Some(1)));
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        assert!(world.opens(&new).await);
    }
}

#[tokio::test]
async fn former_id_opens_for_the_grace_after_the_presentation() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    world.wait(10 * MINUTE);
    assert!(matches!(world.read(&new).await, CookieChange::Keep));
    let mut events = world.sessions.events();
    for _ in 0..3 {
        world.wait(9 * SECOND);
        let session = world.open(&id).await;
        assert_eq!((session.key(), session.get(VISITS)), (Some(new.key()), Some(1)));
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        assert!(matches!(world.read(&new).await, CookieChange::Keep));
    }
    assert_eq!(kinds(&mut events), []);
    world.wait(3 * SECOND);
    assert!(!world.opens(&id).await, "the grace is over");
    assert!(world.opens(&new).await);
}

/// The first request under the new ID starts the grace, with one more command. Later requests add
/// none.
#[tokio::test]
async fn new_id_is_recorded_as_presented_once() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    world.store.calls();
    let session = world.open(&new).await;
    assert!(session.try_finish().is_none());
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    for _ in 0..2 {
        let session = world.open(&new).await;
        assert!(session.try_finish().is_some());
        assert_eq!(world.store.calls(), [Verb::Load]);
    }
}

#[tokio::test]
async fn write_under_the_new_id_records_the_presentation_for_free() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    world.store.calls();
    world.change(&new, |session| session.set(VISITS, 2)).await;
    assert_eq!(world.store.calls(), [Verb::Load, Verb::Commit]);
    world.wait(30 * SECOND);
    assert!(!world.opens(&id).await);
}

/// The former ID stays open meanwhile: after a failure, the user is still signed in.
#[tokio::test]
async fn presentation_that_is_not_recorded_is_recorded_by_the_next() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    world.store.fail(Verb::Commit, Fault::DOWN);
    assert!(matches!(world.read(&new).await, CookieChange::Keep));
    world.wait(MINUTE);
    assert!(world.opens(&id).await);
    let _ = world.read(&new).await;
    world.wait(30 * SECOND);
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn request_with_the_former_id_does_not_start_the_grace() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    for _ in 0..5 {
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 1).unwrap();
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        world.wait(5 * MINUTE);
    }
    assert_eq!(world.open(&new).await.get(VISITS), Some(6));
}

#[tokio::test]
async fn request_under_way_receives_the_renewed_id() {
    let world = World::new();
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.update(VISITS, |visits| *visits += 1).unwrap();
    let new = world.renew(&id).await;
    assert_eq!(told(writer.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
}

/// However often an application calls `renew`, the browser's ID opens the session.
#[tokio::test]
async fn twenty_renewals_within_the_grace_keep_the_user_signed_in() {
    let world = World::new();
    let id = world.user("ada").await;
    let writer = world.open(&id).await;
    writer.set(NOTE, "under way").unwrap();
    let mut present = id.clone();
    for _ in 0..20 {
        let session = world.open(&present).await;
        session.renew().unwrap();
        if let CookieChange::Set { id, .. } = session.finish().await.unwrap() {
            present = id;
        }
        world.wait(SECOND);
    }
    assert_ne!(present.key(), id.key());
    assert_eq!(told(world.read(&id).await).expose(), present.expose());
    assert_eq!(told(writer.finish().await.unwrap()).expose(), present.expose());
    assert_eq!(world.open(&present).await.get(NOTE).as_deref(), Some("under way"));
}

/// Each renewal uses the ID that the client has just received.
#[tokio::test]
async fn former_id_opens_for_its_grace_through_many_renewals() {
    let world = World::new();
    let mut present = world.user("ada").await;
    for _ in 0..12 {
        let new = world.renew(&present).await;
        assert!(matches!(world.read(&new).await, CookieChange::Keep));
        world.wait(29 * SECOND);
        let session = world.open(&new).await;
        session.renew().unwrap();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "too early");
        assert_eq!(told(world.read(&present).await).expose(), new.expose());
        world.wait(SECOND);
        present = new;
    }
}

#[tokio::test]
async fn renewal_that_is_too_early_writes_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    let _ = world.read(&new).await;
    world.store.calls();
    let session = world.open(&new).await;
    session.renew().unwrap();
    assert!(session.try_finish().is_some());
    assert_eq!(world.store.calls(), [Verb::Load]);
}

#[tokio::test]
async fn login_after_a_renewal_closes_both_former_ids() {
    for presented in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let renewed = world.renew(&id).await;
        if presented {
            let _ = world.read(&renewed).await;
        }
        let signed_in = world.login(&renewed, "ada").await;
        assert!(!world.opens(&id).await);
        assert!(!world.opens(&renewed).await);
        assert!(world.opens(&signed_in).await);
        assert!(matches!(world.read(&id).await, CookieChange::Keep));
    }
}

#[tokio::test]
async fn login_by_a_former_id_moves_the_renewed_session() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = world.renew(&id).await;
    let signed_in = world.login(&id, "ada").await;
    assert!(!world.opens(&id).await);
    assert!(!world.opens(&renewed).await);
    assert_eq!(world.open(&signed_in).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn grace_of_zero_closes_the_former_id_with_the_presentation() {
    let world = World::with(|sessions| sessions.with_renewal_grace(Duration::ZERO));
    let id = world.visitor().await;
    let new = world.renew(&id).await;
    assert!(world.opens(&id).await, "the response may be lost");
    let _ = world.read(&new).await;
    assert!(!world.opens(&id).await);
    assert!(world.opens(&new).await);
}

#[tokio::test]
async fn renewal_keeps_owner_lifetime_end_and_login() {
    let world = World::new();
    let end = world.sessions_now() + 10 * DAY;
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    session.set_lifetime(Lifetime::remember_me()).unwrap();
    session.end_by(end).unwrap();
    let id = told(session.finish().await.unwrap());
    let began = world.sessions_now();
    world.wait(DAY);
    let session = world.open(&world.renew(&id).await).await;
    assert_eq!((session.owner(), session.authenticated_at()), (Some("ada".into()), Some(began)));
    assert_eq!((session.created_at(), session.expires_at()), (Some(began), Some(end)));
    assert_eq!(session.lifetime(), Lifetime::remember_me());
}

#[tokio::test]
async fn id_is_renewed_when_it_is_old_enough() {
    let world = World::renewed_after(10 * MINUTE);
    let id = world.visitor().await;
    world.wait(10 * MINUTE - Duration::from_millis(1));
    assert!(matches!(world.read(&id).await, CookieChange::Keep));
    world.wait(Duration::from_millis(1));
    let session = world.open(&id).await;
    assert!(session.try_finish().is_none());
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key());
    let session = world.open(&new).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

/// Due renewals, each with a lost response, for as long as the browser is in use.
#[tokio::test]
async fn due_renewals_with_lost_responses_keep_the_user_signed_in() {
    let world = World::renewed_after(10 * MINUTE);
    let id = world.user("ada").await;
    for _ in 0..5 {
        world.wait(11 * MINUTE);
        assert!(matches!(world.read(&id).await, CookieChange::Set { .. }), "a lost response");
    }
    assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);
}

#[tokio::test]
async fn due_renewal_that_fails_fails_no_request() {
    for (verb, fault) in
        [(Verb::Create, Fault::DOWN), (Verb::Commit, Fault::DOWN), (Verb::Create, Fault::UNSENT)]
    {
        let world = World::renewed_after(MINUTE);
        let id = world.visitor().await;
        world.wait(MINUTE);
        let session = world.open(&id).await;
        world.fail_twice(verb, fault);
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
        assert!(world.opens(&id).await);
    }
}

#[tokio::test]
async fn due_renewal_with_lost_answers_keeps_the_session() {
    let world = World::renewed_after(MINUTE);
    let id = world.visitor().await;
    world.wait(MINUTE);
    let session = world.open(&id).await;
    world.fail_twice(Verb::Commit, Fault::ANSWER_LOST);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn concurrent_renewals_send_the_same_id() {
    let world = World::new();
    let id = world.visitor().await;
    let (left, right) = (world.open(&id).await, world.open(&id).await);
    left.renew().unwrap();
    right.renew().unwrap();
    right.update(VISITS, |visits| *visits += 1).unwrap();
    let left = told(left.finish().await.unwrap());
    let right = told(right.finish().await.unwrap());
    assert_eq!(left.expose(), right.expose());
    assert_eq!(world.open(&left).await.get(VISITS), Some(2));
    assert_eq!(world.count().await, (1, 1));
}

#[tokio::test]
async fn renewal_of_an_unstored_session_does_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.renew().unwrap();
    session.rotate().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

// The use of an ID after its grace.

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
    world.store.fail(Verb::Delete, Fault::DOWN);
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

/// The browser never receives a response with the new ID, and works on for hours.
#[tokio::test]
async fn lost_responses_of_a_renewal_sign_no_busy_browser_out() {
    let world = World::new();
    let id = world.user("ada").await;
    let _ = world.renew(&id).await;
    for _ in 0..23 {
        world.wait(59 * MINUTE);
        assert!(world.opens(&id).await);
        let _ = world.read(&id).await;
    }
}

// The tombstones.

#[tokio::test]
async fn no_part_of_an_id_is_readable_in_the_store() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = world.renew(&id).await;
    let signed_in = world.login(&renewed, "ada").await;
    let again = world.renew(&signed_in).await;
    let rotated = world.rotate(&again).await;
    let stored = all_bytes_of(&world).await;
    assert_eq!(world.count().await, (1, 4));
    for id in [id, renewed, signed_in, again, rotated] {
        let text = id.expose().as_bytes();
        for part in text.windows(6) {
            assert!(!stored.windows(6).any(|bytes| bytes == part), "a part of an ID is stored");
        }
    }
}

#[tokio::test]
async fn tombstone_names_the_successor_and_its_lifetime() {
    let world = World::new();
    let id = world.visitor().await;
    let mut former = id;
    let begun = world.sessions_now();
    for (moving, is_renewal, until) in [
        (Session::renew as Move, true, begun + DAY),
        (sign_in, false, begun + Sessions::ROTATION_WINDOW),
        (Session::rotate, false, begun + Sessions::ROTATION_WINDOW),
    ] {
        let new = world.moved(&former, moving).await;
        let Some(Entry::Tombstone(tombstone)) = world.stored(&former).await else {
            panic!("no tombstone")
        };
        assert_eq!(tombstone.successor(), Some(new.key()));
        assert_eq!(tombstone.is_renewal(), is_renewal);
        assert_eq!(Entry::Tombstone(tombstone).expires_at(), until);
        former = new;
    }
}

/// The tombstone of a session near its deadline lives for the whole window.
#[tokio::test]
async fn tombstone_of_a_renewal_lives_for_the_window_at_least() {
    let world = World::with_lifetime(Lifetime::new(MINUTE, MINUTE).unwrap());
    let id = world.visitor().await;
    world.renew(&id).await;
    let expires_at = world.stored(&id).await.unwrap().expires_at();
    assert_eq!(expires_at, world.sessions_now() + Sessions::ROTATION_WINDOW);
    assert!(expires_at > Timestamp::default());
}
