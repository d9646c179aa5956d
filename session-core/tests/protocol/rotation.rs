//! I4: rotation loses nothing and leaves nothing.

use std::time::Duration;

use session_core::{
    CookieChange, Entry, Lifetime, SessionError, SessionId, Sessions, StoreErrorKind,
};

use crate::support::{Fault, NOTE, VISITS, Verb, World, all_bytes_of, told};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

async fn login(world: &World, id: &SessionId, owner: &str) -> SessionId {
    let session = world.open(id).await;
    session.authenticate(owner).unwrap();
    told(session.finish().await.unwrap())
}

async fn renew(world: &World, id: &SessionId) -> SessionId {
    let session = world.open(id).await;
    session.renew().unwrap();
    told(session.finish().await.unwrap())
}

#[tokio::test]
async fn a_login_keeps_the_values_under_a_new_id_and_the_old_one_opens_nothing() {
    let world = World::new();
    let id = world.visitor().await;
    let new = login(&world, &id, "ada").await;
    assert_ne!(new.key(), id.key());
    assert!(!world.opens(&id).await);
    let session = world.open(&new).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert_eq!(session.owner(), Some("ada".into()));
    assert_eq!(session.authenticated_at(), Some(world.sessions_now()));
    assert_eq!(world.count().await, (1, 1));
    world.wait(Sessions::ROTATION_WINDOW);
    assert_eq!(world.count().await, (1, 0), "the tombstone goes by itself");
}

#[tokio::test]
async fn a_login_begins_the_absolute_lifetime_anew() {
    let world = World::new();
    let id = world.visitor().await;
    world.wait(30 * MINUTE);
    let new = login(&world, &id, "ada").await;
    assert_eq!(world.open(&new).await.created_at(), Some(world.sessions_now()));
}

#[tokio::test]
async fn a_login_without_a_session_before_makes_one() {
    let world = World::new();
    let session = world.anonymous().await;
    session.authenticate("ada").unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.store.calls(), [Verb::CreateEntered]);
    assert_eq!(world.open(&id).await.owner(), Some("ada".into()));
}

#[tokio::test]
async fn the_new_record_is_there_before_the_old_one_goes() {
    let world = World::new();
    let id = world.visitor().await;
    login(&world, &id, "ada").await;
    assert_eq!(world.store.calls(), [Verb::Load, Verb::CreateEntered, Verb::Commit]);
}

#[tokio::test]
async fn a_crash_between_leaves_the_old_id_working() {
    for rotation in ["login", "renewal"] {
        for fault in [Fault::DOWN, Fault::Before(StoreErrorKind::Full)] {
            for verb in [Verb::Create, Verb::Commit] {
                let world = World::new();
                let id = world.visitor().await;
                let session = world.open(&id).await;
                let verb = match rotation {
                    "login" => {
                        session.authenticate("ada").unwrap();
                        if verb == Verb::Create { Verb::CreateEntered } else { verb }
                    }
                    _ => {
                        session.renew().unwrap();
                        verb
                    }
                };
                world.store.fail(verb, fault);
                assert!(matches!(session.finish().await, Err(SessionError::Store(_))));
                let after = world.open(&id).await;
                assert_eq!(after.get(VISITS), Some(1));
                assert_eq!(after.owner(), None);
                assert_eq!(world.count().await, (1, 0), "what came to nothing is removed");
                assert_eq!(world.store.count_entered(world.sessions_now()).await, 0);
            }
        }
    }
}

#[tokio::test]
async fn a_dropped_login_leaves_the_old_id_working() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, std::future::pending);
    tokio::select! {
        biased;
        _ = session.finish() => panic!("the store does not answer"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(world.open(&id).await.get(VISITS), Some(1));
    assert!(matches!(session.commit().await, Err(SessionError::Unconfirmed)));
}

#[tokio::test]
async fn a_writer_under_way_is_merged_into_the_session_after_a_login() {
    let world = World::new();
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.update(VISITS, |visits| *visits += 1).unwrap();
    writer.set(NOTE, &"before the login".to_owned()).unwrap();
    let new = login(&world, &id, "ada").await;
    let change = writer.finish().await.unwrap();
    assert!(matches!(change, CookieChange::Keep), "who held the old ID is told nothing");
    let session = world.open(&new).await;
    assert_eq!(session.get(VISITS), Some(2));
    assert_eq!(session.get(NOTE).as_deref(), Some("before the login"));
    assert_eq!(session.owner(), Some("ada".into()));
}

#[tokio::test]
async fn a_commit_between_load_and_tombstone_is_merged() {
    for rotation in ["login", "renewal"] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.update(VISITS, |visits| *visits += 100).unwrap();
        match rotation {
            "login" => session.authenticate("ada").unwrap(),
            _ => session.renew().unwrap(),
        }
        let (other, former) = (world.other_process(), id.clone());
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.update(VISITS, |visits| *visits += 10).unwrap();
            session.set(NOTE, &"between".to_owned()).unwrap();
            let _ = session.finish().await.unwrap();
        });
        let new = told(session.finish().await.unwrap());
        let after = world.open(&new).await;
        assert_eq!(after.get(VISITS), Some(111));
        assert_eq!(after.get(NOTE).as_deref(), Some("between"));
    }
}

#[tokio::test]
async fn a_merge_that_fails_in_the_middle_of_a_login_leaves_no_second_session() {
    for fault in [Fault::DOWN, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        let session = world.open(&id).await;
        session.authenticate("ada").unwrap();
        let (other, former) = (world.other_process(), id.clone());
        let store = std::sync::Arc::clone(&world.store);
        world.store.before(Verb::Commit, move || async move {
            let session = other.open(&former).await;
            session.set(NOTE, &"between".to_owned()).unwrap();
            let _ = session.finish().await.unwrap();
            // The commit onto the new record, both times if it is asked twice.
            store.fail_nth(1, Verb::Commit, fault);
            store.fail_nth(2, Verb::Commit, fault);
        });
        assert!(session.finish().await.is_err());
        assert!(world.opens(&id).await);
        assert_eq!(world.count().await, (1, 0));
    }
}

#[tokio::test]
async fn an_update_that_cannot_be_merged_leaves_no_second_session() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let long = "l".repeat(40 * 1024);
    session.update(NOTE, move |note| note.push_str(&long)).unwrap();
    session.authenticate("ada").unwrap();
    let (other, former) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, move || async move {
        let session = other.open(&former).await;
        session.set(NOTE, &"r".repeat(40 * 1024)).unwrap();
        let _ = session.finish().await.unwrap();
    });
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    assert!(world.opens(&id).await);
    assert_eq!(world.count().await, (1, 0));
}

#[tokio::test]
async fn of_two_logins_at_once_the_later_has_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    first.authenticate("ada").unwrap();
    second.authenticate("ada").unwrap();
    let first = told(first.finish().await.unwrap());
    let second = told(second.finish().await.unwrap());
    assert!(!world.opens(&id).await);
    assert!(!world.opens(&first).await);
    assert_eq!(world.open(&second).await.owner(), Some("ada".into()));
    assert_eq!(world.count().await.0, 1);
}

/// What a user's login brought into a session is not for who held its former ID.
#[tokio::test]
async fn a_login_of_another_user_at_once_takes_nothing_over() {
    for commit_first in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let (user, other) = (world.open(&id).await, world.open(&id).await);
        user.authenticate("ada").unwrap();
        user.set(NOTE, &"private".to_owned()).unwrap();
        let new = told(user.finish().await.unwrap());
        if commit_first {
            other.set(VISITS, &2).unwrap();
            other.commit().await.unwrap();
        }
        other.authenticate("eve").unwrap();
        assert!(matches!(other.finish().await, Err(SessionError::Ended)));
        assert_eq!(world.open(&new).await.owner(), Some("ada".into()));
        assert_eq!(world.count().await.0, 1);
    }
}

/// And what a user left in the session, or is just writing to it, is not for the next one.
#[tokio::test]
async fn another_user_begins_without_values_and_gets_none_of_who_was_there() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(VISITS), Some(1), "what the visitor left");

    let late = world.open(&id).await;
    late.set(NOTE, &"private".to_owned()).unwrap();
    let session = world.open(&id).await;
    session.set(NOTE, &"private too".to_owned()).unwrap();
    session.authenticate("grace").unwrap();
    assert_eq!(session.names(), [""; 0]);
    session.set(VISITS, &7).unwrap();
    let id = told(session.finish().await.unwrap());
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    let session = world.open(&id).await;
    assert_eq!((session.names(), session.get(VISITS)), (vec!["visits".to_owned()], Some(7)));

    session.authenticate("grace").unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.get(VISITS), Some(7), "the same user keeps them");
}

#[tokio::test]
async fn a_renewal_leaves_the_former_id_open_for_the_grace_and_tells_the_new_one_again() {
    let world = World::new();
    let id = world.visitor().await;
    let new = renew(&world, &id).await;
    for _ in 0..3 {
        world.wait(9 * SECOND);
        let session = world.open(&id).await;
        assert_eq!(session.key(), Some(new.key()));
        assert_eq!(session.get(VISITS), Some(1));
        assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
        let session = world.open(&new).await;
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    }
    world.wait(3 * SECOND);
    assert!(!world.opens(&id).await, "the grace is over");
    assert!(world.opens(&new).await);
}

#[tokio::test]
async fn a_former_id_writes_to_the_renewed_session() {
    let world = World::new();
    let id = world.visitor().await;
    let new = renew(&world, &id).await;
    let session = world.open(&id).await;
    session.update(VISITS, |visits| *visits += 1).unwrap();
    assert_eq!(told(session.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
}

#[tokio::test]
async fn a_writer_under_way_is_merged_after_a_renewal_and_told_the_new_id() {
    let world = World::new();
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.update(VISITS, |visits| *visits += 1).unwrap();
    let new = renew(&world, &id).await;
    assert_eq!(told(writer.finish().await.unwrap()).expose(), new.expose());
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
}

#[tokio::test]
async fn a_former_id_follows_several_renewals_within_the_grace() {
    let world = World::new();
    let id = world.visitor().await;
    let mut last = id.clone();
    for _ in 0..5 {
        last = renew(&world, &last).await;
    }
    let session = world.open(&id).await;
    assert_eq!(session.key(), Some(last.key()));
    assert_eq!(told(session.finish().await.unwrap()).expose(), last.expose());
}

#[tokio::test]
async fn a_login_after_a_renewal_closes_the_former_ids_too() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = renew(&world, &id).await;
    let signed_in = login(&world, &renewed, "ada").await;
    assert!(!world.opens(&id).await);
    assert!(!world.opens(&renewed).await);
    assert!(world.opens(&signed_in).await);
}

#[tokio::test]
async fn a_login_by_a_former_id_within_the_grace_moves_the_renewed_session() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = renew(&world, &id).await;
    let signed_in = login(&world, &id, "ada").await;
    assert!(!world.opens(&id).await);
    assert!(!world.opens(&renewed).await);
    assert_eq!(world.open(&signed_in).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn a_grace_of_zero_closes_the_former_id_at_once() {
    let world = World::with(|sessions| sessions.with_renewal_grace(Duration::ZERO).unwrap());
    let id = world.visitor().await;
    let new = renew(&world, &id).await;
    assert!(!world.opens(&id).await);
    assert!(world.opens(&new).await);
}

#[tokio::test]
async fn an_old_id_is_renewed_by_itself() {
    let lifetime = Lifetime::aal2().with_renew_after(10 * MINUTE).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    world.wait(10 * MINUTE - Duration::from_millis(1));
    assert!(matches!(world.open(&id).await.finish().await.unwrap(), CookieChange::Keep));
    world.wait(Duration::from_millis(1));
    let session = world.open(&id).await;
    assert!(session.finish_without_io().is_none());
    let new = told(session.finish().await.unwrap());
    assert_ne!(new.key(), id.key());
    let session = world.open(&new).await;
    assert_eq!(session.get(VISITS), Some(1));
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
}

#[tokio::test]
async fn a_renewal_that_fails_fails_no_request() {
    let lifetime = Lifetime::aal2().with_renew_after(MINUTE).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    world.wait(MINUTE);
    for (verb, fault) in
        [(Verb::Create, Fault::DOWN), (Verb::Commit, Fault::DOWN), (Verb::Create, Fault::UNSENT)]
    {
        let session = world.open(&id).await;
        world.store.fail(verb, fault);
        if matches!(fault, Fault::Before(StoreErrorKind::Timeout)) {
            world.store.fail_nth(2, verb, fault);
        }
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
        assert!(world.opens(&id).await);
    }
}

#[tokio::test]
async fn a_renewal_whose_answers_were_lost_logs_nobody_out() {
    let lifetime = Lifetime::aal2().with_renew_after(MINUTE).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    world.wait(MINUTE);
    let session = world.open(&id).await;
    world.store.fail_nth(1, Verb::Commit, Fault::ANSWER_LOST);
    world.store.fail_nth(2, Verb::Commit, Fault::ANSWER_LOST);
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.open(&id).await;
    assert_eq!(session.get(VISITS), Some(1));
    let new = told(session.finish().await.unwrap());
    assert_eq!(world.open(&new).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn of_two_renewals_at_once_one_counts_and_both_tell_the_same_id() {
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
async fn a_renewal_of_what_was_never_stored_is_nothing() {
    let world = World::new();
    let session = world.anonymous().await;
    session.renew().unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);
}

/// A fixed session (planted by an attacker, who keeps a request under way) gives no way into the
/// session after the login.
#[tokio::test]
async fn who_held_the_former_id_is_never_told_the_id_after_a_login() {
    let world = World::new();
    let id = world.visitor().await;
    let held = world.open(&id).await;
    held.set(NOTE, &"held".to_owned()).unwrap();
    let new = login(&world, &id, "ada").await;
    held.commit().await.unwrap();
    held.renew().unwrap();
    held.set(NOTE, &"held on".to_owned()).unwrap();
    assert!(matches!(held.finish().await.unwrap(), CookieChange::Keep));
    assert!(world.opens(&new).await, "the user's ID still opens the session");
}

#[tokio::test]
async fn who_held_the_former_id_is_not_told_by_a_renewal_that_is_due() {
    let lifetime = Lifetime::aal2().with_renew_after(MINUTE).unwrap();
    let world = World::with_lifetime(lifetime);
    let id = world.visitor().await;
    let held = world.open(&id).await;
    held.set(NOTE, &"held".to_owned()).unwrap();
    let new = login(&world, &id, "ada").await;
    held.commit().await.unwrap();
    world.wait(MINUTE);
    assert!(matches!(held.finish().await.unwrap(), CookieChange::Keep));
    assert!(world.opens(&new).await, "the user's ID still opens the session");
}

#[tokio::test]
async fn no_id_is_readable_in_what_is_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let renewed = renew(&world, &id).await;
    let signed_in = login(&world, &renewed, "ada").await;
    let again = renew(&world, &signed_in).await;
    let stored = all_bytes_of(&world).await;
    assert_eq!(world.count().await, (1, 3));
    for id in [id, renewed, signed_in, again] {
        let text = id.expose().as_bytes();
        for part in text.windows(6) {
            assert!(!stored.windows(6).any(|bytes| bytes == part), "a part of an ID is stored");
        }
    }
}

#[tokio::test]
async fn a_tombstone_says_what_it_promises() {
    let world = World::new();
    let id = world.visitor().await;
    let new = renew(&world, &id).await;
    let Some(Entry::Moved(tombstone)) = world.stored(&id).await else { panic!("no tombstone") };
    assert_eq!(tombstone.successor(), Some(new.key()));
    assert_eq!(tombstone.opens_until(), Some(world.sessions_now() + 30 * SECOND));
    let signed_in = login(&world, &new, "ada").await;
    let Some(Entry::Moved(tombstone)) = world.stored(&new).await else { panic!("no tombstone") };
    assert_eq!(tombstone.successor(), Some(signed_in.key()));
    assert_eq!(tombstone.opens_until(), None);
}

#[tokio::test]
async fn the_window_for_a_merge_is_bounded() {
    let world = World::new();
    let id = world.visitor().await;
    let writer = world.open(&id).await;
    writer.set(NOTE, &"too late".to_owned()).unwrap();
    let new = login(&world, &id, "ada").await;
    world.wait(Sessions::ROTATION_WINDOW);
    assert!(matches!(writer.finish().await, Err(SessionError::Ended)));
    assert_eq!(world.open(&new).await.get(NOTE), None);
}
