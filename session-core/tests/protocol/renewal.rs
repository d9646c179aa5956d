//! I4: a renewal signs nobody out: the former ID opens the session until the grace is over.

use std::time::Duration;

use session_core::{CookieChange, Lifetime, Sessions, Timestamp};

use crate::support::{DAY, Fault, MINUTE, NOTE, SECOND, VISITS, Verb, World, kinds, told};

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

/// Another request has renewed the session. Before the response, a login moves the session.
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
