//! I4: an overtaken request stores its values, and receives no ID and no value.

use std::{error::Error as _, sync::mpsc};

use session_core::{AtLimit, CookieChange, Key, Lifetime, SessionError, SessionLimit};

use crate::support::{CLOSING, NOTE, TOKEN, VISITS, Verb, World, finish, told};

/// The renewal was about to replay its changes on a newer record when a login moved the session.
#[tokio::test]
async fn renewal_overtaken_by_a_login_stores_its_values() {
    for max in [1, 2] {
        let change = replayed_beside_a_login(max).await;
        assert!(matches!(change, Ok(CookieChange::Keep)), "with room for {max}: {change:?}");
    }
}

async fn replayed_beside_a_login(max: usize) -> Result<CookieChange, SessionError> {
    let limit = SessionLimit::new(max, AtLimit::Reject).unwrap();
    let world = World::with(|sessions| sessions.with_session_limit(limit));
    let id = world.user("ada").await;
    let (renews, writes) = (world.open(&id).await, world.open(&id).await);
    let other = world.other_process_with(|sessions| sessions.with_session_limit(limit));
    renews.renew().unwrap();
    renews.set(NOTE, "kept").unwrap();
    writes.set(VISITS, 5).unwrap();
    // The first commit is the renewal's tombstone, the second is the write, and the third is the
    // renewal, replayed on the write.
    world.store.before(Verb::Commit, move || async move { writes.commit().await.unwrap() });
    let (send, ids) = mpsc::channel();
    world.store.before_nth(3, Verb::Commit, move || async move {
        let session = other.open(&id).await;
        session.authenticate("ada").unwrap();
        send.send(told(session.finish().await.unwrap())).unwrap();
    });
    let change = renews.finish().await?;
    let session = world.open(&ids.try_recv().unwrap()).await;
    assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (Some(5), Some("kept")));
    assert_eq!(world.sessions.list("ada").await.unwrap().len(), 1);
    assert_eq!(world.count().await.0, 1);
    assert_eq!(world.count_entered().await, 1);
    Ok(change)
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

/// I4: after the login, a slow request with a planted ID reads no value of the session.
#[tokio::test]
async fn overtaken_request_never_sees_the_session_after_a_login() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("victim").unwrap();
    login.set(TOKEN, "secret").unwrap();
    let new = told(login.finish().await.unwrap());

    for round in ["first", "second"] {
        slow.set(NOTE, round).unwrap();
        slow.commit().await.unwrap();
        assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None), "{round}");
        assert_eq!(slow.get(NOTE).as_deref(), Some(round));
        // The value is carried over all the same.
        assert_eq!(world.open(&new).await.get(NOTE).as_deref(), Some(round));
    }
    slow.renew().unwrap();
    slow.update(VISITS, |visits| *visits += 1).unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
    assert_eq!((slow.owner(), slow.get(TOKEN)), (None, None));
    assert_eq!(world.open(&new).await.get(VISITS), Some(2));
    assert!(!world.opens(&id).await);
}

/// I2: the deletion does not stop at the old key.
#[tokio::test]
async fn overtaken_request_that_wrote_can_still_destroy() {
    let world = World::new();
    let id = world.visitor().await;
    let (slow, login) = (world.open(&id).await, world.open(&id).await);
    login.authenticate("ada").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.set(NOTE, "carried over").unwrap();
    slow.commit().await.unwrap();
    slow.destroy().unwrap();
    let _ = slow.finish().await.unwrap();
    assert!(!world.opens(&new).await);
}

fn chain(error: &SessionError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(" {error}"));
        source = error.source();
    }
    text
}

/// I4: an overtaken request learns nothing of the new content.
#[tokio::test]
async fn overtaken_update_sees_no_new_content() {
    let world = World::new();
    let id = world.visitor().await;
    let held = world.open(&id).await;
    let login = world.open(&id).await;
    login.authenticate("victim").unwrap();
    login.set(TOKEN, "secret").unwrap();
    let _ = login.finish().await.unwrap();
    held.try_update(NOTE, |note, view| {
        note.push('x');
        match view.get(TOKEN) {
            Some(token) => {
                Err(format!("token {token} of {:?}", view.owner().and_then(|o| o.as_str())))
            }
            None => Ok(()),
        }
    })
    .unwrap();
    if let Err(error) = held.finish().await {
        assert!(!chain(&error).contains("secret"), "{}", chain(&error));
    }
}

/// I4: an overtaken request learns no value of the new session by the error of an `update` either.
#[tokio::test]
async fn overtaken_update_returns_no_value_in_an_error() {
    const NUMBER: Key<Vec<u64>> = Key::new("note");
    let world = World::new();
    let id = world.visitor().await;
    let held = world.open(&id).await;
    held.update(NUMBER, |list| list.push(1)).unwrap();
    let login = world.open(&id).await;
    login.authenticate("victim").unwrap();
    login.set(NOTE, "secret").unwrap();
    let _ = login.finish().await.unwrap();
    let error = held.finish().await.unwrap_err();
    assert!(!chain(&error).contains("secret"), "{}", chain(&error));
}

/// After its own overtaken commit, the request sets a value to the former one, or removes a value that
/// it has never seen.
#[tokio::test]
async fn change_after_an_overtaken_commit_is_stored() {
    for note in [Some("a"), None] {
        let world = World::new();
        let id = match note {
            Some(note) => world.begin(|session| session.set(NOTE, note)).await,
            None => world.visitor().await,
        };
        let (slow, login) = (world.open(&id).await, world.open(&id).await);
        login.authenticate("ada").unwrap();
        login.set(NOTE, "b").unwrap();
        let new = finish(login).await;
        slow.set(VISITS, 5).unwrap();
        slow.commit().await.unwrap();
        match note {
            Some(note) => slow.set(NOTE, note).unwrap(),
            None => slow.remove(NOTE).unwrap(),
        }
        slow.commit().await.unwrap();
        let session = world.open(&new).await;
        assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (Some(5), note));
    }
}

/// A slow request undoes no login of another tab.
#[tokio::test]
async fn discarded_destroy_sends_no_old_id() {
    let world = World::new();
    let id = world.visitor().await;
    let slow = world.open(&id).await;
    let _new = world.login(&id, "ada").await;
    slow.set_lifetime(Lifetime::remember_me()).unwrap();
    slow.set(NOTE, "slow").unwrap();
    let clone = slow.clone();
    world.store.before(Verb::Commit, move || async move { clone.destroy().unwrap() });
    slow.commit().await.unwrap();
    slow.discard();
    let change = slow.finish().await.unwrap();
    assert!(matches!(change, CookieChange::Keep), "{change:?}");
}
