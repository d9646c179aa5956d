//! I4: an ID of the age of `Lifetime::with_renew_after` is renewed, and this fails no request.

use std::time::Duration;

use session_core::CookieChange;

use crate::support::{CLOSING, Fault, MINUTE, NOTE, SECOND, VISITS, Verb, World, told};

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
