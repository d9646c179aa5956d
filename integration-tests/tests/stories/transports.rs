//! Transports to Redis: a Unix socket, and many commands in one packet.

use std::error::Error as _;

use futures_util::future::join_all;
use integration_tests::{Browser, PATIENCE, RedisServer, redis_config};
use redis::InfoDict;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{Clock as _, SessionKey, SessionStore as _, StoreErrorKind, SystemClock};
use tempfile::TempDir;

use crate::support::serve;

pub(crate) async fn a_visitor_is_signed_in(config: RedisConfig) {
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    browser.post("/count").await.ok();
    assert_eq!(browser.session().await["owner"], "ada");
}

pub(crate) async fn why(config: RedisConfig) -> (StoreErrorKind, String) {
    let error = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap_err();
    (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
}

#[tokio::test]
async fn a_unix_socket_leads_to_redis() {
    let folder = TempDir::with_prefix("redis-socket-").unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let redis = RedisServer::builder().arg("--unixsocket", socket.clone()).on_host().start().await;
    a_visitor_is_signed_in(RedisConfig::new(format!("unix://{socket}?db=3"))).await;
    a_visitor_is_signed_in(RedisConfig::new(format!("unix://{socket}")).with_database(3)).await;
    let mut connection = redis.connection().await;
    let keyspace: String =
        redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await.unwrap();
    assert!(keyspace.contains("db3:keys=3") && !keyspace.contains("db0"), "{keyspace}");

    let (kind, text) = why(RedisConfig::new(format!("unix://{socket}-elsewhere"))).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(text.contains("nobody listens at"), "{text}");
}

/// Returns the number of reads by Redis while this many concurrent requests each loaded a session.
async fn reads_of(store: &RedisStore, redis: &RedisServer, requests: usize) -> u64 {
    let store = store.clone();
    let key = SessionKey::from_bytes([7; SessionKey::LEN]);
    let mut connection = redis.connection().await;
    let mut so_far = async || {
        let stats: InfoDict =
            redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
        stats.get::<u64>("total_reads_processed").unwrap()
    };
    let before = so_far().await;
    // The requests start inside a task, so that all of them are ready before the first one runs.
    let all = tokio::spawn(async move {
        let requests = (0..requests).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.load(&key, SystemClock.now()).await.unwrap() })
        });
        join_all(requests).await
    });
    for found in all.await.unwrap() {
        assert_eq!(found.unwrap(), None);
    }
    so_far().await - before - 1
}

/// The multi-thread scheduler, as in servers. The single-thread one runs all ready tasks first anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_at_once_share_packets_and_a_lone_one_has_its_own() {
    let folder = TempDir::with_prefix("redis-socket-").unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let redis = RedisServer::builder().arg("--unixsocket", socket.clone()).on_host().start().await;
    for url in [redis.url().to_owned(), format!("unix://{socket}")] {
        share_packets(RedisConfig::new(url), &redis).await;
    }
}

pub(crate) async fn share_packets(config: RedisConfig, redis: &RedisServer) {
    // Both stores stay alive, because Redis also counts the end of a connection as a read.
    let stores = [config.clone(), config.clone()]
        .map(|config| async { RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap() });
    let [many, one] = &join_all(stores).await[..] else { panic!("there are two") };
    let reads = reads_of(many, redis, 100).await;
    assert!(reads <= 10, "{config:?}: {reads}");
    assert_eq!(reads_of(one, redis, 1).await, 1, "{config:?}");
}
