//! The suite that every store runs, on a real Redis.

use integration_tests::RedisServer;
use session_core::conformance;
use session_redis::{RedisConfig, RedisStore};

#[tokio::test(flavor = "multi_thread")]
async fn redis_store_passes_the_suite() {
    let redis = RedisServer::start().await;
    let config = RedisConfig::new(redis.url()).with_prefix("suite:").unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    let report = conformance::check(store).await;
    println!("{report}");
    assert!(report.is_ok(), "{report}");
}
