//! Defects that an attack has found: replays, overtaken requests, the session limit.

use std::{
    error::Error as _,
    sync::{Arc, Mutex},
};

use session_core::{AtLimit, CookieChange, Key, Lifetime, Limits, SessionError};

use crate::support::{NOTE, SECOND, TOKEN, VISITS, Verb, World, told};

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

/// I9: a session never has more values than the limit.
#[tokio::test]
async fn replay_keeps_the_limit_of_values() {
    let world = World::with(|s| s.with_limits(Limits::default().with_values(2)));
    let id = world.begin(|session| session.set(NOTE, "n".repeat(200))).await;
    let one = world.open(&id).await;
    one.remove(NOTE).unwrap();
    one.set(Key::<u64>::new("a"), 1).unwrap();
    one.set(Key::<u64>::new("b"), 1).unwrap();
    world.change(&id, |session| session.set(Key::<u64>::new("x"), 1)).await;
    let answer = one.finish().await;
    let names = world.open(&id).await.names();
    assert!(names.len() <= 2, "{names:?} {answer:?}");
}

/// I8: a login evicts no later login, also if the evictions take 16 seconds, on one clock.
#[tokio::test]
async fn slow_eviction_evicts_no_later_login() {
    let plain = World::new();
    let world = plain.with_limit(1, AtLimit::EvictOldest);
    let id = world.user("ada").await;
    world.wait(60 * SECOND);
    let other = plain.with_limit(1, AtLimit::EvictOldest);
    let again = Arc::new(Mutex::new(None));
    let result = Arc::clone(&again);
    world.store.before(Verb::DeleteOrBlock, move || async move {
        other.wait(16 * SECOND);
        let session = other.open(&id).await;
        session.authenticate("ada").unwrap();
        *result.lock().unwrap() = Some(told(session.finish().await.unwrap()));
    });
    let elsewhere = world.anonymous().await;
    elsewhere.authenticate("ada").unwrap();
    let answer = elsewhere.finish().await;
    let again = again.lock().unwrap().take().unwrap();
    assert!(world.opens(&again).await, "the later login was evicted: {answer:?}");
}

/// I1: the closure of a `try_update` runs again on the newer value, if the request also removes it.
#[tokio::test]
async fn refusal_is_checked_again_before_a_removal() {
    let world = World::new();
    let id = world.begin(|session| session.set(TOKEN, "coupon")).await;
    let redeem = |session: &session_core::Session| {
        session
            .try_update(TOKEN, |token, _| if token.is_empty() { Err("used") } else { Ok(()) })
            .unwrap();
        session.remove(TOKEN).unwrap();
        session.update(VISITS, |visits| *visits += 1).unwrap();
    };
    let (one, two) = (world.open(&id).await, world.open(&id).await);
    redeem(&one);
    redeem(&two);
    let _ = one.finish().await.unwrap();
    let second = two.finish().await;
    assert!(matches!(second, Err(SessionError::Refused { .. })), "{second:?}");
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

/// The docs of `take_once`: an end that came first reports `Ended`, and sends no dead ID.
#[tokio::test]
async fn take_once_on_an_ended_session_sends_no_id() {
    let world = World::new();
    let session = world.anonymous().await;
    session.set(TOKEN, "state").unwrap();
    session.authenticate("ada").unwrap();
    session.commit().await.unwrap();
    let other = world.other_process();
    other.sessions.revoke_all("ada").await.unwrap();
    let answer = session.take_once(TOKEN).await;
    assert!(matches!(answer, Err(SessionError::Ended)), "{answer:?}");
    assert!(matches!(session.pending_cookie(), CookieChange::Keep));
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

/// I1: N concurrent attempts at one coupon, by `try_update` and `set`.
#[tokio::test]
async fn refusal_is_checked_again_before_a_set() {
    let world = World::new();
    let id = world.begin(|session| session.set(VISITS, 10)).await;
    const PAID: Key<u64> = Key::new("paid");
    let pay = |session: &session_core::Session| {
        session
            .try_update(VISITS, |credit, _| {
                *credit = credit.checked_sub(10).ok_or("no credit")?;
                Ok::<_, &str>(())
            })
            .unwrap();
        let left = session.get(VISITS).unwrap();
        session.set(VISITS, left).unwrap();
        session.update(PAID, |paid| *paid += 10).unwrap();
    };
    let (one, two) = (world.open(&id).await, world.open(&id).await);
    pay(&one);
    pay(&two);
    let _ = one.finish().await.unwrap();
    let second = two.finish().await;
    assert!(matches!(second, Err(SessionError::Refused { .. })), "{second:?}");
}

/// I9: the replay keeps the limit of values in every order: how far beyond the limit?
#[tokio::test]
async fn replays_collect_no_values_beyond_the_limit() {
    let world = World::with(|s| s.with_limits(Limits::default().with_values(10)));
    let id = world.begin(|session| session.set(NOTE, "n".repeat(50_000))).await;
    let mut requests = Vec::new();
    for request in 0..20 {
        let session = world.open(&id).await;
        session.set(NOTE, "n".repeat(40_000 - 1_000 * request)).unwrap();
        for value in 0..9 {
            let name = format!("{request}-{value}");
            session.set(Key::<u64>::new(&name), 1).unwrap();
        }
        requests.push(session);
    }
    for session in requests {
        let _ = session.finish().await;
    }
    let count = world.open(&id).await.names().len();
    assert!(count <= 10, "{count} values");
}

/// loaded the same value before the login.
#[tokio::test]
async fn set_after_an_overtaken_commit_is_stored() {
    let world = World::new();
    let id = world.begin(|session| session.set(NOTE, "a")).await;
    let slow = world.open(&id).await;
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    login.set(NOTE, "b").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.set(VISITS, 5).unwrap();
    slow.commit().await.unwrap();
    slow.set(NOTE, "a").unwrap();
    slow.commit().await.unwrap();
    let session = world.open(&new).await;
    assert_eq!((session.get(VISITS), session.get(NOTE).as_deref()), (Some(5), Some("a")));
}

/// The same for a value that the request has never seen: a removal after the overtaken commit.
#[tokio::test]
async fn removal_after_an_overtaken_commit_is_stored() {
    let world = World::new();
    let id = world.visitor().await;
    let slow = world.open(&id).await;
    let login = world.open(&id).await;
    login.authenticate("ada").unwrap();
    login.set(NOTE, "b").unwrap();
    let new = told(login.finish().await.unwrap());
    slow.set(VISITS, 5).unwrap();
    slow.commit().await.unwrap();
    slow.remove(NOTE).unwrap();
    slow.commit().await.unwrap();
    assert!(!world.open(&new).await.contains(NOTE));
}

/// I4: a renewal was found done by another request. Before the response, a login moves the session on.
#[tokio::test]
async fn renewal_by_another_request_sends_no_id_that_a_login_closed() {
    for commits in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let (first, second) = (world.open(&id).await, world.open(&id).await);
        first.renew().unwrap();
        second.renew().unwrap();
        let new = told(first.finish().await.unwrap());
        if commits {
            second.commit().await.unwrap();
        }
        let _ = world.login(&new, "ada").await;
        let change = second.finish().await;
        assert!(!matches!(change, Ok(CookieChange::Set { .. })), "{change:?}");
    }
}

/// The record of the use finds no session: the ID in the response would be dead.
#[tokio::test]
async fn touch_that_finds_no_session_sends_no_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let slow = world.open(&id).await;
    slow.renew().unwrap();
    slow.commit().await.unwrap();
    world.wait(360 * SECOND);
    world.sessions.revoke_all("ada").await.unwrap();
    assert!(matches!(slow.finish().await.unwrap(), CookieChange::Keep));
}

/// A lifetime that has passed ends the session, even if the request's own copy of it had expired before.
#[tokio::test]
async fn lifetime_that_has_passed_ends_a_session_that_another_extended() {
    let world = World::new();
    let id = world.user("ada").await;
    let slow = world.open(&id).await;
    world.wait(1_800 * SECOND);
    let _ = world.read(&id).await;
    world.wait(1_801 * SECOND);
    assert!(world.opens(&id).await);
    slow.set_lifetime(Lifetime::new(600 * SECOND, 3_600 * SECOND).unwrap()).unwrap();
    assert!(matches!(slow.finish().await, Err(SessionError::Ended)));
    assert!(!world.opens(&id).await);
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

/// Another request has recorded the first use of the renewed ID. The later use counts as well.
#[tokio::test]
async fn use_is_recorded_beside_the_first_use_of_an_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let new = world.renew(&id).await;
    let (first, second) = (world.open(&new).await, world.open(&new).await);
    let _ = first.finish().await.unwrap();
    world.wait(1_800 * SECOND);
    let _ = second.finish().await.unwrap();
    world.wait(3_000 * SECOND);
    assert!(world.opens(&new).await);
}
