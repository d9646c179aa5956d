//! The conformance suite of all stores, on a real Redis.

use integration_tests::{PATIENCE, RedisServer, redis_config};
use session_core::conformance;
use session_redis::RedisStore;

#[tokio::test(flavor = "multi_thread")]
async fn redis_store_passes_the_suite() {
    let redis = RedisServer::start().await;
    let config = redis_config(redis.url(), PATIENCE).with_prefix("suite:").unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    let report = conformance::check(store).await;
    println!("{report}");
    assert!(report.is_ok(), "{report}");
}
