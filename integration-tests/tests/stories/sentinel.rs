//! A primary that fails over: Sentinel says who it is, and sessions go on at the next one.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use integration_tests::{Browser, PATIENCE, RedisServer, SentinelRedis, redis_config, until};
use redis::AsyncCommands as _;
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{StoreErrorKind, conformance};

use crate::support::{outage, serve};

/// Longer than a test lasts: nothing fails over by itself.
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
    // Two applications: one with the default time limits, one that waits.
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

    // The old primary comes back, and for a while takes itself for one: nobody follows it.
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
    // Whether the count had reached a replica is not what this is about.
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
    let mut sentinel = redis.sentinels()[0].connection().await;
    let mut failover = redis::cmd("SENTINEL");
    failover.arg(&["FAILOVER", SentinelRedis::NAME]);
    let _: () = failover.query_async(&mut sentinel).await.unwrap();
    let former = redis.servers()[0].port();
    until("there is another primary", async || redis.primary().await.port() != former).await;
    // Nothing was killed: the old one says `READONLY`, or closed the connection when it was demoted.
    let answer = until_ok(&browser, "/set/note/after").await;
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(browser.session().await["owner"], "ada");
}

/// A primary that was silent takes itself for one until a sentinel tells it better, which takes about ten seconds, and
/// here for ever: it is not allowed to follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_former_primary_that_takes_itself_for_one_is_left() {
    let redis = SentinelRedis::start(NEVER).await;
    let store = RedisStore::connect(redis_config(config(&redis), PATIENCE)).await.unwrap();
    let addr = serve(Sessions::new(store)).await;
    Browser::new(addr).post("/count").await.ok();
    let former = &redis.servers()[0];
    let mut admin = former.connection().await;
    let mut forbid = redis::cmd("ACL");
    forbid.arg(&["SETUSER", "default", "-replicaof", "-slaveof"]);
    let _: () = forbid.query_async(&mut admin).await.unwrap();
    let mut sentinel = redis.sentinels()[0].connection().await;
    let mut failover = redis::cmd("SENTINEL");
    failover.arg(&["FAILOVER", SentinelRedis::NAME]);
    let _: () = failover.query_async(&mut sentinel).await.unwrap();
    until("there is another primary", async || redis.primary().await.port() != former.port()).await;

    let mut primary = redis.primary().await.connection().await;
    let mut keys = async || redis::cmd("DBSIZE").query_async::<u64>(&mut primary).await.unwrap();
    let before = keys().await;
    until("the new primary gets what is written", async || {
        Browser::new(addr).post("/count").await.ok();
        keys().await > before
    })
    .await;
    let role: Vec<redis::Value> = redis::cmd("ROLE").query_async(&mut admin).await.unwrap();
    assert_eq!(role[0], redis::Value::BulkString(b"master".into()));
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

    // One sentinel that is there is enough.
    let with_one_gone = [gone.url().to_owned()].into_iter().chain(urls());
    let config = RedisConfig::sentinel(with_one_gone, SentinelRedis::NAME).with_database(3);
    RedisStore::connect(patient(config)).await.unwrap();
}
