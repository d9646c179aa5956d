//! Connections that outlive their request, on a store that reports no changes.

mod attacks;
mod reports;

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use session_core::{EndReason, Entry, Live, SessionId, SessionsBuilder, StoreErrorKind};

use crate::support::*;

const INTERVAL: Duration = Duration::from_secs(5);

/// Opens a connection in a request of the cookie, and ends the request.
pub(crate) async fn connect(world: &World, id: &SessionId) -> Live {
    let session = world.open(id).await;
    let live = session.live().await.unwrap();
    let _ = session.finish().await.unwrap();
    live
}

/// Returns the reason if the connection knows the end of its session.
pub(crate) fn end(live: &mut Live) -> Option<EndReason> {
    live.ended().now_or_never()
}

#[tokio::test]
async fn connection_ends_within_the_interval_after_a_logout() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.other_process().log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn connection_ends_after_a_revocation() {
    let world = World::new();
    let mut live = connect(&world, &world.user("ada").await).await;
    assert_eq!(end(&mut live), None);
    world.other_process().sessions.revoke_all("ada").await.unwrap();
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn end_before_the_first_wait_is_found() {
    let world = World::new();
    let mut live = connect(&world, &world.user("ada").await).await;
    world.other_process().sessions.revoke_all("ada").await.unwrap();
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn connection_ends_at_the_deadline() {
    let world = World::with(|sessions| sessions.with_live_interval(MINUTE));
    let mut live = connect(&world, &world.user("ada").await).await;
    assert_eq!(end(&mut live), None);
    world.wait(HOUR - SECOND);
    assert_eq!(end(&mut live), None);
    world.wait(SECOND);
    assert_eq!(end(&mut live), Some(EndReason::Expired));
}

#[tokio::test]
async fn connection_ends_if_a_request_sets_a_past_end() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    let past = session_core::Timestamp::from_secs(1);
    assert!(world.try_change(&id, |session| session.end_by(past)).await.is_err());
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Expired));
}

#[tokio::test]
async fn request_elsewhere_keeps_the_connection_past_the_deadline() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.wait(HOUR / 2);
    let _ = world.other_process().read(&id).await;
    world.wait(HOUR / 2);
    assert_eq!(end(&mut live), None);
}

#[tokio::test]
async fn connection_follows_the_moves_of_its_user() {
    let world = World::new();
    let mut id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    for moves in ["renewal", "rotation", "login"] {
        assert_eq!(end(&mut live), None);
        id = match moves {
            "renewal" => world.renew(&id).await,
            "rotation" => world.rotate(&id).await,
            _ => world.login(&id, "ada").await,
        };
        world.wait(INTERVAL);
        assert_eq!(end(&mut live), None, "{moves}");
        assert_eq!(live.key(), id.key(), "{moves}");
        assert_eq!(live.update(VISITS, |visits| *visits += 1).await.unwrap(), 2);
        world.change(&id, |session| session.set(VISITS, 1)).await;
    }
    world.log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn connection_of_a_visitor_follows_a_renewal() {
    let world = World::new();
    let id = world.visitor().await;
    let mut live = connect(&world, &id).await;
    let renewed = world.renew(&id).await;
    assert_eq!((end(&mut live), live.key()), (None, renewed.key()));
}

#[tokio::test]
async fn connection_ends_if_another_user_signs_in() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.login(&id, "bob").await;
    assert_eq!(end(&mut live), Some(EndReason::Replaced));
}

#[tokio::test]
async fn connection_ends_at_a_rotation_without_carry_over() {
    for closing in CLOSING {
        let world = World::with(|sessions| sessions.with_carry_over(false));
        let id = world.user("ada").await;
        let mut live = connect(&world, &id).await;
        world.moved(&id, closing).await;
        assert_eq!(end(&mut live), Some(EndReason::Replaced));
    }
}

/// The attack: the ID of a visitor was planted into the victim's browser, and the attacker holds a
/// connection while the victim signs in.
#[tokio::test]
async fn planted_connection_reaches_nothing_of_the_user() {
    let world = World::new();
    let planted = world.visitor().await;
    let mut live = connect(&world, &planted).await;
    assert_eq!(end(&mut live), None);
    let victim = world.login(&planted, "ada").await;
    world.change(&victim, |session| session.set(NOTE, "secret")).await;
    assert!(live.read(|session| session.get(NOTE)).await.is_err());
    assert!(live.update(VISITS, |visits| *visits = 666).await.is_err());
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Replaced));
    assert_eq!(world.open(&victim).await.get(VISITS), Some(1));
}

#[tokio::test]
async fn visitors_connection_ends_at_a_rotation() {
    let world = World::new();
    let planted = world.visitor().await;
    let mut live = connect(&world, &planted).await;
    world.rotate(&planted).await;
    assert_eq!(end(&mut live), Some(EndReason::Replaced));
}

/// I7: an outage is not a logout.
#[tokio::test]
async fn outage_ends_no_connection() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    for _ in 0..100 {
        assert_eq!(end(&mut live), None);
        world.wait(INTERVAL);
    }
    assert!(world.store.calls().len() <= 101 + 34, "one load per interval, jittered");
    world.store.set_outage(None);
    assert_eq!(end(&mut live), None);
    world.log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn end_during_an_outage_is_found_one_interval_after_it() {
    let world = World::new();
    let mut live = connect(&world, &world.user("ada").await).await;
    assert_eq!(end(&mut live), None);
    world.sessions.revoke_all("ada").await.unwrap();
    world.store.set_outage(Some(StoreErrorKind::Timeout));
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), None);
    world.store.set_outage(None);
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn loads_are_at_least_100_milliseconds_apart() {
    let shortest = SessionsBuilder::MIN_LIVE_INTERVAL;
    let world = World::with(|sessions| sessions.with_live_interval(shortest));
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.store.calls();
    for _ in 0..10_000 {
        assert_eq!(end(&mut live), None);
        world.wait(MILLISECOND);
    }
    let loads = world.store.calls().len();
    assert!((95..=100).contains(&loads), "{loads}");
}

/// A client that floods its socket, so that a `select!` drops the wait all the time, neither causes
/// loads nor delays the end.
#[tokio::test]
async fn dropped_waits_continue() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.store.calls();
    for _ in 0..4_000 {
        assert_eq!(end(&mut live), None);
        world.wait(MILLISECOND);
    }
    assert!(world.store.calls().len() <= 2);
    world.log_out(&id).await;
    for _ in 0..5_000 {
        world.wait(MILLISECOND);
        if end(&mut live).is_some() {
            return;
        }
    }
    panic!("the end came too late");
}

#[tokio::test]
async fn open_connection_is_no_use_of_the_session() {
    let world = World::new();
    let mut live = connect(&world, &world.user("ada").await).await;
    for _ in 0..720 {
        assert_eq!(end(&mut live), None);
        let _ = live.read(|session| session.get(VISITS)).await.unwrap();
        world.wait(INTERVAL);
    }
    assert_eq!(end(&mut live), Some(EndReason::Expired));
    assert!(live.touch().await.is_err(), "a touch revives no session");
}

#[tokio::test]
async fn touch_keeps_the_session_and_is_throttled() {
    let world = World::new();
    let id = world.user("ada").await;
    let live = connect(&world, &id).await;
    world.store.calls();
    for _ in 0..240 {
        live.touch().await.unwrap();
        world.wait(MINUTE);
    }
    let touches = world.store.calls().len();
    assert!((39..=41).contains(&touches), "one per 6 minutes, not {touches}");
    assert!(world.opens(&id).await);
}

#[tokio::test]
async fn touch_follows_a_renewal() {
    let world = World::new();
    let id = world.user("ada").await;
    let live = connect(&world, &id).await;
    let renewed = world.renew(&id).await;
    for _ in 0..24 {
        // The tombstone of the former key lives for 5 minutes.
        live.read(|_| ()).await.unwrap();
        world.wait(4 * MINUTE);
        live.touch().await.unwrap();
    }
    assert!(world.opens(&renewed).await);
}

/// I1: updates of a connection and of requests add up.
#[tokio::test]
async fn updates_of_connections_and_requests_add_up() {
    let world = World::new();
    let id = world.user("ada").await;
    let (first, second) = (connect(&world, &id).await, connect(&world.other_process(), &id).await);
    for _ in 0..10 {
        let request = world.open(&id).await;
        request.update(VISITS, |visits| *visits += 1).unwrap();
        first.update(VISITS, |visits| *visits += 1).await.unwrap();
        let seen = second.update(VISITS, |visits| *visits += 1).await.unwrap();
        let _ = request.finish().await.unwrap();
        assert_eq!(first.read(|session| session.get(VISITS)).await.unwrap(), Some(seen + 1));
    }
    assert_eq!(world.open(&id).await.get(VISITS), Some(31));
}

#[tokio::test]
async fn update_returns_the_stored_value_after_a_conflict() {
    let world = World::new();
    let id = world.user("ada").await;
    let live = connect(&world, &id).await;
    let (other, cookie) = (world.other_process(), id.clone());
    world.store.before(Verb::Commit, || async move {
        other.change(&cookie, |session| session.update(VISITS, |visits| *visits += 10)).await;
    });
    assert_eq!(live.update(VISITS, |visits| *visits += 1).await.unwrap(), 12);
}

/// I2: no resurrection.
#[tokio::test]
async fn update_after_the_end_stores_nothing() {
    let world = World::new();
    let id = world.user("ada").await;
    let live = connect(&world, &id).await;
    world.log_out(&id).await;
    assert!(live.update(VISITS, |visits| *visits += 1).await.is_err());
    assert!(live.touch().await.is_ok(), "the touch is not due");
    world.wait(10 * MINUTE);
    assert!(live.touch().await.is_err());
    assert!(!world.opens(&id).await);
}

#[tokio::test]
async fn refused_update_stores_nothing() {
    let world = World::new();
    let live = connect(&world, &world.user("ada").await).await;
    let refused = live.try_update(VISITS, |_, _| Err("no")).await;
    assert!(refused.is_err());
    assert_eq!(live.read(|session| session.get(VISITS)).await.unwrap(), Some(1));
}

#[tokio::test]
async fn visitor_without_a_session_has_no_connection() {
    let world = World::new();
    let session = world.anonymous().await;
    assert!(session.live().await.is_err());
    assert!(world.store.calls().is_empty());
    session.set(NOTE, "stored first").unwrap();
    let live = session.live().await.unwrap();
    assert_eq!(live.read(|session| session.get(NOTE)).await.unwrap().unwrap(), "stored first");
}

#[tokio::test]
async fn destroyed_session_has_no_connection() {
    let world = World::new();
    let session = world.open(&world.user("ada").await).await;
    session.destroy().unwrap();
    assert!(session.live().await.is_err());
}

/// A connection may last for hours, and a session may be large.
#[tokio::test]
async fn waiting_connection_keeps_no_record() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    let Some(Entry::Session(record)) = world.stored(&id).await else { panic!() };
    assert_eq!(Arc::strong_count(&record), 2, "in the store and in this test");
}

#[tokio::test]
async fn connection_knows_the_owner_and_the_actor() {
    let world = World::new();
    let id = world.user("ada").await;
    assert_eq!(connect(&world, &id).await.actor(), None);
    let mut before = connect(&world, &id).await;
    let acting = world.moved(&id, |session| session.act_as("grace", HOUR)).await;
    let mut live = connect(&world, &acting).await;
    assert_eq!((live.owner(), live.actor()), (Some("grace".into()), Some("ada".into())));
    assert_eq!(end(&mut before), Some(EndReason::Replaced));
    assert_eq!(end(&mut live), None);
    world.moved(&acting, |session| session.stop_acting()).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Replaced));
    assert_eq!(live.actor(), Some("ada".into()));
}

#[tokio::test]
async fn clone_waits_for_the_same_end() {
    let world = World::new();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    let mut clone = live.clone();
    assert_eq!((end(&mut live), end(&mut clone)), (None, None));
    world.log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut clone), Some(EndReason::Deleted));
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn debug_output_shows_no_id() {
    let world = World::new();
    let id = world.user("ada").await;
    let text = format!("{:?}", connect(&world, &id).await);
    assert!(text.contains(&id.key().to_string()) && !text.contains(id.expose()), "{text}");
}
