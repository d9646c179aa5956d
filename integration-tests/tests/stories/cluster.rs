//! Sessions on a cluster: keys on different nodes, moving slots, a failed node.

use std::{
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use integration_tests::{
    Browser, ClusterRedis, Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until,
};
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{StoreErrorKind, conformance};

use crate::{
    acl::acl,
    support::{Log, outage, serve},
};

/// Longer than a machine stands still, so that every node stays in the cluster.
const NEVER: Duration = Duration::from_secs(600);

fn config(redis: &ClusterRedis) -> RedisConfig {
    RedisConfig::cluster(redis.urls())
}

async fn patient(redis: &ClusterRedis) -> RedisStore {
    RedisStore::connect(redis_config(config(redis), PATIENCE)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_a_cluster_passes_the_suite() {
    let redis = ClusterRedis::start(NEVER).await;
    let report = conformance::check(patient(&redis).await).await;
    println!("{report}");
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_on_all_nodes_are_listed_and_ended() {
    let redis = ClusterRedis::start(NEVER).await;
    // The user has exactly the rights of the operator's page.
    for node in redis.nodes() {
        let mut node = node.connection().await;
        let mut words = acl();
        words.extend(["+cluster|slots", "+asking"].map(str::to_owned));
        let _: () = redis::cmd("ACL").arg(words).query_async(&mut node).await.unwrap();
    }
    let config = config(&redis).with_user("sessions").with_password("secret");
    let config = redis_config(config, PATIENCE).with_prefix("shop:").unwrap();
    let addr = serve(Sessions::new(RedisStore::connect(config).await.unwrap())).await;
    let devices: Vec<_> = (0..40).map(|_| Browser::new(addr)).collect();
    for device in &devices {
        device.post("/login/ada/s1").await.ok();
        device.post("/count").await.ok();
    }
    for node in &redis.nodes()[..3] {
        let mut node = node.connection().await;
        let keys: Vec<String> = node.keys("shop:s:*").await.unwrap();
        assert!(!keys.is_empty(), "40 keys are on all nodes");
    }
    let list = devices[0].get("/devices").await.ok().json();
    assert_eq!(list.as_array().unwrap().len(), 40);

    // Each node that lacks a script receives it independently.
    for node in &redis.nodes()[..3] {
        let mut node = node.connection().await;
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut node).await.unwrap();
    }
    assert_eq!(devices[0].post("/end-others").await.ok().body, "39");
    assert!(devices[39].session().await["owner"].is_null());
    assert_eq!(devices[0].session().await["owner"], "ada");
    devices[0].post("/renew").await.ok();
    assert_eq!(devices[1].post("/end-linked/s1").await.ok().body, "1");
    assert!(devices[0].session().await["owner"].is_null());
    devices[0].post("/login/ada/s1").await.ok();
    assert_eq!(devices[0].post("/end-all").await.ok().body, "1");
    assert_eq!(devices[1].post("/end-linked/s1").await.ok().body, "0");
    assert!(devices[0].session().await["owner"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_moves_under_writes_loses_none() {
    let redis = ClusterRedis::start(NEVER).await;
    let store = RedisStore::connect(
        // All keys are in one slot, so that the moving slot is the written one.
        redis_config(config(&redis), PATIENCE).with_prefix("{one}").unwrap(),
    )
    .await
    .unwrap();
    let addr = serve(Sessions::new(store)).await;
    let slot = redis.slot("{one}s:any").await;
    let mut owner = redis.owner(slot).await;
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (browser, stop) = (Browser::new(addr), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            tokio::spawn(async move {
                browser.post(&format!("/login/user-{number}")).await.ok();
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    browser.post("/count").await.ok();
                    count += 1;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                (browser, count)
            })
        })
        .collect();
    // During each pause, the writers meet another state of the move.
    let more_writes = async || {
        let enough = acknowledged.load(Ordering::Relaxed) + 50;
        until("writes go on", async || acknowledged.load(Ordering::Relaxed) >= enough).await;
    };
    more_writes().await;
    for _ in 0..4 {
        let next = (owner + 1) % 3;
        redis.move_slot(slot, owner, next, more_writes).await;
        owner = next;
        more_writes().await;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        let (browser, count) = writer.await.unwrap();
        assert_eq!(browser.session().await["values"]["count"], count);
    }
    println!("slot {slot} moved 4 times under {} writes", acknowledged.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_after_a_primary_was_killed() {
    let redis = ClusterRedis::start(Duration::from_secs(2)).await;
    let waiting = Browser::new(serve(Sessions::new(patient(&redis).await)).await);
    let hasty = RedisStore::connect(config(&redis)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(hasty)).await);
    until("a visitor is signed in", async || {
        browser.post("/login/ada").await.status == StatusCode::OK
    })
    .await;
    let id = browser.session_id().unwrap();
    let key = format!("session:s:{}", browser.session().await["key"].as_str().unwrap());
    let owner = redis.owner(redis.slot(&key).await).await;
    let mut replica = redis.nodes()[owner + 3].connection().await;
    let _: () = redis::cmd("READONLY").query_async(&mut replica).await.unwrap();
    until("the login is at the replica", async || replica.exists(&key).await.unwrap()).await;

    redis.nodes()[owner].kill().await;
    outage("a cluster, which waits 2 s for a node that was killed", &browser).await;
    assert_eq!(browser.session_id().unwrap(), id);
    let session = browser.at(waiting.addr()).session().await;
    assert_eq!((&session["owner"], &session["values"]["note"]), (&"ada".into(), &"after".into()));

    redis.nodes()[owner].start_again().await;
    assert_eq!(browser.post("/count").await.ok().body, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_after_a_primary_went_silent() {
    let redis = ClusterRedis::start(Duration::from_secs(2)).await;
    let store = RedisStore::connect(config(&redis).with_prefix("{one}").unwrap()).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    until("a visitor writes", async || browser.post("/count").await.status == StatusCode::OK).await;
    let owner = redis.owner(redis.slot("{one}s:any").await).await;
    redis.nodes()[owner].pause().await;
    // The test does not depend on whether the count has reached the replica.
    let visitor = Browser::new(browser.addr());
    outage("a cluster, which waits 2 s for a node that is silent", &visitor).await;
    redis.nodes()[owner].unpause().await;
    until("writes work", async || visitor.post("/count").await.status == StatusCode::OK).await;
    assert_eq!(visitor.session().await["values"]["note"], "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_went_silent_costs_only_its_own_sessions() {
    let redis = ClusterRedis::start(NEVER).await;
    let store = RedisStore::connect(config(&redis)).await.unwrap();
    let addr = serve(Sessions::new(store)).await;
    // An anonymous session has exactly one key.
    let mut by_node: Vec<Option<Browser>> = vec![None, None, None];
    while by_node.iter().any(Option::is_none) {
        let browser = Browser::new(addr);
        if browser.post("/count").await.status != StatusCode::OK {
            continue;
        }
        let key = format!("session:s:{}", browser.session().await["key"].as_str().unwrap());
        by_node[redis.owner(redis.slot(&key).await).await] = Some(browser);
    }
    let browsers: Vec<_> = by_node.into_iter().flatten().collect();

    redis.nodes()[0].pause().await;
    for _ in 0..10 {
        let begin = Instant::now();
        let answer = browsers[0].get("/session").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
    for browser in &browsers[1..] {
        until("the other nodes serve", async || {
            browser.get("/session").await.status == StatusCode::OK
        })
        .await;
    }
    redis.nodes()[0].unpause().await;
    until("the node is back", async || browsers[0].get("/session").await.status == StatusCode::OK)
        .await;
    assert_eq!(browsers[0].session().await["values"]["count"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_cluster_is_said_at_the_start() {
    let redis = ClusterRedis::start(NEVER).await;
    let why = async |config: RedisConfig| {
        let error = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap_err();
        (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
    };
    let url = redis.nodes()[0].url();
    let (kind, text) = why(RedisConfig::new(url)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("another node has this key: `RedisConfig::cluster`"), "{text}");

    let alone = RedisServer::builder().on_host().start().await;
    let (kind, text) = why(RedisConfig::cluster([alone.url()])).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("belongs to no cluster: `RedisConfig::new`"), "{text}");

    let (kind, text) = why(config(&redis).with_database(1)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    // Valkey 9 may have other databases.
    let of_servers = ["which has no database but 0", "refuses the database"];
    assert!(of_servers.iter().any(|refusal| text.contains(refusal)), "{text}");

    let (kind, text) = why(config(&redis).with_user("eve").with_password("hunter2")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("refuses the password") && !text.contains("hunter2"), "{text}");

    let (kind, _) = why(RedisConfig::cluster(["unix:///tmp/none"])).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    let (kind, text) = why(RedisConfig::cluster(Vec::<String>::new())).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert_eq!(text, "`RedisConfig::cluster` was given no URL: it takes those of one node or more");

    // Proxies that know the commands of a cluster may report another mode.
    let proxy = FaultProxy::before(&redis.nodes()[0]).await;
    proxy.each("cluster", Fault::Answer("-ERR unknown command 'CLUSTER'"));
    let (kind, text) = why(RedisConfig::cluster([proxy.url()])).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("does not know the command `CLUSTER`"), "{text}");
    proxy.each("cluster", None);
    proxy.each("info", Fault::Answer("$21\r\nredis_mode:standalone"));
    RedisStore::connect(redis_config(RedisConfig::cluster([proxy.url()]), PATIENCE)).await.unwrap();

    // One reachable node suffices, and may be a replica.
    alone.kill().await;
    let some = RedisConfig::cluster([alone.url(), redis.nodes()[5].url()]);
    let store = RedisStore::connect(redis_config(some, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    assert_eq!(browser.session().await["owner"], "ada");
}

#[tokio::test]
async fn node_that_has_all_slots_works_as_one_server_with_a_warning() {
    let node = RedisServer::builder().arg("--cluster-enabled", "yes").on_host().start().await;
    let mut admin = node.connection().await;
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let mut add = redis::cmd("CLUSTER");
    let _: () = add.arg("ADDSLOTS").arg(slots).query_async(&mut admin).await.unwrap();
    until("the node serves its slots", async || {
        let exists: Result<u32, _> =
            redis::cmd("EXISTS").arg("key").query_async(&mut admin.clone()).await;
        exists.is_ok()
    })
    .await;

    let log = Log::default();
    let _listening = log.listen();
    let store = RedisStore::connect(redis_config(node.url(), PATIENCE)).await.unwrap();
    assert_eq!(log.count("this Redis is a node of a cluster"), 1, "{}", log.text());
    assert_eq!(store.health().await.unwrap().is_cluster_node(), Some(true));
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    assert_eq!(browser.session().await["owner"], "ada");

    let log = Log::default();
    let _listening = log.listen();
    let of_cluster = RedisConfig::cluster([node.url()]);
    RedisStore::connect(redis_config(of_cluster, PATIENCE)).await.unwrap();
    assert_eq!(log.count("this Redis is a node of a cluster"), 0, "{}", log.text());
}
