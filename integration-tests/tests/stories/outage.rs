use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use integration_tests::{Answer, Browser, RedisServer, until};
use reqwest::StatusCode;
use session_core::{
    Clock as _, Family, IndexEntry, Owner, SessionIndex as _, SessionKey, SystemClock,
};
use session_redis::RedisStore;
use tokio::time::timeout;

use crate::support::{Deployment, Log};

/// The maximum duration of a request: a load with its time limit, or a commit and its one repetition, a
/// few seconds each, with room for a busy machine. The browser waits longer.
const LONGEST: Duration = Duration::from_secs(20);

/// Starts two servers with this time limit for Redis, and a Redis that persists every acknowledged
/// write.
async fn durable(patience: &str) -> Deployment {
    let redis = RedisServer::builder()
        .arg("--appendonly", "yes")
        .arg("--appendfsync", "always")
        .start()
        .await;
    Deployment::start(Some(redis), 2, &[("REDIS_PATIENCE", patience)]).await
}

/// Asserts the responses while Redis is down (I7).
async fn assert_outage(browser: &Browser) {
    assert_eq!(browser.get("/plain").await.ok().body, "plain");
    let id = browser.session_id();
    for path in ["/count", "/login/eve", "/logout", "/set/a/b"] {
        let begin = Instant::now();
        let answer = browser.post(path).await;
        assert_unavailable(&answer);
        assert!(begin.elapsed() < LONGEST, "{path} took {:?}", begin.elapsed());
    }
    assert_unavailable(&browser.get("/session").await);
    assert_eq!(browser.session_id(), id, "the cookie stays");
    let answer = browser.get("/optional").await.ok();
    assert!(answer.body.starts_with("no session: the session store "), "{answer:?}");
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(browser.get("/plain").await.ok().body, "plain");
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.set_cookie(), None, "{answer:?}");
    assert!(!answer.body.contains("redis") && !answer.body.contains("127.0.0.1"), "{answer:?}");
}

async fn assert_recovered(browser: &Browser, count: u64) {
    // Each of the two servers reconnects at a different instant.
    let is_back = async || browser.get("/session").await.status == StatusCode::OK;
    until("sessions are back", async || is_back().await && is_back().await).await;
    let session = browser.session().await;
    assert_eq!((&session["owner"], &session["values"]["count"]), (&"ada".into(), &count.into()));
    let next = count + 1;
    assert_eq!(browser.post("/count").await.ok().body, next.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_no_logout() {
    let deployment = durable("2000").await;
    let redis = deployment.redis();
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    browser.post("/count").await.ok();

    redis.stop().await;
    assert_outage(&browser).await;
    redis.start_again().await;
    assert_recovered(&browser, 1).await;

    redis.pause().await;
    assert_outage(&browser).await;
    redis.unpause().await;
    assert_recovered(&browser, 2).await;

    redis.kill().await;
    assert_outage(&browser).await;
    redis.start_again().await;
    assert_recovered(&browser, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_page_goes_on_while_redis_is_killed() {
    let deployment = durable("2000").await;
    let browser = deployment.browser();
    browser.post("/login/ada").await.ok();
    assert_eq!(browser.post("/public").await.ok().body, "1");
    let as_usual = r#"owner Some("ada"), count Some(1), outage false"#;
    assert_eq!(browser.get("/public").await.ok().body, as_usual);
    let id = browser.session_id();

    deployment.redis().kill().await;
    let answer = browser.get("/public").await.ok();
    assert_eq!(answer.body, "owner None, count None, outage true");
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["vary"], "cookie");
    assert_unavailable(&browser.post("/public").await);
    assert_eq!(browser.session_id(), id, "the cookie stays");

    deployment.redis().start_again().await;
    // At each of the two servers, as above.
    let is_back = async || browser.get("/public").await.body == as_usual;
    until("sessions are back", async || is_back().await && is_back().await).await;
    assert_eq!(browser.post("/public").await.ok().body, "2", "nothing of the outage was stored");
}

/// The store's own limits apply here. A busy machine may exceed them while Redis is running, so the
/// setup polls.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_an_outage_is_answered_within_seconds_by_default() {
    let deployment = durable("default").await;
    let browser = deployment.browser();
    until("Ada is signed in", async || browser.post("/login/ada").await.status == StatusCode::OK)
        .await;
    deployment.redis().pause().await;
    assert_outage(&browser).await;
    deployment.redis().unpause().await;
    until("sessions are back", async || {
        let answer = browser.get("/session").await;
        answer.status == StatusCode::OK && answer.json()["owner"] == "ada"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_without_a_cookie_gets_an_error_and_no_cookie_in_an_outage() {
    let deployment = Deployment::on_redis(1).await;
    deployment.redis().stop().await;
    let browser = deployment.browser();
    // Without a session to load, the handler runs and the commit fails.
    assert_unavailable(&browser.post("/count").await);
    assert!(browser.get("/session").await.ok().json()["key"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_while_redis_failed_is_what_counts() {
    for fault in ["kill", "pause", "stop"] {
        let deployment = durable("2000").await;
        let redis = deployment.redis();
        let browser = deployment.browser();
        browser.post("/login/ada").await.ok();
        let (acknowledged, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let writers = (0..8).map(|_| {
            let (browser, over) = (browser.clone(), Arc::clone(&over));
            let (acknowledged, failed) = (Arc::clone(&acknowledged), Arc::clone(&failed));
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let begin = Instant::now();
                    let answer = browser.post("/count").await;
                    assert!(begin.elapsed() < LONGEST, "{:?}", begin.elapsed());
                    if answer.status == StatusCode::OK {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    } else {
                        assert_unavailable(&answer);
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        let load = |counter: &AtomicU64| counter.load(Ordering::SeqCst);

        // The fault begins during requests.
        until("some are acknowledged", async || load(&acknowledged) >= 20).await;
        match fault {
            "kill" => redis.kill().await,
            "pause" => redis.pause().await,
            _ => redis.stop().await,
        }
        until("some have failed", async || load(&failed) >= 1).await;
        match fault {
            "pause" => redis.unpause().await,
            _ => redis.start_again().await,
        }
        let before = load(&acknowledged);
        until("more are acknowledged", async || load(&acknowledged) >= before + 20).await;
        over.store(true, Ordering::SeqCst);
        for written in join_all(writers).await {
            written.unwrap();
        }

        // A write without a reply may have been executed. Any other difference is an error.
        let count = browser.session().await["values"]["count"].as_u64().unwrap();
        let (acknowledged, failed) = (load(&acknowledged), load(&failed));
        println!("{fault}: {acknowledged} acknowledged, {failed} failed, {count} counted");
        assert!(acknowledged <= count, "{fault}: {acknowledged} acknowledged, {count} counted");
        assert!(count <= acknowledged + failed.min(8), "{fault}: {count} counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_came_too_late_is_repeated_and_counts_once() {
    let redis = RedisServer::start().await;
    let deployment = Deployment::start(Some(redis), 1, &[("REDIS_PATIENCE", "3000")]).await;
    let browser = deployment.browser();
    browser.post("/count").await.ok();
    browser.post("/count").await.ok();
    for round in 1..=3 {
        let slow = browser.clone();
        let mut writing = tokio::spawn(async move { slow.post("/slow-count/once").await });
        browser.post("/gates/once/wait").await.ok();
        deployment.redis().pause().await;
        browser.post("/gates/once/open").await.ok();
        // After three seconds the commit counts as lost and is repeated; after six seconds it fails.
        // Redis receives both.
        let early = timeout(Duration::from_millis(3_300), &mut writing).await;
        assert!(early.is_err(), "answered although Redis stands still");
        deployment.redis().unpause().await;

        let answer = writing.await.unwrap().ok();
        assert_eq!(answer.body, (2 + round).to_string());
        assert_eq!(browser.session().await["values"]["count"], 2 + round, "applied once");
    }
}

/// The removal of a key from the index runs in the background, and the key leaves at its deadline in any
/// case. A failure is therefore only logged.
#[tokio::test]
async fn a_key_that_does_not_leave_the_index_is_logged() {
    let redis = RedisServer::start().await;
    let store = RedisStore::connect(redis.url()).await.unwrap();
    let log = Log::default();
    let _logged = log.listen();
    redis.stop().await;
    let (owner, key) = (Owner::from("ada").key(), SessionKey::from_bytes([1; SessionKey::LEN]));
    let family = Family::from_u64(2);
    let entry = IndexEntry::new(key, family, SystemClock.now());
    store.leave(&owner, &[entry], SystemClock.now()).await.unwrap();
    until("it is logged", async || log.text().contains("ended sessions left in the index")).await;
    let text = log.text();
    assert!(text.contains("DEBUG session: ") && text.contains(&owner.to_string()), "{text}");
    assert!(!text.contains("ada"), "{text}");
}
