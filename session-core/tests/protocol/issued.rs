//! Values under tokens: one request receives each, and a session keeps the last few.

use std::{pin::Pin, sync::Arc};

use session_core::{Key, Session, SessionError, SessionId, Sessions};

use crate::support::{
    Fault, HOUR, MILLISECOND, MINUTE, NOTE, Steps, VISITS, Verb, World, all_bytes_of,
    interleavings, run, steps, told,
};

const ATTEMPT: Key<String> = Key::new("sign-in");

/// The same key in another version of the application.
const NUMBER: Key<u64> = Key::new(ATTEMPT.name());

async fn issue(world: &World, id: &SessionId, token: &str) {
    world.change(id, |session| session.issue(ATTEMPT, token, token, HOUR)).await;
}

async fn redeem(world: &World, id: &SessionId, token: &str) -> Option<String> {
    let session = world.open(id).await;
    let value = session.redeem(ATTEMPT, token).await.unwrap();
    let _ = session.finish().await.unwrap();
    value
}

#[tokio::test]
async fn issued_value_is_redeemed_once() {
    let world = World::new();
    let id = world.visitor().await;
    for token in ["one", "two"] {
        issue(&world, &id, token).await;
    }
    assert_eq!(redeem(&world, &id, "one").await.as_deref(), Some("one"));
    assert_eq!(redeem(&world, &id, "one").await, None);
    assert_eq!(redeem(&world, &id, "two").await.as_deref(), Some("two"));
    assert_eq!(world.open(&id).await.names(), [VISITS.name()], "nothing is left behind");
}

#[tokio::test]
async fn request_redeems_the_value_that_it_has_issued() {
    let world = World::new();
    let session = world.anonymous().await;
    session.issue(ATTEMPT, "token", "now", HOUR).unwrap();
    assert_eq!(session.redeem(ATTEMPT, "token").await.unwrap().as_deref(), Some("now"));
    let id = told(session.finish().await.unwrap());
    assert_eq!(redeem(&world, &id, "token").await, None);
}

#[tokio::test]
async fn token_of_another_session_is_unknown_and_writes_nothing() {
    let world = World::new();
    let (ada, mallory) = (world.visitor().await, world.visitor().await);
    issue(&world, &mallory, "token").await;
    issue(&world, &ada, "another").await;
    for victim in [world.open(&ada).await, world.anonymous().await] {
        let _ = world.store.calls();
        for token in ["token", "", &"x".repeat(100_000)] {
            assert_eq!(victim.redeem(ATTEMPT, token).await.unwrap(), None);
        }
        assert_eq!(world.store.calls(), []);
    }
    assert!(redeem(&world, &ada, "another").await.is_some());
}

#[tokio::test]
async fn keys_have_tokens_of_their_own() {
    const FORM: Key<String> = Key::new("form");
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    assert_eq!(world.open(&id).await.redeem(FORM, "token").await.unwrap(), None);
    assert!(redeem(&world, &id, "token").await.is_some());
}

#[tokio::test]
async fn value_can_be_redeemed_until_its_deadline() {
    for (wait, is_live) in [(MINUTE - MILLISECOND, true), (MINUTE, false)] {
        let world = World::new();
        let id = world.visitor().await;
        world.change(&id, |session| session.issue(ATTEMPT, "token", "value", MINUTE)).await;
        world.wait(wait);
        assert_eq!(redeem(&world, &id, "token").await.is_some(), is_live, "{wait:?}");
    }
}

#[tokio::test]
async fn second_value_under_one_token_replaces_the_first() {
    let world = World::new();
    let id = world.visitor().await;
    for value in ["first", "second"] {
        world.change(&id, |session| session.issue(ATTEMPT, "token", value, HOUR)).await;
    }
    assert_eq!(redeem(&world, &id, "token").await.as_deref(), Some("second"));
    assert_eq!(redeem(&world, &id, "token").await, None);
}

/// I9: the surplus leaves, whether one request issues the values or many do.
#[tokio::test]
async fn session_keeps_the_last_issued_values() {
    for is_one_request in [true, false] {
        let world = World::new();
        let id = world.visitor().await;
        let tokens: Vec<_> = (0..Session::MAX_ISSUED + 2).map(|n| n.to_string()).collect();
        let session = world.open(&id).await;
        for token in &tokens {
            if is_one_request {
                session.issue(ATTEMPT, token, &**token, HOUR).unwrap();
            } else {
                issue(&world, &id, token).await;
            }
        }
        let _ = session.finish().await.unwrap();
        let mut redeemed = Vec::new();
        for token in &tokens {
            redeemed.extend(redeem(&world, &id, token).await);
        }
        assert_eq!(redeemed, tokens[2..]);
    }
}

/// Otherwise they would take the room of those that still count.
#[tokio::test]
async fn next_issue_removes_expired_values() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "live").await;
    for n in 1..Session::MAX_ISSUED {
        let token = n.to_string();
        world.change(&id, |session| session.issue(ATTEMPT, &token, "expired", MINUTE)).await;
    }
    world.wait(MINUTE);
    issue(&world, &id, "next").await;
    assert!(redeem(&world, &id, "live").await.is_some());
    assert!(redeem(&world, &id, "next").await.is_some());
    assert_eq!(world.open(&id).await.names(), [VISITS.name()]);
}

#[tokio::test]
async fn remove_takes_all_tokens_back() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    world.change(&id, |session| session.remove(ATTEMPT)).await;
    assert_eq!(redeem(&world, &id, "token").await, None);
}

#[tokio::test]
async fn issued_value_survives_the_login_of_a_visitor() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    let id = world.login(&id, "ada").await;
    let bob = world.login(&id, "bob").await;
    assert_eq!(redeem(&world, &bob, "token").await, None, "the values of another user are gone");

    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    let id = world.login(&id, "ada").await;
    assert!(redeem(&world, &id, "token").await.is_some());
}

/// I11: a deployment that changed a type makes no page fail, and a rollback reads the value again.
#[tokio::test]
async fn value_in_another_format_is_unknown_and_stays() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    assert_eq!(world.open(&id).await.redeem(NUMBER, "token").await.unwrap(), None);
    assert_eq!(world.sessions.unreadable_values(), 1);
    world.change(&id, |session| session.issue(NUMBER, "number", 7, HOUR)).await;
    assert_eq!(world.open(&id).await.redeem(NUMBER, "number").await.unwrap(), Some(7));
    assert!(redeem(&world, &id, "token").await.is_some(), "one unreadable value costs no other");
}

#[tokio::test]
async fn issue_replaces_a_value_that_is_no_list() {
    let world = World::new();
    let id = world.visitor().await;
    world.change(&id, |session| session.set(ATTEMPT, "by another version")).await;
    assert_eq!(redeem(&world, &id, "token").await, None);
    issue(&world, &id, "token").await;
    assert!(redeem(&world, &id, "token").await.is_some());
}

/// I10: neither the store nor a log has the token.
#[tokio::test]
async fn token_is_neither_stored_nor_shown() {
    let world = World::new();
    let id = world.visitor().await;
    let token = "rvZkPq3xT0c";
    let session = world.open(&id).await;
    session.issue(ATTEMPT, token, "value", HOUR).unwrap();
    assert!(!format!("{session:?} {:?}", session.names()).contains(token));
    let _ = session.finish().await.unwrap();
    let stored = all_bytes_of(&world).await;
    assert!(stored.windows(5).any(|part| part == b"value"));
    assert!(!stored.windows(5).any(|part| token.as_bytes().starts_with(part)));
}

#[tokio::test]
async fn refused_issue_leaves_the_session_unchanged() {
    let world = World::new();
    let session = world.anonymous().await;
    let large = "x".repeat(40 * 1024);
    session.issue(ATTEMPT, "one", &*large, HOUR).unwrap();
    let refused = session.issue(ATTEMPT, "two", &*large, HOUR);
    assert!(matches!(refused, Err(SessionError::TooLarge { .. })), "{refused:?}");
    let refused = session.issue(Key::<u64>::new(&"n".repeat(129)), "token", 1, HOUR);
    assert!(matches!(refused, Err(SessionError::TooLarge { limit: 128, .. })), "{refused:?}");
    assert_eq!(session.redeem(ATTEMPT, "two").await.unwrap(), None);
    assert!(session.redeem(ATTEMPT, "one").await.unwrap().is_some());
}

#[tokio::test]
async fn value_is_redeemed_if_the_answer_is_lost() {
    for fault in [Fault::ANSWER_LOST, Fault::UNSENT] {
        let world = World::new();
        let id = world.visitor().await;
        issue(&world, &id, "token").await;
        world.store.fail(Verb::Commit, fault);
        assert!(redeem(&world, &id, "token").await.is_some());
        assert_eq!(redeem(&world, &id, "token").await, None);
    }
}

/// A request gets the value only if its removal is certain.
#[tokio::test]
async fn redeem_fails_if_no_answer_comes() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    let session = world.open(&id).await;
    world.fail_twice(Verb::Commit, Fault::ANSWER_LOST);
    let answer = session.redeem(ATTEMPT, "token").await;
    assert!(matches!(answer, Err(SessionError::Store(_))), "{answer:?}");
    assert_eq!(redeem(&world, &id, "token").await, None);
}

#[tokio::test]
async fn redeem_returns_nothing_if_the_value_was_replaced() {
    let world = World::new();
    let id = world.visitor().await;
    issue(&world, &id, "token").await;
    let session = world.open(&id).await;
    world.change(&id, |session| session.issue(ATTEMPT, "token", "newer", HOUR)).await;
    assert_eq!(session.redeem(ATTEMPT, "token").await.unwrap(), None);
    assert_eq!(redeem(&world, &id, "token").await.as_deref(), Some("newer"));
}

type Request = Pin<Box<dyn Future<Output = Option<String>>>>;

fn request<F>(
    sessions: &Sessions,
    id: &SessionId,
    handler: impl FnOnce(Session) -> F + 'static,
) -> Request
where
    F: Future<Output = Result<Option<String>, SessionError>>,
{
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        let value = handler(session.clone()).await.unwrap();
        let _ = session.finish().await.unwrap();
        value
    })
}

fn redeemer(sessions: &Sessions, id: &SessionId, token: &'static str) -> Request {
    request(sessions, id, async move |session| session.redeem(ATTEMPT, token).await)
}

fn issuer(sessions: &Sessions, id: &SessionId, token: &'static str) -> Request {
    request(sessions, id, async move |session| {
        session.issue(ATTEMPT, token, token, HOUR).map(|()| None)
    })
}

/// Returns two processes and a session in which these tokens are issued.
fn site(tokens: &[&str]) -> (Arc<Steps>, [Sessions; 2], SessionId) {
    let store = Arc::new(steps());
    let processes = [(); 2].map(|()| Sessions::new(Arc::clone(&store)));
    let id = run(async {
        let session = processes[0].open([]).await.unwrap();
        session.set(NOTE, "a session").unwrap();
        for token in tokens {
            session.issue(ATTEMPT, token, *token, HOUR).unwrap();
        }
        told(session.finish().await.unwrap())
    });
    (store, processes, id)
}

/// I1: also beside a request that issues another value, in every order.
#[test]
fn one_of_two_requests_redeems_a_value_in_every_order() {
    let make = || {
        let (store, [one, other], id) = site(&["old"]);
        let requests =
            [redeemer(&one, &id, "old"), redeemer(&other, &id, "old"), issuer(&other, &id, "new")];
        ((store, one, id), requests)
    };
    interleavings(7, make, |(_store, sessions, id), redeemed, order| {
        assert_eq!(redeemed.iter().flatten().collect::<Vec<_>>(), ["old"], "{order:?}");
        assert_eq!(run(redeemer(&sessions, &id, "new")).as_deref(), Some("new"), "{order:?}");
    });
}

/// Two tabs return at the same time.
#[test]
fn concurrent_requests_redeem_a_value_each() {
    let make = || {
        let (store, [one, other], id) = site(&["one", "two"]);
        let requests = [redeemer(&one, &id, "one"), redeemer(&other, &id, "two")];
        ((store, one, id), requests)
    };
    interleavings(9, make, |(_store, sessions, id), redeemed, order| {
        assert!(redeemed.iter().all(Option::is_some), "{order:?}: {redeemed:?}");
        let session = run(sessions.open([id.expose().as_bytes()])).unwrap();
        assert_eq!(session.names(), [NOTE.name()], "{order:?}");
    });
}

/// I1 and I9: the bound holds for concurrent requests too, and the oldest leaves.
#[test]
fn concurrent_requests_issue_no_more_than_the_bound() {
    const OLD: [&str; Session::MAX_ISSUED - 1] = ["1", "2", "3", "4", "5", "6", "7"];
    let make = || {
        let (store, [one, other], id) = site(&OLD);
        let requests = [issuer(&one, &id, "left"), issuer(&other, &id, "right")];
        ((store, one, id), requests)
    };
    interleavings(9, make, |(_store, sessions, id), _, order| {
        let mut redeemed = Vec::new();
        for token in OLD.into_iter().chain(["left", "right"]) {
            redeemed.extend(run(redeemer(&sessions, &id, token)));
        }
        assert_eq!(redeemed, ["2", "3", "4", "5", "6", "7", "left", "right"], "{order:?}");
    });
}
