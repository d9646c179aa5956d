//! The metrics that sessions record, and the page that lists them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

#[path = "../examples/map_store/store.rs"]
mod map_store;
#[path = "support/recorded_metrics.rs"]
mod recorded_metrics;

use std::{sync::Arc, time::Duration};

use axum_core::response::IntoResponse as _;
use metrics::LocalRecorderGuard;
use session_core::{
    AtLimit, CookieChange, Key, ManualClock, Session, SessionError, SessionId, SessionLimit,
    Sessions, StoreErrorKind, Timestamp,
    testing::{Fault, FaultStore, Verb},
};

use map_store::MapStore;
use recorded_metrics::{Metrics, documented};

const PAGE: &str = include_str!("../src/monitoring.md");

const VISITS: Key<u64> = Key::new("visits");

const OPENS: &str = "session_core.opens";
const DURATION: &str = "session_core.operation.duration";
const CONFLICTS: &str = "session_core.conflicts";
const EVENTS: &str = "session_core.events";
const UNREADABLE_VALUES: &str = "session_core.unreadable_values";
const ERROR_RESPONSES: &str = "session_core.error_responses";

/// Sessions in a store under the test's control, and the values that a recorder has received.
struct World {
    store: Arc<FaultStore<MapStore>>,
    clock: Arc<ManualClock>,
    sessions: Sessions,
    metrics: Metrics,
    _recording: LocalRecorderGuard<'static>,
}

impl World {
    fn new() -> Self {
        let (metrics, recording) = Metrics::listen();
        let store = Arc::new(FaultStore::new_working(MapStore::default()));
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000_000)));
        let limit = SessionLimit::new(2, AtLimit::EvictOldest).unwrap();
        let sessions = Sessions::builder(Arc::clone(&store))
            .with_clock(Arc::clone(&clock))
            .with_session_limit(limit)
            .build()
            .unwrap();
        Self { store, clock, sessions, metrics, _recording: recording }
    }

    async fn open(&self, id: &SessionId) -> Session {
        self.sessions.open([id.expose().as_bytes()]).await.unwrap()
    }

    async fn log_in(&self, owner: &str) -> SessionId {
        let session = self.sessions.open([]).await.unwrap();
        session.authenticate(owner).unwrap();
        id_of(session.finish().await.unwrap())
    }

    /// Returns the sum over all series with at least these labels.
    fn total(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics.of(name, labels)
    }

    fn opened(&self, result: &str) -> f64 {
        self.total(OPENS, &[("session_core.open.result", result)])
    }

    fn operations(&self, name: &str) -> f64 {
        self.total(DURATION, &[("session_core.operation.name", name)])
    }

    fn failed(&self, name: &str, error_type: &str) -> f64 {
        let labels = [("session_core.operation.name", name), ("error.type", error_type)];
        self.total(DURATION, &labels)
    }

    fn events(&self, kind: &str) -> f64 {
        self.total(EVENTS, &[("session_core.event.kind", kind)])
    }
}

fn id_of(change: CookieChange) -> SessionId {
    match change {
        CookieChange::Set { id, .. } => id,
        other => panic!("no new ID: {other:?}"),
    }
}

#[tokio::test]
async fn opens_are_counted_by_their_result() {
    let world = World::new();
    let id = world.log_in("ada").await;
    world.open(&id).await;
    for cookie in ["", "not an ID", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        world.sessions.open([cookie.as_bytes()]).await.unwrap();
    }
    world.store.fail(Verb::Load, Fault::Before(StoreErrorKind::Corrupt));
    world.open(&id).await;
    world.sessions.try_open_local([], || false).unwrap();
    let counts = ["none", "found", "unknown", "unreadable"].map(|result| world.opened(result));
    assert_eq!(counts, [2.0, 1.0, 3.0, 1.0]);
    assert_eq!(world.total(OPENS, &[]), 7.0);
    assert_eq!((world.events("corrupt"), world.operations("open")), (1.0, 6.0));
}

#[tokio::test]
async fn logins_and_ends_are_counted_by_kind() {
    let world = World::new();
    assert_eq!(world.total(EVENTS, &[]), 0.0);
    let is_event = |(name, _): &&(String, _)| name == EVENTS;
    let kinds = world.metrics.look(|seen| seen.totals.keys().filter(is_event).count());
    assert_eq!(kinds, 13, "each kind begins with zero");
    for _ in 0..3 {
        world.log_in("ada").await;
        world.clock.advance(Duration::from_secs(1));
    }
    let destroyed = world.open(&world.log_in("eve").await).await;
    destroyed.destroy().unwrap();
    let _ = destroyed.finish().await.unwrap();
    world.sessions.revoke_all("ada").await.unwrap();
    let expired = world.log_in("bob").await;
    world.clock.advance(Duration::from_secs(24 * 3600));
    world.open(&expired).await;
    let kinds = ["authenticated", "evicted", "destroyed", "revoked", "created"];
    assert_eq!(kinds.map(|kind| world.events(kind)), [5.0, 1.0, 1.0, 2.0, 0.0]);
    assert_eq!((world.operations("destroy"), world.operations("revoke")), (1.0, 1.0));
}

#[tokio::test]
async fn conflicts_are_counted_once_per_replay() {
    let world = World::new();
    let id = world.log_in("ada").await;
    let (first, second) = (world.open(&id).await, world.open(&id).await);
    for session in [&first, &second] {
        session.update(VISITS, |visits| *visits += 1).unwrap();
    }
    first.commit().await.unwrap();
    assert_eq!((world.operations("commit"), world.total(CONFLICTS, &[])), (2.0, 0.0));
    second.commit().await.unwrap();
    assert_eq!((world.operations("commit"), world.total(CONFLICTS, &[])), (3.0, 1.0));
    // A request without changes is no commit.
    let _ = world.open(&id).await.finish().await.unwrap();
    assert_eq!(world.operations("commit"), 3.0);
}

#[tokio::test]
async fn failures_are_counted_by_operation_and_type() {
    let world = World::new();
    let id = world.log_in("ada").await;
    let session = world.open(&id).await;
    session.set(VISITS, 1).unwrap();
    let doomed = world.open(&id).await;
    doomed.destroy().unwrap();
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    session.commit().await.unwrap_err();
    doomed.commit().await.unwrap_err();
    world.sessions.open([id.expose().as_bytes()]).await.unwrap_err();
    world.sessions.list("ada").await.unwrap_err();
    world.sessions.revoke_all("ada").await.unwrap_err();
    world.sessions.revoke_any(id.key()).await.unwrap_err();
    for (operation, count) in
        [("open", 1.0), ("commit", 1.0), ("destroy", 1.0), ("list", 1.0), ("revoke", 2.0)]
    {
        assert_eq!(world.failed(operation, "unavailable"), count, "{operation}");
    }
    world.store.set_outage(None);
    world.sessions.revoke_all("ada").await.unwrap();
    session.commit().await.unwrap_err();
    assert_eq!(world.failed("commit", "ended"), 1.0);
}

#[tokio::test]
async fn error_responses_are_counted_by_status() {
    let world = World::new();
    world.store.set_outage(Some(StoreErrorKind::Timeout));
    let id = SessionId::parse(b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap();
    for _ in 0..2 {
        let error = world.sessions.open([id.expose().as_bytes()]).await.unwrap_err();
        assert_eq!(error.into_response().status(), 503);
    }
    let _ = SessionError::Ended.into_response();
    let count = |status, error_type| {
        let labels = [("http.response.status_code", status), ("error.type", error_type)];
        world.total(ERROR_RESPONSES, &labels)
    };
    assert_eq!((count("503", "timeout"), count("409", "ended")), (2.0, 1.0));
    assert_eq!(world.total(ERROR_RESPONSES, &[]), 3.0);
}

/// Uses everything that has a metric.
async fn use_everything(world: &World) -> Vec<SessionId> {
    let id = world.log_in("lovelace@example.org").await;
    let session = world.open(&id).await;
    session.set(VISITS, 7).unwrap();
    let _ = session.finish().await.unwrap();
    assert!(world.open(&id).await.get(Key::<String>::new(VISITS.name())).is_none());
    world.store.set_outage(Some(StoreErrorKind::Unavailable));
    let error = world.sessions.open([id.expose().as_bytes()]).await.unwrap_err();
    let _ = error.into_response();
    vec![id]
}

#[tokio::test]
async fn page_lists_exactly_the_metrics_that_exist() {
    let world = World::new();
    use_everything(&world).await;
    assert_eq!(world.total(UNREADABLE_VALUES, &[]), 1.0);
    world.metrics.look(|seen| {
        assert_eq!(seen.rows, documented(PAGE));
        assert!(seen.longest < 60.0, "in seconds");
    });
}

#[tokio::test]
async fn no_label_holds_an_id_a_key_or_an_owner() {
    let world = World::new();
    let ids = use_everything(&world).await;
    let shown = world.metrics.look(|seen| format!("{:?}", seen.totals));
    for id in ids {
        assert!(!shown.contains(id.expose()) && !shown.contains(&id.key().to_string()), "{shown}");
    }
    assert!(!shown.contains("lovelace") && !shown.contains("visits"), "{shown}");
}
