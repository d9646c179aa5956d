//! A failover under Sentinel: the sentinels name the new primary, and sessions continue there.

use std::{
    error::Error as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use integration_tests::{Browser, PATIENCE, RedisServer, SentinelRedis, redis_config, until};
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{StoreErrorKind, conformance};
use session_redis::Credentials;
use tokio::time::{sleep, timeout};

use crate::{
    acl::{acl as user_of_servers, acl_of_sentinels as user_of_sentinels},
    support::{outage, serve},
};

/// Longer than a test lasts, so that a failover starts only on demand.
const NEVER: Duration = Duration::from_secs(3600);

fn config(redis: &SentinelRedis) -> RedisConfig {
    RedisConfig::sentinel(redis.urls(), SentinelRedis::NAME)
}

async fn why(config: RedisConfig) -> (StoreErrorKind, String) {
    let error = RedisStore::connect(config).await.unwrap_err();
    (error.kind(), error.source().map(ToString::to_string).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_found_by_sentinel_passes_the_suite() {
    let redis = SentinelRedis::start(NEVER).await;
    let config = redis_config(config(&redis), PATIENCE).with_prefix("suite:").unwrap();
    let report = conformance::check(RedisStore::connect(config).await.unwrap()).await;
    println!("{report}");
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_after_the_primary_was_killed() {
    let redis = SentinelRedis::start(Duration::from_secs(2)).await;
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let hasty = RedisStore::connect(config(&redis)).await.unwrap();
    // Two applications: one with the default time limits, and one with long limits.
    let (browser, patient) =
        (Browser::new(serve(Sessions::new(hasty)).await), serve(Sessions::new(store)).await);
    until("a visitor is signed in", async || {
        browser.post("/login/ada").await.status == StatusCode::OK
    })
    .await;
    let id = browser.session_id().unwrap();
    for replica in &redis.servers()[1..] {
        let mut replica = replica.connection().await;
        until("the login is at the replicas", async || {
            replica.keys::<_, Vec<String>>("session:s:*").await.unwrap().len() == 1
        })
        .await;
    }

    redis.servers()[0].kill().await;
    let answer = outage("Sentinel, which waits 2 s for a primary that was killed", &browser).await;
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(browser.session_id().unwrap(), id);
    let session = browser.at(patient).session().await;
    assert_eq!((&session["owner"], &session["values"]["note"]), (&"ada".into(), &"after".into()));

    // The old primary returns, and for a while acts as a primary, which the store must not use. The
    // store may use the new primary before the sentinels name it.
    let former = redis.servers()[0].port();
    until("there is another primary", async || redis.primary().await.port() != former).await;
    redis.servers()[0].start_again().await;
    for _ in 0..20 {
        let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
        let late = browser.at(serve(Sessions::new(store)).await);
        assert_eq!(late.session().await["values"]["note"], "after");
    }
    assert_ne!(redis.primary().await.port(), redis.servers()[0].port());
    assert_eq!(browser.at(patient).post("/count").await.ok().body, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_after_the_primary_went_silent() {
    let redis = SentinelRedis::start(Duration::from_secs(2)).await;
    let browser = Browser::new(
        serve(Sessions::new(RedisStore::connect(config(&redis)).await.unwrap())).await,
    );
    until("a visitor writes", async || browser.post("/count").await.status == StatusCode::OK).await;
    redis.servers()[0].pause().await;
    // The test does not depend on whether the count has reached a replica.
    let visitor = Browser::new(browser.addr());
    outage("Sentinel, which waits 2 s for a primary that is silent", &visitor).await;
    redis.servers()[0].unpause().await;
    until_ok(&visitor, "/count").await;
    assert_eq!(visitor.session().await["values"]["note"], "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_demand_is_followed_before_the_old_primary_goes() {
    let redis = SentinelRedis::start(NEVER).await;
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/login/ada").await.ok();
    fail_over(&redis.sentinels()[0]).await;
    let former = redis.servers()[0].port();
    until("there is another primary", async || redis.primary().await.port() != former).await;
    // Both servers run: the old one replies `READONLY`, or closed the connection when it was demoted.
    let answer = until_ok(&browser, "/set/note/after").await;
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(browser.session().await["owner"], "ada");
}

/// The time limits are the defaults. The promise is 200 ms; the rest is for a busy machine. A store that
/// only asks the sentinels loses more writes: the leading sentinel polls the replica once a second, and
/// names it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_on_demand_loses_no_write_after_the_promotion() {
    const LOST_FOR: Duration = Duration::from_millis(700);
    let redis = SentinelRedis::start(NEVER).await;
    let former = &redis.servers()[0];
    keep_role(former).await;
    let store = RedisStore::connect(config(&redis)).await.unwrap();
    let addr = serve(Sessions::new(store)).await;
    let promotion = redis.promotion().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let visitors: Vec<_> =
        (0..8).map(|_| tokio::spawn(count_until(Arc::clone(&is_over), addr))).collect();
    sleep(Duration::from_secs(1)).await;
    fail_over(&redis.sentinels()[0]).await;
    let promoted_at = promotion.await.unwrap();
    until("there is another primary", async || redis.primary().await.port() != former.port()).await;
    sleep(Duration::from_secs(2)).await;
    is_over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        let lost = visitor.await.unwrap();
        let lost_for = lost.map(|at| at.saturating_duration_since(promoted_at));
        println!("lost until {lost_for:?} after the promotion");
        assert!(lost_for.unwrap_or_default() <= LOST_FOR, "{lost_for:?}");
    }
    assert_eq!(role(former).await, "master");
}

/// A sentinel waits for the promotion until its time limit. The replicas forbid the promotion here.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_that_fails_is_waited_for_and_then_ignored() {
    let redis = SentinelRedis::start(NEVER).await;
    for replica in &redis.servers()[1..] {
        keep_role(replica).await;
    }
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/count").await.ok();
    fail_over(&redis.sentinels()[0]).await;
    for count in 2..=30 {
        assert_eq!(browser.post("/count").await.ok().body, count.to_string());
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(role(&redis.servers()[0]).await, "master");
}

/// Counts, and returns when the last lost count was acknowledged: a count is lost if a later one does
/// not exceed it.
async fn count_until(is_over: Arc<AtomicBool>, addr: SocketAddr) -> Option<Instant> {
    let browser = Browser::new(addr);
    let (mut last, mut lost) = (None, None);
    while !is_over.load(Ordering::Relaxed) {
        let answer = browser.post("/count").await;
        if answer.status != StatusCode::OK {
            continue;
        }
        let count: u64 = answer.body.parse().unwrap();
        if let Some((last, acknowledged_at)) = last
            && count <= last
        {
            lost = Some(acknowledged_at);
        }
        last = Some((count, Instant::now()));
    }
    lost
}

/// Forbids the sentinels to change the role of a server.
async fn keep_role(server: &RedisServer) {
    acl(server, &["SETUSER", "default", "-replicaof", "-slaveof"].map(str::to_owned)).await;
}

async fn fail_over(sentinel: &RedisServer) {
    let mut failover = redis::cmd("SENTINEL");
    failover.arg(&["FAILOVER", SentinelRedis::NAME]);
    failover.exec_async(&mut sentinel.connection().await).await.unwrap();
}

async fn role(server: &RedisServer) -> String {
    let mut connection = server.connection().await;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut connection).await.unwrap();
    redis::from_redis_value(role[0].clone()).unwrap()
}

/// Without announcements, the store learns of the failover by polling.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_is_left_without_subscriptions_too() {
    let redis = SentinelRedis::start(NEVER).await;
    for sentinel in redis.sentinels() {
        acl(sentinel, &["SETUSER", "default", "-subscribe"].map(str::to_owned)).await;
    }
    let former = &redis.servers()[0];
    keep_role(former).await;
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let addr = serve(Sessions::new(store)).await;
    Browser::new(addr).post("/count").await.ok();
    fail_over(&redis.sentinels()[0]).await;
    until("there is another primary", async || redis.primary().await.port() != former.port()).await;

    let mut primary = redis.primary().await.connection().await;
    let mut keys = async || redis::cmd("DBSIZE").query_async::<u64>(&mut primary).await.unwrap();
    let before = keys().await;
    until("the new primary gets the writes", async || {
        Browser::new(addr).post("/count").await.ok();
        keys().await > before
    })
    .await;
    assert_eq!(role(former).await, "master");
}

/// A silent primary may reply only after the failover, and would acknowledge a write that is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_at_a_silent_primary_is_sent_to_the_next_one() {
    let redis = SentinelRedis::start(Duration::from_secs(2)).await;
    let patience = Duration::from_secs(30);
    let store = RedisStore::connect(redis_config(config(&redis), patience)).await.unwrap();
    let addr = serve(Sessions::new(store)).await;
    let visitor = Browser::new(addr);
    visitor.post("/count").await.ok();
    redis.servers()[0].pause().await;
    let waiting = tokio::spawn(async move { visitor.post("/count").await.status });
    // Later commands notice the failover.
    let later = tokio::spawn(async move {
        loop {
            tokio::spawn(async move { Browser::new(addr).post("/count").await });
            sleep(Duration::from_millis(100)).await;
        }
    });
    let status = timeout(patience * 2 / 3, waiting).await.expect("an answer of the next primary");
    assert_eq!(status.unwrap(), StatusCode::OK);
    later.abort();
    redis.servers()[0].unpause().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_sentinels_are_kept_open() {
    let redis = SentinelRedis::start(NEVER).await;
    let mut sentinels = Vec::new();
    for sentinel in redis.sentinels() {
        sentinels.push(sentinel.connection().await);
    }
    let mut connections = async || {
        let mut counts = Vec::new();
        for sentinel in &mut sentinels {
            let mut info = redis::cmd("INFO");
            let info: redis::InfoDict = info.arg("stats").query_async(sentinel).await.unwrap();
            counts.push(info.get::<u64>("total_connections_received").unwrap());
        }
        counts
    };
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    // At the start, sentinels also connect to each other.
    until("no sentinel gets a connection for ten seconds", async || {
        let before = connections().await;
        for _ in 0..100 {
            browser.post("/count").await.ok();
            sleep(Duration::from_millis(100)).await;
        }
        connections().await == before
    })
    .await;
}

/// The sentinels' user is in their URLs, and the servers' user comes from a provider.
#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_the_page_follow_a_failover() {
    let redis = SentinelRedis::start(NEVER).await;
    for sentinel in redis.sentinels() {
        acl(sentinel, &user_of_sentinels()).await;
    }
    for server in redis.servers() {
        acl(server, &user_of_servers()).await;
    }
    let urls = redis.urls().map(|url| url.replace("redis://", "redis://watcher:secret@"));
    let config = RedisConfig::sentinel(urls, SentinelRedis::NAME)
        .with_prefix("shop:")
        .unwrap()
        .with_credentials(Credentials::new("sessions", "secret"));
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let browser = Browser::new(serve(Sessions::new(store)).await);
    browser.post("/count").await.ok();
    for sentinel in redis.sentinels() {
        let clients = clients(sentinel).await;
        let is_subscribed =
            |client: &str| client.contains(" user=watcher ") && client.contains(" sub=4 ");
        assert!(clients.lines().any(is_subscribed), "{clients}");
    }
    let former = &redis.servers()[0];
    fail_over(&redis.sentinels()[0]).await;
    until("there is another primary", async || redis.primary().await.port() != former.port()).await;
    until_ok(&browser, "/count").await;
    let clients = clients(redis.primary().await).await;
    assert!(clients.contains(" user=sessions "), "{clients}");
}

async fn acl(server: &RedisServer, words: &[String]) {
    redis::cmd("ACL").arg(words).exec_async(&mut server.connection().await).await.unwrap();
}

async fn clients(server: &RedisServer) -> String {
    let mut connection = server.connection().await;
    redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap()
}

async fn until_ok(browser: &Browser, path: &str) -> integration_tests::Answer {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = browser.post(path).await;
        if answer.status == StatusCode::OK || Instant::now() > deadline {
            return answer.ok();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_sentinels_is_said_at_the_start() {
    let redis = SentinelRedis::start(NEVER).await;
    let urls = || redis.urls().map(str::to_owned).collect::<Vec<_>>();
    let patient = |config| redis_config(config, PATIENCE);

    let (kind, text) = why(patient(RedisConfig::sentinel(urls(), "nobody"))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("knows no primary of the name \"nobody\""), "{text}");

    let server = redis.servers()[0].url();
    let (kind, text) = why(patient(RedisConfig::sentinel([server], "mymaster"))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("is no sentinel"), "{text}");

    let (kind, text) = why(patient(RedisConfig::new(redis.sentinels()[0].url()))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("is a sentinel and holds no sessions"), "{text}");

    let (kind, text) = why(patient(RedisConfig::new(redis.servers()[1].url()))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("is a replica, which takes no writes"), "{text}");

    let (kind, text) = why(patient(config(&redis).with_password("hunter2").with_user("eve"))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.contains("refuses the password") && !text.contains("hunter2"), "{text}");

    let (kind, text) = why(patient(RedisConfig::sentinel(Vec::<String>::new(), "x"))).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured);
    assert!(text.starts_with("`RedisConfig::sentinel` was given no URL"), "{text}");

    let gone = RedisServer::builder().on_host().start().await;
    gone.kill().await;
    let (kind, text) = why(patient(RedisConfig::sentinel([gone.url()], "x"))).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(text.contains("nobody listens at"), "{text}");

    // One reachable sentinel suffices.
    let with_one_gone = [gone.url().to_owned()].into_iter().chain(urls());
    let config = RedisConfig::sentinel(with_one_gone, SentinelRedis::NAME).with_database(3);
    RedisStore::connect(patient(config)).await.unwrap();
}
