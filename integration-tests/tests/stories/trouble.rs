//! The client stays within limits while Redis, or the network, fails. The server's counters verify this.

use std::{
    error::Error as _,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use integration_tests::{
    Browser, ClusterRedis, Fault, FaultProxy, PATIENCE, RedisServer, SentinelRedis, redis_config,
    until,
};
use redis::{InfoDict, aio::MultiplexedConnection};
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{StoreError, StoreErrorKind};
use session_redis::{Circuit, NearCache};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{ping, serve};

/// Returns the number of connections that a server accepted or refused.
async fn connections(admin: &mut MultiplexedConnection) -> u64 {
    let stats: InfoDict = redis::cmd("INFO").arg("stats").query_async(admin).await.unwrap();
    let count = |name| stats.get::<u64>(name).unwrap();
    count("total_connections_received") + count("rejected_connections")
}

async fn tell(admin: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    let _: redis::Value = command.arg(&words[1..]).query_async(admin).await.unwrap();
}

async fn hang_up(admin: &mut MultiplexedConnection) {
    tell(admin, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
}

async fn ping_for(store: &RedisStore, span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        let _ = ping(store).await;
        sleep(Duration::from_millis(5)).await;
    }
}

/// Starts the requests of a busy process, until the set is dropped.
fn load(store: &RedisStore) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        load.spawn(async move {
            loop {
                let _ = ping(&store).await;
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    load
}

/// Asserts the rate of connection attempts of a busy process while it cannot connect.
async fn assert_spaced(store: &RedisStore, mut count: impl AsyncFnMut() -> u64, what: &str) {
    let begin = Instant::now();
    let _load = load(store);
    let before = count().await;
    sleep(Duration::from_secs(1).saturating_sub(begin.elapsed())).await;
    let first = count().await - before;
    let since = Instant::now();
    sleep(Duration::from_secs(3)).await;
    let later = count().await - before - first;
    println!("{what}: {first} connections in the first second, {later} in the next three");
    assert!((1..=5).contains(&first), "{what}: {first} in the first second");
    let bound = since.elapsed().as_secs_f64() * 3.0 + 1.0;
    assert!(later >= 3 && (later as f64) <= bound, "{what}: {later} in the next three");
    assert_ne!(store.state().circuit(), Circuit::Closed, "{what}");
}

/// Asserts that commands fail immediately, with the cause.
async fn assert_fails(store: &RedisStore, kind: StoreErrorKind, cause: &str) {
    for _ in 0..100 {
        let begin = Instant::now();
        let error = ping(store).await.unwrap_err();
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        assert_eq!(error.kind(), kind, "{text}");
        assert!(text.contains(cause), "{text}");
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
    }
}

async fn assert_back(store: &RedisStore) {
    let begin = Instant::now();
    until("it is back", async || ping(store).await.is_ok()).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "back after {:?}", begin.elapsed());
}

#[tokio::test]
async fn refused_commands_make_no_new_connection() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    let mut admin = redis.connection().await;
    let before = connections(&mut admin).await;
    tell(&mut admin, &["ACL", "SETUSER", "default", "-get"]).await;
    ping_for(&store, Duration::from_millis(500)).await;
    assert_eq!(ping(&store).await.unwrap_err().kind(), StoreErrorKind::Misconfigured);
    assert_eq!(connections(&mut admin).await, before, "NOPERM");
    tell(&mut admin, &["ACL", "SETUSER", "default", "+get"]).await;
    for refusal in [
        "-ERR unknown command 'GET'",
        "-ERR Error running script (call to f_1): @user_script:1: no such thing",
        "-ERR user_script:1: no such thing script: f_1, on @user_script:1.",
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script",
        "-MISCONF Redis is configured to save RDB snapshots",
        "-CLUSTERDOWN Hash slot not served",
        "-UPSTREAM no healthy upstream",
    ] {
        proxy.each("get", Fault::Answer(refusal));
        ping_for(&store, Duration::from_millis(300)).await;
        ping(&store).await.unwrap_err();
        assert_eq!(connections(&mut admin).await, before, "{refusal}");
    }
}

#[tokio::test]
async fn servers_of_another_role_are_left_at_a_bounded_rate() {
    for refusal in [
        "-READONLY You can't write against a read only replica.",
        "-NOAUTH Authentication required.",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    ] {
        let redis = RedisServer::start().await;
        let proxy = FaultProxy::before(&redis).await;
        let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
        let mut admin = redis.connection().await;
        let before = connections(&mut admin).await;
        proxy.each("get", Fault::Answer(refusal));
        ping_for(&store, Duration::from_secs(3)).await;
        let made = connections(&mut admin).await - before;
        assert!((2..=11).contains(&made), "{refusal}: {made}");
        proxy.each("get", None);
        assert_back(&store).await;
    }
}

#[tokio::test]
async fn attempts_with_a_wrong_password_are_spaced() {
    for near_cache in [false, true] {
        let redis = RedisServer::start().await;
        let mut admin = redis.connection().await;
        tell(&mut admin, &["CONFIG", "SET", "requirepass", "old"]).await;
        let mut config = redis_config(redis.url(), PATIENCE).with_password("old");
        if near_cache {
            config = config.with_near_cache(NearCache::default());
        }
        let store = RedisStore::connect(config).await.unwrap();
        tell(&mut admin, &["CONFIG", "SET", "requirepass", "new"]).await;
        hang_up(&mut admin).await;
        let what = format!("wrong password, near cache {near_cache}");
        assert_spaced(&store, async || connections(&mut admin).await, &what).await;
        assert_fails(&store, StoreErrorKind::Misconfigured, "refuses the password").await;
        tell(&mut admin, &["CONFIG", "SET", "requirepass", "old"]).await;
        assert_back(&store).await;
    }
}

#[tokio::test]
async fn attempts_to_a_server_with_too_many_clients_are_spaced() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    tell(&mut admin, &["CONFIG", "SET", "maxclients", "1"]).await;
    hang_up(&mut admin).await;
    assert_spaced(&store, async || connections(&mut admin).await, "maxclients").await;
    assert_fails(&store, StoreErrorKind::Unavailable, "too many clients").await;
    tell(&mut admin, &["CONFIG", "SET", "maxclients", "100"]).await;
    assert_back(&store).await;
}

#[tokio::test]
async fn attempts_to_a_server_that_hangs_up_are_spaced() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    redis.stop().await;
    assert_spaced(&store, async || proxy.connections(), "hang up").await;
    assert_fails(&store, StoreErrorKind::Unavailable, "closed the connection").await;
    redis.start_again().await;
    assert_back(&store).await;
}

#[tokio::test]
async fn commands_to_a_refused_port_fail_immediately() {
    let redis = RedisServer::start().await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    redis.stop().await;
    until("it is noticed", async || {
        store.state().circuit() != Circuit::Closed || {
            let _ = ping(&store).await;
            false
        }
    })
    .await;
    assert_fails(&store, StoreErrorKind::Unavailable, "nobody listens").await;
    redis.start_again().await;
    assert_back(&store).await;
}

fn is_timeout(result: Result<(), StoreError>) -> bool {
    result.is_err_and(|error| error.kind() == StoreErrorKind::Timeout)
}

#[tokio::test]
async fn a_vanished_peer_costs_one_deadline() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let config = RedisConfig::new(proxy.url())
        .with_connect_timeout(PATIENCE)
        .and_then(|config| config.with_operation_timeout(PATIENCE));
    let store = RedisStore::connect(config.unwrap()).await.unwrap();
    ping(&store).await.unwrap();
    proxy.vanish();
    assert!(is_timeout(ping(&store).await), "no packet says that the peer is gone");
    // The time in which the system detects the dead peer.
    sleep(Duration::from_millis(300)).await;
    ping(&store).await.unwrap();
}

#[tokio::test]
async fn a_slow_server_keeps_its_connection_and_its_copies() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let config = RedisConfig::new(proxy.url()).with_near_cache(NearCache::default());
    let store = RedisStore::connect(config).await.unwrap();
    let made = proxy.connections();
    proxy.each("get", Fault::Delay(Duration::from_millis(600)));
    let begin = Instant::now();
    let mut late = 0;
    while begin.elapsed() < Duration::from_secs(6) {
        late += u32::from(is_timeout(ping(&store).await));
    }
    assert!(late > 5, "{late} answers came too late");
    assert_eq!(proxy.connections(), made, "a slow server is not helped by another connection");
    assert_eq!(store.near_cache().unwrap().flushes, 0);
    proxy.each("get", None);
    until("it is fast again", async || ping(&store).await.is_ok()).await;
}

#[tokio::test]
async fn a_lazy_store_starts_without_redis() {
    let redis = RedisServer::start().await;
    redis.stop().await;
    let config = redis_config(redis.url(), PATIENCE);
    let store = RedisStore::connect_lazy(config.clone()).unwrap();
    let browser = Browser::new(serve(Sessions::new(store.clone())).await);
    assert_eq!(browser.get("/plain").await.ok().body, "plain");
    assert_eq!(browser.get("/session").await.ok().status, StatusCode::OK, "no cookie, no session");
    assert_eq!(browser.post("/count").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_fails(&store, StoreErrorKind::Unavailable, "nobody listens").await;
    redis.start_again().await;
    assert_back(&store).await;
    assert_eq!(browser.post("/count").await.ok().body, "1");
}

#[tokio::test]
async fn a_lazy_store_reports_what_connect_refuses() {
    let error = RedisStore::connect_lazy("http://host").unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    let redis = RedisServer::start().await;
    tell(&mut redis.connection().await, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let config = redis_config(redis.url(), PATIENCE);
    let refused = RedisStore::connect(config.clone()).await.unwrap_err();
    let store = RedisStore::connect_lazy(config).unwrap();
    assert_fails(&store, refused.kind(), "is a replica").await;
    let health = store.health().await.unwrap_err();
    assert_eq!(health.source().unwrap().to_string(), refused.source().unwrap().to_string());
    tell(&mut redis.connection().await, &["REPLICAOF", "NO", "ONE"]).await;
    assert_back(&store).await;
    store.health().await.unwrap();
}

#[tokio::test]
async fn a_lazy_store_finds_a_primary_by_sentinel() {
    let redis = SentinelRedis::start(Duration::from_secs(3600)).await;
    let config = RedisConfig::sentinel(redis.urls(), SentinelRedis::NAME);
    let store = RedisStore::connect_lazy(redis_config(config, PATIENCE)).unwrap();
    ping(&store).await.unwrap();
}

#[tokio::test]
async fn a_lazy_store_finds_a_cluster() {
    let redis = ClusterRedis::start(Duration::from_secs(3600)).await;
    let lazy = |urls: Vec<&str>| {
        let config = redis_config(RedisConfig::cluster(urls), PATIENCE);
        RedisStore::connect_lazy(config).unwrap()
    };
    let urls: Vec<_> = redis.urls().collect();
    ping(&lazy(urls.clone())).await.unwrap();
    assert!(lazy(urls).health().await.unwrap().version().is_some());

    let nobody = lazy(vec!["redis://no-such-host.invalid"]);
    assert_eq!(nobody.health().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(nobody.health_of_nodes().await.len(), 1);
}

/// The server does not speak TLS.
#[tokio::test]
async fn attempts_whose_tls_handshake_fails_are_spaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    let listening = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(b"-ERR this is no TLS\r\n").await;
        }
    });
    let store = RedisStore::connect_lazy(redis_config(url, PATIENCE)).unwrap();
    assert_spaced(&store, async || accepted.load(Ordering::Relaxed), "no TLS").await;
    assert_fails(&store, StoreErrorKind::Misconfigured, "does not speak TLS").await;
    listening.abort();
}

/// After the first failure, attempts to connect get no reply.
#[tokio::test]
async fn commands_fail_with_the_last_error_while_the_next_attempt_is_under_way() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let config = redis_config(url, PATIENCE).with_max_failures(1).unwrap();
    let store = RedisStore::connect_lazy(config).unwrap();
    let hang_up = async {
        loop {
            drop(listener.accept().await.unwrap());
        }
    };
    let error = tokio::select! {
        answer = ping(&store) => answer.unwrap_err(),
        () = hang_up => unreachable!(),
    };
    let cause = |error: &StoreError| error.source().unwrap().to_string();
    let last = cause(&error);
    assert!(last.contains("closed the connection"), "{last}");

    let mut second = pin!(listener.accept());
    let mut pings = JoinSet::new();
    let _silent = loop {
        let store = store.clone();
        pings.spawn(async move { ping(&store).await });
        tokio::select! {
            accepted = &mut second => break accepted.unwrap(),
            () = sleep(Duration::from_millis(5)) => {}
        }
    };
    for _ in 0..20 {
        assert_eq!(cause(&ping(&store).await.unwrap_err()), last);
    }
}

#[tokio::test]
async fn commands_to_a_name_that_is_not_known_fail_with_the_cause() {
    let store =
        RedisStore::connect_lazy(redis_config("redis://no-such-host.invalid", PATIENCE)).unwrap();
    assert_fails(&store, StoreErrorKind::Unavailable, "check host and port").await;
    assert_ne!(store.state().circuit(), Circuit::Closed);
}

#[tokio::test]
async fn unknown_scripts_are_sent_with_their_call() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    tell(&mut admin, &["ACL", "SETUSER", "default", "-script"]).await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    for count in 1..=3 {
        assert_eq!(browser.post("/count").await.ok().body, count.to_string());
    }
    browser.post("/logout").await.ok();
}
