//! The store's reports about its Redis, at the start and on request.

use std::time::{Duration, Instant};

use integration_tests::{ClusterRedis, PATIENCE, RedisServer, redis_config, until};
use redis::aio::MultiplexedConnection;
use session_axum::{RedisConfig, RedisStore, StoreErrorKind};
use session_core::{Clock as _, SessionKey, SessionStore as _, SystemClock};
use session_redis::{EvictionPolicy, Role, Software};

use crate::support::{Log, patient_store};

const POLICY: &str = "Redis evicts sessions when its memory is full";
const EVICTED: &str = "Redis evicted keys";
const REPLICA: &str = "this Redis is a replica";

async fn run(redis: &mut MultiplexedConnection, words: &[&str]) -> redis::Value {
    redis::cmd(words[0]).arg(&words[1..]).query_async(redis).await.unwrap()
}

async fn assert_usable(store: &RedisStore) {
    let key = SessionKey::from_bytes([1; SessionKey::LEN]);
    assert!(store.load(&key, SystemClock.now()).await.unwrap().is_none());
}

#[tokio::test]
async fn health_is_what_redis_says() {
    let redis = RedisServer::builder().arg("--maxmemory", "64mb").start().await;
    let log = Log::default();
    let _logged = log.listen();
    let store = patient_store(&redis).await;
    let health = store.health().await.unwrap();
    let info = run(&mut redis.connection().await, &["INFO", "server"]).await;
    let info: redis::InfoDict = redis::from_redis_value(info).unwrap();
    let (software, version) = match info.get::<String>("valkey_version") {
        Some(version) => (Software::Valkey, version),
        None => (Software::Redis, info.get("redis_version").unwrap()),
    };
    assert_eq!((health.software(), health.version()), (Some(software), Some(&*version)));
    assert_eq!(health.eviction_policy(), Some(&EvictionPolicy::NoEviction));
    assert_eq!(health.max_memory(), Some(64 << 20));
    assert!((1..64 << 20).contains(&health.used_memory().unwrap()), "{health:?}");
    assert_eq!((health.role(), health.replicas()), (Some(Role::Primary), Some(0)));
    assert_eq!((health.evicted_keys(), health.newly_evicted_keys()), (Some(0), 0));
    assert!(!health.is_unknown());
    assert_eq!(log.count("WARN"), 0, "nothing to warn of: {}", log.text());
    let nodes = store.health_of_nodes().await;
    let [node] = &nodes[..] else { panic!("{nodes:?}") };
    assert_eq!(node.name(), format!("{}:{}", redis.host(), redis.port()));
    assert_eq!(node.health().unwrap().version(), health.version());

    redis.stop().await;
    assert!(store.health().await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_policy_that_evicts_sessions_is_a_warning_from_the_start() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let redis = RedisServer::builder().arg("--maxmemory-policy", policy).start().await;
        let log = Log::default();
        let _logged = log.listen();
        let store = patient_store(&redis).await;
        assert_eq!(log.count(POLICY), 1, "{}", log.text());
        assert!(log.text().contains("WARN session: ") && log.text().contains(policy));

        let health = store.health().await.unwrap();
        let found = health.eviction_policy().unwrap();
        assert!(found.evicts_sessions() && found.as_str() == policy, "{found:?}");
        assert_eq!(log.count(POLICY), 1, "said once: {}", log.text());

        // The policy is corrected, and then wrong again.
        let mut admin = redis.connection().await;
        for policy in ["noeviction", policy] {
            run(&mut admin, &["CONFIG", "SET", "maxmemory-policy", policy]).await;
            store.health().await.unwrap();
        }
        assert_eq!(log.count(POLICY), 2, "{}", log.text());
    }
}

#[tokio::test]
async fn evicted_keys_are_a_warning_when_there_are_more_of_them() {
    let redis = RedisServer::builder().arg("--maxmemory-policy", "volatile-lru").start().await;
    let store = patient_store(&redis).await;
    let log = Log::default();
    let _logged = log.listen();
    let mut admin = redis.connection().await;
    run(&mut admin, &["SET", "session:s:a", "some session", "PX", "600000"]).await;
    run(&mut admin, &["CONFIG", "SET", "maxmemory", "1"]).await;
    until("keys are evicted", async || {
        // Redis evicts keys only when it receives a command.
        let _: Result<redis::Value, _> =
            redis::cmd("SET").arg("b").arg("c").query_async(&mut admin.clone()).await;
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut admin.clone()).await.unwrap();
        keys == 0
    })
    .await;
    let health = store.health().await.unwrap();
    assert_eq!((health.evicted_keys(), health.newly_evicted_keys()), (Some(1), 1));
    assert_eq!(log.count(EVICTED), 1, "{}", log.text());
    let health = store.clone().health().await.unwrap();
    assert_eq!((health.evicted_keys(), health.newly_evicted_keys()), (Some(1), 0));
    assert_eq!(log.count(EVICTED), 1, "{}", log.text());
}

#[tokio::test]
async fn health_works_without_config_and_is_unknown_without_info() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    for (user, right) in [("some", "-config"), ("few", "-info")] {
        let words = ["ACL", "SETUSER", user, "on", ">secret", "~*", "+@all", right];
        run(&mut admin, &words).await;
    }
    let store = async |user: &str| {
        let url = redis.url().replace("redis://", &format!("redis://{user}:secret@"));
        RedisStore::connect(redis_config(url.as_str(), PATIENCE)).await.unwrap()
    };
    let informed = store("some").await;
    assert_eq!(informed.health().await.unwrap().role(), Some(Role::Primary));

    let store = store("few").await;
    let connections = async || {
        let list = run(&mut admin.clone(), &["CLIENT", "LIST"]).await;
        let list: String = redis::from_redis_value(list).unwrap();
        let of_store = list.lines().filter(|line| line.contains(" user=few "));
        of_store.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let before = connections().await;
    assert_eq!(before.len(), 1);
    // Longer than the store would keep a refused connection.
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        assert!(store.health().await.unwrap().is_unknown());
        assert_usable(&store).await;
    }
    assert_eq!(connections().await, before, "the refusal costs no connection");
}

#[tokio::test]
async fn a_replica_says_that_it_is_one() {
    let replica = RedisServer::start().await;
    let mut admin = replica.connection().await;
    let log = Log::default();
    let _logged = log.listen();
    let store = patient_store(&replica).await;
    assert_eq!(log.count(REPLICA), 0, "{}", log.text());
    // The primary does not exist, so that the link stays down.
    run(&mut admin, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let health = store.health().await.unwrap();
    assert_eq!((health.role(), health.primary_link_is_up()), (Some(Role::Replica), Some(false)));
    assert_eq!(log.count(REPLICA), 1, "said once: {}", log.text());
    // The promotion ends the warning.
    run(&mut admin, &["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(store.health().await.unwrap().role(), Some(Role::Primary));
    assert_usable(&store).await;
}

#[tokio::test]
async fn a_password_that_is_missing_is_an_error_at_the_start() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    run(&mut admin, &["CONFIG", "SET", "requirepass", "secret"]).await;
    let error = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn health_of_a_cluster_is_that_of_each_node_and_of_the_worst() {
    // With this long timeout, a failed node keeps its slots.
    let cluster = ClusterRedis::start(Duration::from_secs(60)).await;
    let mut evicting = cluster.nodes()[1].connection().await;
    run(&mut evicting, &["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
    let mut full = cluster.nodes()[2].connection().await;
    run(&mut full, &["CONFIG", "SET", "maxmemory", "1gb"]).await;
    let log = Log::default();
    let _logged = log.listen();
    let config = redis_config(RedisConfig::cluster(cluster.urls()), PATIENCE);
    let store = RedisStore::connect(config).await.unwrap();
    let name = |number: usize| format!("127.0.0.1:{}", cluster.nodes()[number].port());
    assert_eq!(log.count(POLICY), 1, "of any node: {}", log.text());
    assert!(log.text().contains(&name(1)), "{}", log.text());

    let nodes = store.health_of_nodes().await;
    let mut names = [0, 1, 2].map(name);
    names.sort();
    assert_eq!(nodes.iter().map(|node| node.name()).collect::<Vec<_>>(), names);
    for node in &nodes {
        let health = node.health().unwrap();
        assert_eq!((health.role(), health.replicas()), (Some(Role::Primary), Some(1)));
        let evicts = health.eviction_policy().is_some_and(EvictionPolicy::evicts_sessions);
        assert_eq!(evicts, node.name() == name(1));
    }
    let worst = store.health().await.unwrap();
    assert_eq!(worst.eviction_policy().unwrap().as_str(), "volatile-lru");
    run(&mut evicting, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    let worst = store.health().await.unwrap();
    assert_eq!(worst.max_memory(), Some(1 << 30), "the fuller one");
    assert_eq!(log.count(POLICY), 1, "said once: {}", log.text());

    cluster.nodes()[1].kill().await;
    store.health().await.unwrap_err();
    for node in store.health_of_nodes().await {
        assert_eq!(node.health().is_err(), node.name() == name(1), "{node:?}");
    }
}
