//! Connections on a store that reports changes, and that may report more than has changed.

use std::{sync::Arc, time::Duration};

use session_core::{
    Committed, Created, EndReason, Entry, Expected, IndexEntry, IndexKey, Live, SessionIndex,
    SessionKey, SessionStore, Sessions, SessionsBuilder, StoreError, Timestamp, Touched, Watched,
    Watchers, async_trait,
};

use super::{INTERVAL, connect, end};
use crate::support::*;

/// A store whose reports are made by a test.
#[derive(Debug)]
struct Reporting {
    probe: Arc<Probe>,
    watchers: Watchers,
}

/// An application on a store whose reports are made by the test.
fn world(interval: Duration) -> (World, Watchers) {
    let world = World::new();
    let watchers = Watchers::default();
    let store = Reporting { probe: Arc::clone(&world.store), watchers: watchers.clone() };
    let sessions = Sessions::builder(store).with_clock(Arc::clone(&world.clock));
    let sessions = sessions.with_live_interval(interval).build().unwrap();
    (World { sessions, ..world }, watchers)
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
    let (world, watchers) = world(SessionsBuilder::MAX_LIVE_INTERVAL);
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
    world.wait(SECOND);
    world.log_out(&id).await;
    watchers.report_change(&id.key());
    assert_eq!(settle(&world, &mut live), Some(EndReason::Deleted));
}

/// A full tracking table reports each key that it evicts.
#[tokio::test]
async fn false_reports_cost_what_polling_costs() {
    let (world, watchers) = world(INTERVAL);
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.store.calls();
    let mut loads = Vec::new();
    for _ in 0..60 {
        for _ in 0..100 {
            watchers.report_change(&id.key());
            assert_eq!(end(&mut live), None);
            world.wait(10 * MILLISECOND);
        }
        loads.push(world.store.calls().len());
    }
    assert!(
        loads.iter().sum::<usize>() <= 7 + 60 / 3,
        "at most 6 before the gap is 5 s: {loads:?}"
    );
    // The longest silence between two loads is the interval.
    assert!(loads.windows(6).all(|seconds| seconds.iter().sum::<usize>() > 0), "{loads:?}");
    world.log_out(&id).await;
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), Some(EndReason::Deleted));
}

#[tokio::test]
async fn end_arrives_without_polling_again_after_false_reports() {
    let (world, watchers) = world(INTERVAL);
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    for _ in 0..1_000 {
        watchers.report_change(&id.key());
        assert_eq!(end(&mut live), None);
        world.wait(10 * MILLISECOND);
    }
    // A poll without a report ends the row.
    assert_eq!(end(&mut live), None);
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), None);
    world.wait(INTERVAL);
    assert_eq!(end(&mut live), None);
    world.wait(SECOND);
    world.log_out(&id).await;
    watchers.report_change(&id.key());
    assert_eq!(settle(&world, &mut live), Some(EndReason::Deleted));
}

/// Reports of real changes never delay the next report.
#[tokio::test]
async fn end_of_a_busy_session_arrives_without_polling() {
    let (world, watchers) = world(SessionsBuilder::MAX_LIVE_INTERVAL);
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    assert_eq!(end(&mut live), None);
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
    let (world, watchers) = world(SessionsBuilder::MAX_LIVE_INTERVAL);
    let id = world.user("ada").await;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
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
    let (world, watchers) = world(INTERVAL);
    let id = world.user("ada").await;
    let mut live = connect(&world, &id).await;
    world.store.calls();
    for _ in 0..6_000 {
        watchers.report_loss();
        assert_eq!(end(&mut live), None);
        world.wait(10 * MILLISECOND);
    }
    let loads = world.store.calls().len();
    assert!((11..=7 + 60 / 3).contains(&loads), "{loads}");
}

#[async_trait]
impl SessionStore for Reporting {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.probe.create(key, entry, now).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.probe.load(key, now).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.probe.commit(key, expected, entry, now).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.probe.touch(key, now).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.probe.delete(key, now).await
    }

    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        let watch = Some(self.watchers.watch(key));
        Ok(Watched { entry: self.probe.load(key, now).await?, watch })
    }
}

#[async_trait]
impl SessionIndex for Reporting {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.probe.enter(index, entry, now).await
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.probe.leave(index, entries, now).await
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        self.probe.entries(index, now).await
    }
}
