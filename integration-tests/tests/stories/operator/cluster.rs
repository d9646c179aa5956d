//! The operator's program on a cluster whose nodes die, join and stand still.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use integration_tests::{ClusterRedis, PATIENCE, RedisServer, redis_config, until};
use serde_json::json;
use session_axum::{RedisConfig, RedisStore};
use session_core::SessionKey;
use tokio::{task::JoinHandle, time::timeout};

use super::{Site, watch::Watch};

/// Longer than a machine stands still, so that every node stays in the cluster.
const NEVER: Duration = Duration::from_secs(600);

/// A subscription notices a silent node within about 10 seconds, and later on a busy machine.
const HANG: Duration = Duration::from_secs(30);

async fn site(cluster: &ClusterRedis) -> Site {
    let urls = cluster.urls().collect::<Vec<_>>().join(" ");
    let mut site = Site::new(RedisConfig::cluster(cluster.urls()), urls).await;
    site.options.push("--cluster".to_owned());
    site
}

async fn store(cluster: &ClusterRedis, prefix: &str) -> RedisStore {
    let config = redis_config(RedisConfig::cluster(cluster.urls()), PATIENCE);
    RedisStore::connect(config.with_prefix(prefix).unwrap()).await.unwrap()
}

/// Begins sessions of different users.
async fn begin(site: &Site, count: u32) -> BTreeSet<SessionKey> {
    let mut keys = BTreeSet::new();
    for number in 0..count {
        keys.insert(site.begin(move |session| session.authenticate(number)).await);
    }
    keys
}

/// Waits until the replica of the first node has all its keys, kills the first node, and waits until
/// the replica has taken its place.
async fn fail_over(cluster: &ClusterRedis) {
    let size = async |node: &RedisServer| {
        let mut node = node.connection().await;
        redis::cmd("DBSIZE").query_async::<u64>(&mut node).await.unwrap()
    };
    let nodes = cluster.nodes();
    until("the keys are at the replica", async || size(&nodes[0]).await == size(&nodes[3]).await)
        .await;
    nodes[0].kill().await;
    until("the replica is promoted", async || cluster.owner_by(1, 0).await == Some(3)).await;
}

#[tokio::test]
async fn all_nodes_of_a_cluster_are_counted_and_revoked() {
    let cluster = ClusterRedis::start(NEVER).await;
    let site = site(&cluster).await;
    begin(&site, 50).await;
    assert_eq!(site.count().await, 50);
    let revoked = site.json(&["revoke", "everybody", "--yes"]).await;
    assert_eq!(revoked, [json!({ "revoked": 50 })]);
    assert_eq!(site.count().await, 0);
}

/// The program looks for the node that has taken the place of the dead one.
#[tokio::test(flavor = "multi_thread")]
async fn watch_goes_on_after_a_failover() {
    let cluster = ClusterRedis::start(Duration::from_secs(2)).await;
    let site = site(&cluster).await;
    let mut watch = Watch::start(&site).await;
    fail_over(&cluster).await;
    watch.goes_on_after_a_loss().await;
    let mut keys = begin(&site, 30).await;
    while !keys.is_empty() {
        // The application has met the dead node too, and has repeated a login with another key.
        let change = watch.next().await;
        if change["event"] == "created" {
            keys.remove(&change["key"].as_str().unwrap().parse().unwrap());
        }
    }
}

/// One client, idle during the failover, walks before and after it.
#[tokio::test(flavor = "multi_thread")]
async fn walk_goes_on_at_the_node_that_took_over() {
    let cluster = ClusterRedis::start(Duration::from_secs(2)).await;
    let site = site(&cluster).await;
    let keys = begin(&site, 500).await;
    let (idle, walking) = (store(&cluster, "session:").await, store(&cluster, "session:").await);
    // With many keys in each node, the walks end at none of them yet.
    let mut walks: Vec<_> = (0..5).map(|_| (walking.scan(), BTreeSet::new())).collect();
    for (walk, found) in &mut walks {
        found.extend(walk.next().await.unwrap().unwrap());
    }
    fail_over(&cluster).await;
    walks.insert(0, (idle.scan(), BTreeSet::new()));
    for (number, (walk, found)) in walks.iter_mut().enumerate() {
        let mut errors = 0;
        loop {
            match walk.next().await {
                Ok(Some(keys)) => found.extend(keys),
                Ok(None) => break,
                Err(error) if number == 0 => panic!("the walk began at a dead node: {error}"),
                Err(error) if errors == 10 => panic!("the walk waits for a dead node: {error}"),
                Err(_) => {
                    errors += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
        assert_eq!(*found, keys);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_joins_is_watched_and_walked() {
    let mut cluster = ClusterRedis::start(NEVER).await;
    let idle = store(&cluster, "{one}").await;
    let store = store(&cluster, "{one}").await;
    let slot = cluster.slot("{one}s:any").await;
    let owner = cluster.owner(slot).await;
    let mut changes = store.changes().await.unwrap();
    assert!(timeout(Duration::from_secs(12), changes.next()).await.is_err(), "nothing happens");
    cluster.add_node().await;
    cluster.move_slot(slot, owner, 6, async || ()).await;
    assert_eq!(timeout(PATIENCE, changes.next()).await.unwrap(), None);
    let mut changes = store.changes().await.unwrap();
    let site = Site { sessions: session_axum::Sessions::new(store), ..site(&cluster).await };
    let key = site.begin(|session| session.authenticate("ada")).await;
    assert_eq!(timeout(PATIENCE, changes.next()).await.unwrap(), Some(key));

    let mut walk = idle.scan();
    let mut found = Vec::new();
    while let Some(keys) = walk.next().await.unwrap() {
        found.extend(keys);
    }
    assert_eq!(found, [key]);
}

/// One node reports changes without a pause, and another node stands still.
#[tokio::test(flavor = "multi_thread")]
async fn silent_node_is_noticed_while_another_reports() {
    let cluster = ClusterRedis::start(NEVER).await;
    let store = store(&cluster, "{one}").await;
    let owner = cluster.owner(cluster.slot("{one}s:any").await).await;
    let mut changes = store.changes().await.unwrap();
    let writing = write_on(&cluster.nodes()[owner]).await;
    assert!(changes.next().await.is_some());
    let silent = &cluster.nodes()[(owner + 1) % 3];
    silent.pause().await;
    let begin = Instant::now();
    let mut count = 0_u64;
    while changes.next().await.is_some() {
        count += 1;
        assert!(begin.elapsed() < HANG, "{count} changes, and the silence is not noticed");
    }
    println!("the silence was noticed after {:.1?} and {count} changes", begin.elapsed());
    assert!(count > 1_000);
    writing.abort();
    silent.unpause().await;
}

/// A caller may give up the wait at any time, and wait again.
#[tokio::test(flavor = "multi_thread")]
async fn silent_node_is_noticed_by_an_impatient_caller() {
    let cluster = ClusterRedis::start(NEVER).await;
    let mut changes = store(&cluster, "{one}").await.changes().await.unwrap();
    let silent = &cluster.nodes()[1];
    silent.pause().await;
    let begin = Instant::now();
    while timeout(Duration::from_secs(1), changes.next()).await != Ok(None) {
        assert!(begin.elapsed() < HANG, "the silence is not noticed");
    }
    println!("the silence was noticed after {:.1?}", begin.elapsed());
    silent.unpause().await;
}

/// The caller is slower than the node that reports.
#[tokio::test(flavor = "multi_thread")]
async fn emptied_node_is_noticed_behind_a_backlog() {
    let cluster = ClusterRedis::start(NEVER).await;
    let store = store(&cluster, "{one}").await;
    let owner = cluster.owner(cluster.slot("{one}s:any").await).await;
    let mut changes = store.changes().await.unwrap();
    let writing = write_on(&cluster.nodes()[owner]).await;
    until("changes were left out", async || changes.lost() > 0).await;
    assert!(changes.next().await.is_some());
    let mut emptied = cluster.nodes()[(owner + 1) % 3].connection().await;
    let () = redis::cmd("FLUSHALL").query_async(&mut emptied).await.unwrap();
    let begin = Instant::now();
    while changes.next().await.is_some() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the backlog hides the loss");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("the loss was noticed after {:.1?}", begin.elapsed());
    writing.abort();
}

/// Writes 1,000 sessions of the prefix `{one}` on a node, again and again.
async fn write_on(node: &RedisServer) -> JoinHandle<()> {
    let mut writer = node.connection().await;
    tokio::spawn(async move {
        let keys: Vec<_> = (0..1_000_u32)
            .map(|number| {
                let mut bytes = [0; SessionKey::LEN];
                bytes[..4].copy_from_slice(&number.to_be_bytes());
                format!("{{one}}s:{}", SessionKey::from_bytes(bytes))
            })
            .collect();
        loop {
            let mut all = redis::cmd("MSET");
            for key in &keys {
                all.arg(key).arg("1");
            }
            let () = all.query_async(&mut writer).await.unwrap();
        }
    })
}
