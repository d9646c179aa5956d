//! The metrics of the store, on real servers, and of the guard.

#[path = "../../../session-core/tests/support/recorded_metrics.rs"]
mod recorded_metrics;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, header},
    routing::{get, post},
};
use integration_tests::{Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use session_axum::{
    ManualClock, MemoryStore, RedisConfig, RedisStore, RequireSignIn, Session, SessionLayer,
    Sessions, StoreErrorKind,
};
use session_core::{Clock as _, LocalReads as _, SessionKey, SessionStore as _, SystemClock};
use session_redis::NearCache;
use tower::ServiceExt as _;

use crate::support::ping;
use recorded_metrics::{Metrics, documented};

const PAGE: &str = include_str!("../../../session-redis/OPERATING.md");

const DURATION: &str = "db.client.operation.duration";
const CONNECTIONS: &str = "db.client.connection.count";
const CREATE_TIME: &str = "db.client.connection.create_time";
const RETRIES: &str = "session_redis.retries";
const OPEN_CIRCUITS: &str = "session_redis.circuit.open";
const ERROR_RESPONSES: &str = "session_core.error_responses";
const TRANSITIONS: &str = "session_redis.circuit.transitions";

impl Metrics {
    /// Returns the number of successful commands of this name.
    fn succeeded(&self, operation: &str) -> f64 {
        self.look(|seen| {
            let succeeded = seen.totals.iter().filter(|((name, labels), _)| {
                name == DURATION
                    && labels["db.operation.name"] == operation
                    && !labels.contains_key("error.type")
            });
            succeeded.map(|(_, total)| total).sum()
        })
    }

    fn failed(&self, error_type: &str) -> f64 {
        self.of(DURATION, &[("error.type", error_type)])
    }
}

/// Signs in a user, and returns the key of the session.
async fn sign_in(sessions: &Sessions) -> String {
    let session = sessions.open([]).await.unwrap();
    session.authenticate("zoe").unwrap();
    let _ = session.finish().await.unwrap();
    sessions.list("zoe").await.unwrap()[0].key().to_string()
}

#[tokio::test]
async fn commands_and_the_connection_are_measured() {
    let redis = RedisServer::start().await;
    let (metrics, _listening) = Metrics::listen();
    let config = redis_config(redis.url(), PATIENCE);
    let store = RedisStore::connect(config).await.unwrap();
    let server = [("server.address", redis.host()), ("server.port", &redis.port().to_string())];
    assert_eq!(metrics.of(CONNECTIONS, &server), 1.0);
    assert_eq!(metrics.of(CREATE_TIME, &server), 1.0);
    assert_eq!(metrics.of(OPEN_CIRCUITS, &server), 0.0);

    let before = metrics.succeeded("GET");
    for _ in 0..3 {
        ping(&store).await.unwrap();
    }
    assert_eq!(metrics.succeeded("GET") - before, 3.0);
    let sessions = Sessions::new(store.clone());
    let key = sign_in(&sessions).await;
    assert!(metrics.succeeded("PIPELINE") >= 1.0 && metrics.succeeded("ZRANGEBYSCORE") >= 1.0);
    let of_redis = metrics.of(DURATION, &[("db.system.name", "redis"), server[0], server[1]]);
    assert_eq!(of_redis, metrics.of(DURATION, &[]));
    metrics.look(|seen| {
        assert!(seen.longest > 0.0 && seen.longest < 2.0 * PATIENCE.as_secs_f64(), "in seconds");
        let shown = format!("{:?}", seen.totals);
        assert!(!shown.contains(&key) && !shown.contains("zoe"), "{shown}");
    });
    drop((sessions, store));
    until("the connection is closed", async || metrics.of(CONNECTIONS, &[]) == 0.0).await;
}

#[tokio::test]
async fn lost_connection_and_repeated_read_are_counted() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let (metrics, _listening) = Metrics::listen();
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    proxy.next("get", Fault::CutBefore);
    ping(&store).await.unwrap();
    assert_eq!(metrics.failed("connection_lost"), 1.0);
    assert_eq!(metrics.of(RETRIES, &[("error.type", "connection_lost")]), 1.0);
    assert_eq!((metrics.of(CREATE_TIME, &[]), metrics.of(CONNECTIONS, &[])), (2.0, 1.0));

    // The store sends an unknown script with its code.
    let mut admin = redis.connection().await;
    let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut admin).await.unwrap();
    let key = SessionKey::from_bytes([1; SessionKey::LEN]);
    store.delete(&key, SystemClock.now()).await.unwrap();
    assert_eq!(metrics.failed("NOSCRIPT"), 1.0);
    assert_eq!(metrics.of(RETRIES, &[("error.type", "NOSCRIPT")]), 1.0);
    assert_eq!(metrics.of(RETRIES, &[]), 2.0);
}

#[tokio::test]
async fn circuit_and_its_transitions_are_measured() {
    let redis = RedisServer::start().await;
    let (metrics, _listening) = Metrics::listen();
    let config = redis_config(redis.url(), PATIENCE).with_max_failures(2).unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    let became = |state| metrics.of(TRANSITIONS, &[("session_redis.circuit.state", state)]);
    redis.kill().await;
    until("the circuit is open", async || {
        ping(&store).await.unwrap_err();
        metrics.of(OPEN_CIRCUITS, &[]) == 1.0
    })
    .await;
    assert_eq!((became("open"), became("closed")), (1.0, 0.0));
    assert_eq!(metrics.of(CONNECTIONS, &[]), 0.0);
    until("attempts to connect have failed", async || {
        ping(&store).await.unwrap_err();
        metrics.of(CREATE_TIME, &[("error.type", "connection_refused")]) >= 1.0
    })
    .await;
    assert!(metrics.failed("no_connection") >= 1.0);

    redis.start_again().await;
    until("Redis is back", async || ping(&store).await.is_ok()).await;
    assert_eq!(metrics.of(OPEN_CIRCUITS, &[]), 0.0);
    assert_eq!((became("open"), became("closed")), (1.0, 1.0));
    assert_eq!(metrics.of(CONNECTIONS, &[]), 1.0);
}

#[tokio::test]
async fn refused_and_late_commands_are_distinguished() {
    let redis = RedisServer::start().await;
    let (metrics, _listening) = Metrics::listen();
    let config = RedisConfig::new(redis.url())
        .with_connect_timeout(PATIENCE)
        .and_then(|config| config.with_max_waiting(1))
        .and_then(|config| config.with_max_failures(1))
        .unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    redis.pause().await;
    let (late, refused) = tokio::join!(ping(&store), ping(&store));
    assert_eq!(late.unwrap_err().kind(), StoreErrorKind::Timeout);
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!((metrics.failed("timeout"), metrics.failed("too_many_waiting")), (1.0, 1.0));
    let (_probe, refused) = tokio::join!(ping(&store), ping(&store));
    refused.unwrap_err();
    assert_eq!(metrics.failed("circuit_open"), 1.0);
    // A dropped store has no circuit.
    assert_eq!(metrics.of(OPEN_CIRCUITS, &[]), 1.0);
    drop(store);
    until("the circuit is gone", async || metrics.of(OPEN_CIRCUITS, &[]) == 0.0).await;
    redis.unpause().await;
}

#[tokio::test]
async fn failed_attempts_to_connect_are_distinguished() {
    let (metrics, _listening) = Metrics::listen();
    let failed = |error_type| metrics.of(CREATE_TIME, &[("error.type", error_type)]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://:secret@{}", listener.local_addr().unwrap());
    let limit = std::time::Duration::from_millis(100);
    RedisStore::connect(redis_config(&*url, limit)).await.unwrap_err();
    assert_eq!(failed("timeout"), 1.0, "nobody answers to the password");
    drop(listener);
    RedisStore::connect(redis_config(&*url, PATIENCE)).await.unwrap_err();
    assert_eq!(failed("connection_refused"), 1.0);
    let redis = RedisServer::start().await;
    let wrong = RedisConfig::new(redis.url()).with_user("eve").with_password("hunter2");
    RedisStore::connect(redis_config(wrong, PATIENCE)).await.unwrap_err();
    assert_eq!(failed("authentication"), 1.0);
    assert_eq!((metrics.of(CREATE_TIME, &[]), metrics.of(CONNECTIONS, &[])), (3.0, 0.0));
}

/// A server may reply with any code.
#[tokio::test]
async fn text_of_the_server_is_in_no_label() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let (metrics, _listening) = Metrics::listen();
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    for answer in ["-HUNTER no", "-hunter2 no", "-OOM hunter2"] {
        proxy.next("get", Fault::Answer(answer));
        ping(&store).await.unwrap_err();
    }
    let counts = ["_OTHER", "ERR", "OOM"].map(|error_type| metrics.failed(error_type));
    assert_eq!(counts, [1.0, 1.0, 1.0]);
    let shown = metrics.look(|seen| format!("{:?}", seen.totals).to_lowercase());
    assert!(!shown.contains("hunter"), "{shown}");
}

#[tokio::test]
async fn near_cache_is_measured_as_its_stats_are() {
    let redis = RedisServer::start().await;
    let (metrics, _listening) = Metrics::listen();
    let cache = NearCache::default().with_staleness(NearCache::MAX_STALENESS).unwrap();
    let config = redis_config(redis.url(), PATIENCE).with_near_cache(cache);
    let store = RedisStore::connect(config).await.unwrap();
    let sessions = Sessions::new(store.clone());
    let key: SessionKey = sign_in(&sessions).await.parse().unwrap();
    let now = SystemClock.now();
    assert!(store.find(&key, now).is_none());
    store.load(&key, now).await.unwrap().unwrap();
    assert!(store.find(&key, now).is_some());
    assert_eq!(metrics.of("session_redis.near_cache.entries", &[]), 1.0);

    let mut admin = redis.connection().await;
    let _: u32 =
        redis::cmd("DEL").arg(format!("session:s:{key}")).query_async(&mut admin).await.unwrap();
    until("the copy is gone", async || store.find(&key, now).is_none()).await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut admin).await.unwrap();
    until("all copies are given up", async || store.near_cache().unwrap().flushes > 0).await;
    let stats = store.near_cache().unwrap();
    for (name, of_stats) in [
        ("hits", stats.hits),
        ("misses", stats.misses),
        ("invalidations", stats.invalidations),
        ("flushes", stats.flushes),
        ("entries", stats.entries),
    ] {
        let name = format!("session_redis.near_cache.{name}");
        assert_eq!(metrics.of(&name, &[]), of_stats as f64, "{name}");
    }
    assert!(stats.hits > 0 && stats.invalidations > 0 && stats.entries == 0, "{stats:?}");
}

#[tokio::test]
async fn guard_counts_the_errors_that_it_answers() {
    let (metrics, _listening) = Metrics::listen();
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let sessions = Sessions::builder(MemoryStore::default()).with_clock(Arc::clone(&clock));
    let guard = RequireSignIn::redirect_to("/login").unwrap();
    let app = Router::new()
        .route("/password", get(async || "never"))
        .route_layer(guard.fresh_within(Duration::from_secs(300)))
        .route("/login", post(async |session: Session| session.authenticate(7)))
        .layer(SessionLayer::new(sessions.build().unwrap()));
    let send = async |method: &str, path: &str, accept: &str, cookie: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::ACCEPT, accept).header(header::COOKIE, cookie);
        app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    let login = send("POST", "/login", "*/*", "").await;
    let cookie = login.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
    clock.advance(Duration::from_secs(301));
    let counted = || {
        let labels = [("http.response.status_code", "403"), ("error.type", "not_fresh")];
        (metrics.of(ERROR_RESPONSES, &labels), metrics.of(ERROR_RESPONSES, &[]))
    };
    for (accept, status, count) in [
        ("text/html", 303, 0.0),
        ("application/json", 403, 1.0),
        ("text/plain", 403, 2.0),
        ("text/html", 303, 2.0),
    ] {
        let response = send("GET", "/password", accept, cookie).await;
        assert_eq!((response.status().as_u16(), counted()), (status, (count, count)), "{accept}");
    }
}

#[tokio::test]
async fn page_lists_exactly_the_metrics_that_exist() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let (metrics, _listening) = Metrics::listen();
    let config = redis_config(proxy.url(), PATIENCE)
        .with_near_cache(NearCache::default())
        .with_max_failures(1)
        .unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    proxy.next("get", Fault::CutBefore);
    ping(&store).await.unwrap();
    redis.kill().await;
    until("an attempt to connect has failed", async || {
        ping(&store).await.unwrap_err();
        metrics.look(|seen| seen.rows[CREATE_TIME].2.contains("error.type"))
    })
    .await;
    assert_eq!(metrics.look(|seen| seen.rows.clone()), documented(PAGE));
}
