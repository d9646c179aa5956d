//! The operator's program behind sentinels.

use std::{collections::BTreeSet, time::Duration};

use integration_tests::{FaultProxy, PATIENCE, RedisServer, SentinelRedis, redis_config};
use session_axum::{RedisConfig, RedisStore};

use super::{
    Site,
    walk::{rest, store_keys},
};

#[tokio::test]
async fn primary_is_found_by_its_sentinels() {
    let sentinel = SentinelRedis::start(Duration::from_secs(1)).await;
    let urls = sentinel.urls().collect::<Vec<_>>().join(" ");
    let mut site =
        Site::new(RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME), urls).await;
    site.options.extend(["--sentinel", SentinelRedis::NAME].map(str::to_owned));
    site.begin(|session| session.authenticate("ada")).await;
    assert_eq!(site.count().await, 1);
    let several = Site { options: Vec::new(), ..site };
    assert_eq!(several.run(["count"]).await.code, 2, "several URLs of one server");
}

/// A walk follows its connection to the server, as all commands of the store do.
#[tokio::test(flavor = "multi_thread")]
async fn walk_depends_on_no_sentinel() {
    let sentinel = SentinelRedis::start(NEVER).await;
    let keys = store_keys(&sentinel.servers()[0], 1_000).await;
    let config = RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let mut walk = store.scan();
    let mut found = walk.next().await.unwrap().unwrap();
    let other = primary().await;
    name_another_primary(&sentinel, &other).await;
    found.extend(rest(walk).await);
    // Redis may return a key twice while its table grows.
    assert!(found.len() < keys.len() * 3 / 2, "the server was walked twice");
    assert_eq!(BTreeSet::from_iter(found), keys);
    for sentinel in sentinel.sentinels() {
        sentinel.kill().await;
    }
    assert_eq!(BTreeSet::from_iter(rest(store.scan()).await), keys);
}

/// A former primary that is cut off from its sentinels still answers, and reports no change at the
/// present primary.
#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_sentinels_name_another_primary() {
    let sentinel = SentinelRedis::start(NEVER).await;
    let config = RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let mut changes = store.changes().await.unwrap();
    let present = primary().await;
    name_another_primary(&sentinel, &present).await;
    let ended = tokio::time::timeout(Duration::from_secs(30), changes.next()).await;
    assert_eq!(ended, Ok(None));
}

/// Makes all sentinels name another primary, without a failover.
async fn name_another_primary(sentinel: &SentinelRedis, primary: &RedisServer) {
    for sentinel in sentinel.sentinels() {
        let mut admin = sentinel.connection().await;
        let (host, port) = (primary.host(), primary.port().to_string());
        for words in [
            &["REMOVE", SentinelRedis::NAME][..],
            &["MONITOR", SentinelRedis::NAME, host, &port, "2"],
        ] {
            let () = redis::cmd("SENTINEL").arg(words).query_async(&mut admin).await.unwrap();
        }
    }
}

/// A sentinel that was cut off during the last failover names the former primary, and is the first to
/// answer.
#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_while_a_sentinel_names_a_former_primary() {
    let (former, present) = (primary().await, primary().await);
    let monitor = |server: &RedisServer, epoch: u32| {
        let (name, host, port) = (SentinelRedis::NAME, server.host(), server.port());
        let config = format!(
            "sentinel monitor {name} {host} {port} 1\nsentinel config-epoch {name} {epoch}\n"
        );
        RedisServer::builder().on_host().sentinel(config).start()
    };
    let (outdated, knowing) = (monitor(&former, 1).await, monitor(&present, 2).await);
    let late = FaultProxy::before(&knowing).await;
    let urls = [late.url(), outdated.url().to_owned()];
    let config = RedisConfig::sentinel(urls, SentinelRedis::NAME);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let mut changes = store.changes().await.unwrap();
    // The others have 100 ms to answer after the first.
    late.lag(Duration::from_millis(500));
    let ended = tokio::time::timeout(Duration::from_secs(12), changes.next()).await;
    assert!(ended.is_err(), "{ended:?}");
    let keys = store_keys(&present, 1).await;
    assert_eq!(changes.next().await, keys.first().copied());
}

async fn primary() -> RedisServer {
    RedisServer::builder().on_host().start().await
}

/// Longer than a machine stands still.
const NEVER: Duration = Duration::from_secs(600);
