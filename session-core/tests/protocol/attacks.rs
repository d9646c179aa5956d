//! What an attack on the protocol found, each kept from coming back.

use session_core::{CookieChange, Key, Lifetime, SessionError, StoreErrorKind};

use crate::support::{Fault, NOTE, VISITS, Verb, World, told};

const TOKEN: Key<String> = Key::new("token");

/// I4: a fixed ID and a slow request must not read what the user who signed in has.
#[tokio::test]
async fn a_request_from_before_a_login_does_not_see_the_session_after_it() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("victim").unwrap();
    login.set(TOKEN, &"secret".to_owned()).unwrap();
    let new = told(login.finish().await.unwrap());

    for round in ["first", "second"] {
        slow.set(NOTE, &round.to_owned()).unwrap();
        slow.commit().await.unwrap();
        assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None), "{round}");
        assert_eq!(slow.get(NOTE).as_deref(), Some(round));
        // It is merged all the same.
        assert_eq!(world.open(&new).await.get(NOTE).as_deref(), Some(round));
    }
    slow.renew().unwrap();
    slow.update(VISITS, |visits| *visits += 1).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None));
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
    assert!(!world.opens(&id).await);
}

/// I4: nor does ending it stop at the old key.
#[tokio::test]
async fn a_request_that_was_merged_into_a_login_can_still_end_the_session() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.set(NOTE, &"merged".to_owned()).unwrap();
    slow.commit().await.unwrap();
    slow.destroy().unwrap();
    let _ = slow.finish().await.unwrap();
    assert!(!world.opens(&new).await);
}

/// I2: a logout that failed half way is not done the next time it is asked, unless it is.
#[tokio::test]
async fn a_logout_that_is_repeated_still_finds_where_the_session_went() {
    let world = World::new();
    let id = world.visitor().await;
    let (ending, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());

    ending.destroy().unwrap();
    world.store.fail_nth(2, Verb::Delete, Fault::DOWN);
    assert!(matches!(ending.commit().await, Err(SessionError::Store(_))));
    assert!(world.opens(&new).await);
    assert!(matches!(ending.finish().await.unwrap(), CookieChange::Remove));
    assert!(!world.opens(&new).await, "the logout reported success");
}

/// I2, I11: what an older version cannot read it can still end.
#[tokio::test]
async fn logout_and_login_end_a_session_that_cannot_be_read() {
    for login in [false, true] {
        let world = World::new();
        let id = world.user("ada").await;
        world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let session = world.open(&id).await;
        assert_eq!(session.key(), None);
        if login {
            session.authenticate("ada").unwrap();
        } else {
            session.destroy().unwrap();
        }
        let change = session.finish().await.unwrap();
        assert_eq!(matches!(change, CookieChange::Remove), !login);
        assert_eq!(world.stored(&id).await, None);
    }
}

/// I1: the later commit wins, also where it writes what it had read.
#[tokio::test]
async fn a_set_of_what_was_there_wins_over_an_earlier_commit_of_something_else() {
    let world = World::new();
    let id = world.visitor().await;
    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    other.set(VISITS, &9).unwrap();
    other.set(TOKEN, &"theirs".to_owned()).unwrap();
    let _ = other.finish().await.unwrap();
    mine.set(VISITS, &1).unwrap();
    mine.remove(TOKEN).unwrap();
    mine.set(NOTE, &"mine".to_owned()).unwrap();
    let _ = mine.finish().await.unwrap();
    let session = world.open(&id).await;
    assert_eq!((session.get(VISITS), session.get(TOKEN)), (Some(1), None));

    let (mine, other) = (world.open(&id).await, world.open(&id).await);
    mine.remove(NOTE).unwrap();
    mine.remove(VISITS).unwrap();
    mine.clear().unwrap();
    other.set(TOKEN, &"theirs".to_owned()).unwrap();
    let _ = other.finish().await.unwrap();
    let _ = mine.finish().await.unwrap();
    assert_eq!(world.open(&id).await.names(), Vec::<String>::new());
}

/// I6: a clone's change that cannot be done to the newer session fails the commit that it is part of.
#[tokio::test]
async fn a_change_made_during_a_commit_is_stored_or_reported() {
    let world = World::with(|sessions| {
        sessions.with_limits(session_core::Limits::default().with_values(2))
    });
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let (clone, other) = (session.clone(), world.open(&id).await);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.before(Verb::Commit, move || async move {
        // Fits what this request sees; not what the other one leaves.
        clone.set(NOTE, &"late".to_owned()).unwrap();
        other.set(TOKEN, &"theirs".to_owned()).unwrap();
        let _ = other.finish().await.unwrap();
    });
    session.commit().await.unwrap();
    assert!(matches!(session.finish().await, Err(SessionError::TooLarge { .. })));
    let stored = world.open(&id).await;
    assert_eq!((stored.get(VISITS), stored.get(NOTE)), (Some(2), None));
}

/// The application's closures run without the session's lock.
#[tokio::test]
async fn an_update_may_use_the_session_also_when_it_is_replayed() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(NOTE, &"first".to_owned()).unwrap();
    world.store.before(Verb::Commit, move || async move {
        let reader = clone.clone();
        clone.update(VISITS, move |visits| *visits += reader.names().len() as u64).unwrap();
    });
    session.commit().await.unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(3));
}

/// I4: an ID that is stored is told, whatever fails after that.
#[tokio::test]
async fn what_an_earlier_commit_stored_is_told_although_a_later_one_fails() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    session.set(NOTE, &"lost".to_owned()).unwrap();
    world.store.set_broken(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    world.store.set_broken(None);
    let new = told(session.untold_cookie());
    assert!(world.opens(&new).await);

    // A failure alone tells nothing.
    let session = world.open(&new).await;
    session.destroy().unwrap();
    world.store.set_broken(Some(StoreErrorKind::Unavailable));
    assert!(session.finish().await.is_err());
    assert!(matches!(session.untold_cookie(), CookieChange::Keep));
}

/// I7: a cookie that was not tried may be the one that lives.
#[tokio::test]
async fn a_cookie_behind_too_many_dead_ones_is_not_removed() {
    let world = World::new();
    let id = world.visitor().await;
    let junk = [b"junk".as_slice(); 4];
    let cookies = junk.into_iter().chain([id.expose().as_bytes()]);
    let session = world.sessions.open(cookies).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    let session = world.sessions.open(junk).await.unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Remove));
}

#[tokio::test]
async fn discard_takes_back_a_destroy_also_during_a_commit() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.set(NOTE, &"kept".to_owned()).unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.destroy().unwrap();
        clone.discard();
    });
    session.commit().await.unwrap();
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(NOTE).as_deref(), Some("kept"));
}

/// Django CVE-2015-5143: visitors who were never written anything to fill no store.
#[tokio::test]
async fn a_lifetime_alone_is_no_session() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!(world.store.calls(), []);

    let session = world.anonymous().await;
    session.set_lifetime(Lifetime::aal1()).unwrap();
    session.set(VISITS, &1).unwrap();
    let id = told(session.finish().await.unwrap());
    assert_eq!(world.open(&id).await.lifetime(), Lifetime::aal1());
}

/// Who ends a superseded session on purpose may begin a new one at once.
#[tokio::test]
async fn after_destroy_a_superseded_cookie_is_no_obstacle() {
    let world = World::new();
    let id = world.visitor().await;
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    let late = world.open(&id).await;
    late.set(NOTE, &"refused".to_owned()).unwrap();
    assert!(matches!(late.finish().await, Err(SessionError::Ended)));
    let late = world.open(&id).await;
    late.destroy().unwrap();
    late.set(NOTE, &"fresh".to_owned()).unwrap();
    let fresh = told(late.finish().await.unwrap());
    assert_eq!(world.open(&fresh).await.names(), ["note"]);
}

/// A commit that waits for others gives up in the end (I9).
#[tokio::test]
async fn a_commit_does_not_wait_for_ever() {
    let world = World::new();
    let id = world.visitor().await;
    let (session, other) = (world.open(&id).await, world.open(&id).await);
    session.set(NOTE, &"late".to_owned()).unwrap();
    other.set(VISITS, &2).unwrap();
    let clock = std::sync::Arc::clone(&world.clock);
    world.store.before(Verb::Commit, move || async move {
        let _ = other.finish().await.unwrap();
        clock.advance(std::time::Duration::from_secs(6));
    });
    assert!(matches!(session.commit().await, Err(SessionError::Contended)));
}

/// A session from before the limits were lowered can be used, and shrink.
#[tokio::test]
async fn a_session_over_the_limits_can_still_shrink() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(NOTE, &"x".repeat(1_000)).unwrap();
    let _ = session.finish().await.unwrap();
    let strict = session_core::Sessions::new(std::sync::Arc::clone(&world.store))
        .with_clock(std::sync::Arc::clone(&world.clock))
        .with_limits(session_core::Limits::default().with_session_bytes(100));
    let strict = std::sync::Arc::new(strict);
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    session.set(NOTE, &"x".repeat(900)).unwrap();
    session.update(VISITS, |visits| *visits += 1).unwrap();
    let _ = session.finish().await.unwrap();
    let session = strict.open([id.expose().as_bytes()]).await.unwrap();
    assert!(matches!(session.set(NOTE, &"x".repeat(901)), Err(SessionError::TooLarge { .. })));
}

/// I6: what a clone records during a commit is stored with what comes after it, or reported.
#[tokio::test]
async fn a_change_after_one_that_did_not_fit_does_not_drop_it() {
    let world = World::with(|sessions| {
        sessions.with_limits(session_core::Limits::default().with_values(2))
    });
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let (clone, other) = (session.clone(), world.open(&id).await);
    session.update(VISITS, |visits| *visits += 1).unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.set(NOTE, &"late".to_owned()).unwrap();
        other.set(TOKEN, &"theirs".to_owned()).unwrap();
        let _ = other.finish().await.unwrap();
    });
    session.commit().await.unwrap();
    // Its own pending change is still what the request sees, and this makes room for it.
    assert_eq!(session.get(NOTE).as_deref(), Some("late"));
    session.remove(TOKEN).unwrap();
    let finished = session.finish().await;
    let stored = world.open(&id).await.get(NOTE);
    assert!(finished.is_err() || stored.as_deref() == Some("late"), "{finished:?}, {stored:?}");
}

/// A closure that changes the session is against the rules, but must not hang the server.
#[tokio::test]
async fn an_update_that_writes_when_it_is_replayed_ends() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    session.set(TOKEN, &"same".to_owned()).unwrap();
    session.commit().await.unwrap();
    let clone = session.clone();
    session.set(NOTE, &"first".to_owned()).unwrap();
    world.store.before(Verb::Commit, move || async move {
        let writer = clone.clone();
        let change = move |visits: &mut u64| {
            *visits += 1;
            let _ = writer.set(TOKEN, &"same".to_owned());
        };
        clone.update(VISITS, change).unwrap();
    });
    session.commit().await.unwrap();
    // Once the response begins the closure's own writes are refused, and the update settles.
    let _ = session.finish().await.unwrap();
    assert_eq!(world.open(&id).await.get(VISITS), Some(2));
}

/// I4, I7: the browser of somebody who has just signed in is not told a dead ID.
#[tokio::test]
async fn a_request_that_a_login_overtook_sets_no_cookie() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    slow.set_lifetime(Lifetime::aal1()).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));

    // Opened by a former ID, so that there was something to tell.
    let id = world.visitor().await;
    let renewal = world.open(&id).await;
    renewal.renew().unwrap();
    let renewed = told(renewal.finish().await.unwrap());
    let (slow, login) = (world.open(&id).await, world.open(&renewed).await);
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    slow.set(NOTE, &"merged".to_owned()).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
}

/// I7: in whatever order the browser sends them.
#[tokio::test]
async fn a_superseded_cookie_counts_more_than_one_that_cannot_be_read() {
    let world = World::new();
    let (id, unreadable) = (world.visitor().await, world.visitor().await);
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    let _ = login.finish().await.unwrap();
    for (nth, cookies) in [[&unreadable, &id], [&id, &unreadable]].into_iter().enumerate() {
        world.store.fail_nth(nth + 1, Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
        let cookies = cookies.map(|id| id.expose().as_bytes());
        let session = world.sessions.open(cookies).await.unwrap();
        assert!(matches!(session.finish().await.unwrap(), CookieChange::Keep), "{nth}");
    }
}

#[tokio::test]
async fn discard_after_a_destroy_during_a_login_keeps_the_login() {
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
async fn a_request_does_not_finish_while_a_clone_commits() {
    let world = World::new();
    let id = world.visitor().await;
    let session = world.open(&id).await;
    let clone = session.clone();
    session.authenticate("ada").unwrap();
    world.store.before(Verb::Commit, move || async move {
        clone.discard();
        assert!(clone.finish_without_io().is_none());
    });
    session.commit().await.unwrap();
    assert!(world.opens(&told(session.finish().await.unwrap())).await);
}
