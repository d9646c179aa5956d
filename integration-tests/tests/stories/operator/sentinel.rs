//! The operator's program behind sentinels.

use std::time::Duration;

use integration_tests::{PATIENCE, RedisServer, SentinelRedis, redis_config};
use session_axum::{RedisConfig, RedisStore};

use super::Site;

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

/// A former primary that is cut off from its sentinels still answers, and reports no change at the
/// present primary.
#[tokio::test(flavor = "multi_thread")]
async fn watch_ends_when_sentinels_name_another_primary() {
    let sentinel = SentinelRedis::start(Duration::from_secs(600)).await;
    let config = RedisConfig::sentinel(sentinel.urls(), SentinelRedis::NAME);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let mut changes = store.changes().await.unwrap();
    let present = RedisServer::builder().on_host().start().await;
    for sentinel in sentinel.sentinels() {
        let mut admin = sentinel.connection().await;
        let (host, port) = (present.host(), present.port().to_string());
        for words in [
            &["REMOVE", SentinelRedis::NAME][..],
            &["MONITOR", SentinelRedis::NAME, host, &port, "2"],
        ] {
            let () = redis::cmd("SENTINEL").arg(words).query_async(&mut admin).await.unwrap();
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), changes.next()).await;
    assert_eq!(ended, Ok(None));
}
