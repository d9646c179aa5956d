//! Redis over TLS, with certificates on both sides.

mod rotation;

use std::error::Error as _;

use integration_tests::{
    Authority, Browser, PATIENCE, RedisServer, TlsFiles, free_port, redis_config, until,
};
use redis::{FromRedisValue, RedisResult};
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::StoreErrorKind;

use crate::{
    support::serve,
    transports::{a_visitor_is_signed_in, share_packets, why},
};

#[tokio::test]
async fn redis_and_the_application_know_each_other_by_certificates() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (redis, _files, url) = TlsFiles::server(&ours, "127.0.0.1").await;
    let (certificate, key) = ours.sign("application");
    let config = || RedisConfig::new(&*url).with_root_certificate(ours.pem());
    a_visitor_is_signed_in(config().with_client_certificate(&*certificate, &*key)).await;

    let (kind, text) = why(RedisConfig::new(&*url)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("an authority that is not trusted"), "the system knows it not: {text}");

    let (kind, text) = why(config()).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("`with_client_certificate`"), "{text}");

    let (certificate, key) = theirs.sign("application");
    let (kind, text) = why(config().with_client_certificate(&*certificate, &*key)).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("`with_client_certificate`"), "{text}");

    let (kind, text) = why(config().with_client_certificate("no", "certificate")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("the certificates cannot be read"), "{text}");

    // TLS on only one side, in both directions.
    let plain = RedisConfig::new(redis.url().replace("redis:", "rediss:"));
    let plain = plain.with_root_certificate(ours.pem());
    // Redis waits for the end of a line.
    let error = RedisStore::connect(plain).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    let text = error.source().unwrap().to_string();
    assert!(text.contains("or does only one side speak TLS?"), "{text}");
    let (_, text) = why(RedisConfig::new(url.replace("rediss:", "redis:"))).await;
    assert!(text.contains("speak TLS only"), "{text}");
    let (kind, text) = why(RedisConfig::new(redis.url()).with_root_certificate("x")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("no server is spoken to by TLS"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_accepted_only_if_the_host_is_named() {
    let ours = Authority::new();
    let (_redis, _files, url) = TlsFiles::server(&ours, "redis.elsewhere").await;
    let (certificate, key) = ours.sign("application");
    let config = || {
        RedisConfig::new(&*url)
            .with_root_certificate(ours.pem())
            .with_client_certificate(&*certificate, &*key)
    };
    for config in [config(), config().with_tls_server_name("redis.nowhere")] {
        let (kind, text) = why(config).await;
        assert_eq!(kind, StoreErrorKind::Misconfigured);
        assert!(text.contains("made out to another name"), "{text}");
        assert!(!text.contains("redis.elsewhere"), "what a server sends is not quoted: {text}");
    }
    a_visitor_is_signed_in(config().with_tls_server_name("redis.elsewhere")).await;

    let (kind, text) = why(config().with_tls_server_name("no name")).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("\"no name\" is neither a host name nor an IP address"), "{text}");
    let insecure = RedisConfig::new(format!("{url}/#insecure"));
    let (kind, text) = why(insecure.with_root_certificate(ours.pem())).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("every certificate is checked"), "{text}");
}

/// The multi-thread scheduler, as in servers. The single-thread one runs all ready tasks first anyway.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_at_once_share_packets_by_tls_too() {
    let authority = Authority::new();
    let files = TlsFiles::new(&authority, "127.0.0.1");
    let port = free_port();
    let redis = files.start(RedisServer::builder().arg("--tls-auth-clients", "no"), port).await;
    let config = RedisConfig::new(format!("rediss://127.0.0.1:{port}"));
    share_packets(config.with_root_certificate(authority.pem()), &redis).await;
}

async fn ask<T: FromRedisValue>(redis: &RedisServer, words: &[&str]) -> T {
    try_ask(redis, words).await.unwrap()
}

async fn try_ask<T: FromRedisValue>(redis: &RedisServer, words: &[&str]) -> RedisResult<T> {
    let mut connection =
        redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
}

/// Returns `false` also without a reply: a sentinel closes the connections of a server whose role it
/// changes.
async fn has_role(redis: &RedisServer, role: &str) -> bool {
    try_ask::<String>(redis, &["INFO", "replication"])
        .await
        .is_ok_and(|info| info.contains(&format!("role:{role}")))
}

#[tokio::test]
async fn a_cluster_is_reached_by_tls_on_each_node() {
    let ours = Authority::new();
    let files = TlsFiles::new(&ours, "127.0.0.1");
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let port = free_port_with_bus();
        let node = RedisServer::builder().arg("--cluster-enabled", "yes");
        nodes.push((files.start(node, port).await, port));
    }
    for ((node, port), slots) in nodes.iter().zip([0..5_461, 5_461..10_923, 10_923..16_384]) {
        let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
        let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
        let _: String = ask(node, &words.collect::<Vec<_>>()).await;
        let meet = ["CLUSTER", "MEET", "127.0.0.1", &port.to_string()];
        if *port != nodes[0].1 {
            let _: String = ask(&nodes[0].0, &meet).await;
        }
    }
    for (node, _) in &nodes {
        until("the cluster is whole", async || {
            let info: String = ask(node, &["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }

    let (certificate, key) = ours.sign("application");
    let config = RedisConfig::cluster([format!("rediss://127.0.0.1:{}", nodes[0].1)])
        .with_root_certificate(ours.pem())
        .with_client_certificate(certificate, key);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let addr = serve(Sessions::new(store.clone())).await;
    for number in 0..20 {
        let browser = Browser::new(addr);
        browser.post(&format!("/login/{number}")).await.ok();
        browser.post("/count").await.ok();
        assert_eq!(browser.session().await["values"]["count"], 1);
    }
    for (node, _) in &nodes {
        assert!(ask::<u64>(node, &["DBSIZE"]).await > 0, "a node that has no session");
    }
    let mut names: Vec<_> = nodes.iter().map(|(_, port)| format!("127.0.0.1:{port}")).collect();
    names.sort();
    let healths = store.health_of_nodes().await;
    assert_eq!(healths.iter().map(|node| node.name()).collect::<Vec<_>>(), names, "by TLS");
}

#[tokio::test]
async fn a_primary_that_sentinel_names_is_reached_by_tls_also_after_a_failover() {
    let ours = Authority::new();
    let files = TlsFiles::new(&ours, "127.0.0.1");
    let [first, second, third] = [free_port(), free_port(), free_port()];
    let primary = files.start(RedisServer::builder(), first).await;
    let replica = RedisServer::builder().args([
        "--repl-diskless-sync-delay",
        "0",
        "--replicaof",
        "127.0.0.1",
        &first.to_string(),
    ]);
    let replica = files.start(replica, second).await;
    let monitor = format!("sentinel monitor mymaster 127.0.0.1 {first} 1\n");
    let sentinel = files.start(RedisServer::builder().sentinel(monitor), third).await;
    until("the sentinel knows the replica", async || {
        let known: Vec<redis::Value> = ask(&sentinel, &["SENTINEL", "REPLICAS", "mymaster"]).await;
        let info: String = ask(&replica, &["INFO", "replication"]).await;
        known.len() == 1 && info.contains("master_link_status:up")
    })
    .await;

    let (certificate, key) = ours.sign("application");
    let config = RedisConfig::sentinel([format!("rediss://127.0.0.1:{third}")], "mymaster")
        .with_root_certificate(ours.pem())
        .with_client_certificate(certificate, key);
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    until("the replica has the session", async || ask::<u64>(&replica, &["DBSIZE"]).await == 2)
        .await;

    until("the sentinel begins a failover", async || {
        try_ask::<String>(&sentinel, &["SENTINEL", "FAILOVER", "mymaster"]).await.is_ok()
    })
    .await;
    until("the replica is the primary", async || has_role(&replica, "master").await).await;
    until("the former primary follows", async || has_role(&primary, "slave").await).await;
    until("writes work", async || browser.post("/count").await.status == StatusCode::OK).await;
    assert_eq!(browser.session().await["owner"], "ada");
    let stats: String = ask(&replica, &["INFO", "commandstats"]).await;
    assert!(stats.contains("cmdstat_evalsha"), "{stats}");
}

#[tokio::test]
async fn sentinels_and_servers_may_differ_in_tls() {
    let ours = Authority::new();
    let (primary, _files, by_tls) = TlsFiles::server(&ours, "127.0.0.1").await;
    let tls_port = by_tls.rsplit(':').next().unwrap();
    let monitor = format!(
        "sentinel monitor by-tls 127.0.0.1 {tls_port} 1\nsentinel monitor plain 127.0.0.1 {} 1\n",
        primary.port()
    );
    let files = TlsFiles::new(&ours, "127.0.0.1");
    let port = free_port();
    let sentinel = files.start(RedisServer::builder().sentinel(monitor), port).await;
    let (certificate, key) = ours.sign("application");
    let sentinel_by_tls = format!("rediss://127.0.0.1:{port}");
    for (sentinel, name, primary_tls) in
        [(sentinel.url(), "by-tls", true), (&*sentinel_by_tls, "plain", false)]
    {
        let config = RedisConfig::sentinel([sentinel], name)
            .with_root_certificate(ours.pem())
            .with_client_certificate(&*certificate, &*key);
        let other = config.clone().with_primary_tls(!primary_tls);
        let config = redis_config(config.with_primary_tls(primary_tls), PATIENCE);
        RedisStore::connect(config).await.unwrap();
        RedisStore::connect(other).await.unwrap_err();
    }
}

/// Returns a port for a node of a cluster, which talks to other nodes on a port that is 10,000 higher.
fn free_port_with_bus() -> u16 {
    loop {
        let port = free_port() - 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
