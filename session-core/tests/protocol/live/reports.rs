//! Connections on a store that reports changes, and that may report more than has changed.

use std::time::Duration;

use session_core::{EndReason, Live, SessionId, SessionsBuilder, Watchers};

use super::{INTERVAL, connect, end};
use crate::support::*;

/// Opens a connection of ada on a store that reports the changes that the test reports. The connection
/// has loaded once.
async fn connected(interval: Duration) -> (World, Watchers, SessionId, Live) {
    let world = World::with(|sessions| sessions.with_live_interval(interval));
    let watchers = world.store.report_changes();
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.store.calls();
    (world, watchers, id, live)
}

/// Polls the connection until its load is done.
fn settle(world: &World, live: &mut Live) -> Option<EndReason> {
    end(live).or_else(|| {
        world.wait(MILLISECOND);
        end(live)
    })
}

#[tokio::test]
async fn reported_end_arrives_without_polling() {
    let (world, watchers, id, mut live) = connected(SessionsBuilder::MAX_LIVE_INTERVAL).await;
    world.wait(SECOND);
    world.log_out(&id).await;
    watchers.report_change(&id.key());
    assert_eq!(settle(&world, &mut live), Some(EndReason::Deleted));
}

/// The loads in 12 intervals: 7 until the gap is one interval, then 4 in 3 intervals.
const MOST_LOADS: usize = 7 + 12 / 3 * 4;

/// A full tracking table reports each key that it evicts.
#[tokio::test]
async fn false_reports_cost_what_polling_costs() {
    let (world, watchers, id, mut live) = connected(INTERVAL).await;
    let mut loads = Vec::new();
    for _ in 0..60 {
        for _ in 0..100 {
            watchers.report_change(&id.key());
            assert_eq!(end(&mut live), None);
            world.wait(10 * MILLISECOND);
        }
        loads.push(world.store.calls().len());
    }
    assert!(loads.iter().sum::<usize>() <= MOST_LOADS, "{loads:?}");
    // The longest silence between two loads is the interval.
    assert!(loads.windows(6).all(|seconds| seconds.iter().sum::<usize>() > 0), "{loads:?}");
    world.log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

/// A tracking table with slightly fewer places than there are connections, so that each of them is
/// reported from time to time only.
#[tokio::test]
async fn false_reports_now_and_then_cost_little_more() {
    const SECONDS: u32 = 600;
    for (connections, places) in [(21_u32, 20), (22, 20), (30, 20)] {
        let world = World::with(|sessions| sessions.with_live_interval(INTERVAL));
        let watchers = world.store.report_changes();
        let mut all = Vec::new();
        for number in 0..connections {
            let id = world.user(&format!("user-{number}")).await;
            all.push((id.key(), connect(&world, &id).await));
        }
        world.store.calls();
        let (mut tracked, mut loads, mut draw) = (Vec::new(), 0_u32, 0);
        for _ in 0..SECONDS * 20 {
            for (key, live) in &mut all {
                assert_eq!(end(live), None);
                if world.store.calls().is_empty() {
                    continue;
                }
                loads += 1;
                tracked.retain(|other| other != key);
                tracked.push(*key);
                if tracked.len() > places {
                    // A linear congruential generator.
                    draw = (draw * 1_103_515_245 + 12_345) % (1_usize << 31);
                    watchers.report_change(&tracked.swap_remove((draw >> 16) % places));
                }
            }
            world.wait(50 * MILLISECOND);
        }
        // The jitter shortens the interval by an eighth on average.
        let interval = INTERVAL.as_secs_f64() * 7.0 / 8.0;
        let polls = f64::from(connections * SECONDS) / interval;
        let ratio = f64::from(loads) / polls;
        println!("{connections} connections, {places} places: {ratio:.2} of polling");
        assert!(ratio < 1.4, "{connections} connections: {loads} loads, {polls:.0} by polling");
    }
}

/// A full tracking table while requests change the session: a change costs its own load, and false
/// reports cost no more than without it.
#[tokio::test]
async fn false_reports_between_changes_cost_what_polling_costs() {
    const CHANGES: usize = 12;
    let (world, watchers, id, mut live) = connected(INTERVAL).await;
    let mut loads = 0;
    for _ in 0..CHANGES {
        world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
        world.store.calls();
        for _ in 0..500 {
            watchers.report_change(&id.key());
            assert_eq!(end(&mut live), None);
            loads += world.store.calls().len();
            world.wait(10 * MILLISECOND);
        }
    }
    assert!(loads <= MOST_LOADS + CHANGES, "{loads}");
}

#[tokio::test]
async fn end_arrives_without_polling_again_after_false_reports() {
    let (world, watchers, id, mut live) = connected(INTERVAL).await;
    for _ in 0..1_000 {
        watchers.report_change(&id.key());
        assert_eq!(end(&mut live), None);
        world.wait(10 * MILLISECOND);
    }
    // Each poll without a report halves the gap: six of them, from 5 s to 100 ms.
    for _ in 0..7 {
        assert_eq!(end(&mut live), None);
        world.wait(INTERVAL);
    }
    assert_eq!(end(&mut live), None);
    world.wait(SECOND);
    world.log_out(&id).await;
    watchers.report_change(&id.key());
    assert_eq!(settle(&world, &mut live), Some(EndReason::Deleted));
}

/// Reports of real changes never delay the next report.
#[tokio::test]
async fn end_of_a_busy_session_arrives_without_polling() {
    let (world, watchers, id, mut live) = connected(SessionsBuilder::MAX_LIVE_INTERVAL).await;
    for _ in 0..100 {
        world.change(&id, |session| session.update(VISITS, |visits| *visits += 1)).await;
        watchers.report_change(&id.key());
        assert_eq!(end(&mut live), None);
        world.wait(200 * MILLISECOND);
    }
    world.log_out(&id).await;
    watchers.report_change(&id.key());
    assert_eq!(settle(&world, &mut live), Some(EndReason::Deleted));
}

/// The loads after a loss of reports are spread over 5 seconds.
#[tokio::test]
async fn connections_spread_their_loads_after_a_loss() {
    const CONNECTIONS: usize = 200;
    let (world, watchers, id, live) = connected(SessionsBuilder::MAX_LIVE_INTERVAL).await;
    let mut connections = vec![live];
    for _ in 1..CONNECTIONS {
        connections.push(connect(&world, &id).await);
    }
    assert!(connections.iter_mut().all(|live| end(live).is_none()));
    world.wait(SECOND);
    world.store.calls();
    watchers.report_loss();
    let mut loads = Vec::new();
    for _ in 0..11 {
        assert!(connections.iter_mut().all(|live| end(live).is_none()));
        loads.push(world.store.calls().len());
        world.wait(500 * MILLISECOND);
    }
    assert_eq!(loads.iter().sum::<usize>(), CONNECTIONS, "{loads:?}");
    assert!(loads.iter().all(|loads| *loads < CONNECTIONS / 4), "{loads:?}");
}

/// A node that flaps: each new connection to it is lost.
#[tokio::test]
async fn repeated_losses_cost_what_polling_costs() {
    let (world, watchers, _, mut live) = connected(INTERVAL).await;
    for _ in 0..6_000 {
        watchers.report_loss();
        assert_eq!(end(&mut live), None);
        world.wait(10 * MILLISECOND);
    }
    let loads = world.store.calls().len();
    assert!((11..=MOST_LOADS).contains(&loads), "{loads}");
}
