use std::time::{Duration, Instant};

use futures_util::future::join_all;
use integration_tests::{Answer, Browser, RedisServer};
use reqwest::{Method, StatusCode};
use tokio::task::JoinHandle;

use crate::support::{Deployment, Stage};

/// A lease that even a slow machine keeps.
const LONG_LEASE: (&str, &str) = ("LEASE_MS", "300000");

/// Starts two servers on one Redis. The first has the given lease, the second a lease longer than any
/// test.
async fn two_servers(lease: Duration) -> (Deployment, Browser) {
    let lease_ms = lease.as_millis().to_string();
    let redis = RedisServer::start().await;
    let envs: [&[(&str, &str)]; 2] = [&[("LEASE_MS", lease_ms.as_str())], &[LONG_LEASE]];
    let deployment = Deployment::of_each(Some(redis), &envs).await;
    let browser = deployment.at_server(&deployment.browser(), 0);
    browser.post("/set/note/before").await.ok();
    (deployment, browser)
}

/// Starts a request on the first server that holds the lock and waits at a gate.
async fn holder(browser: &Browser) -> JoinHandle<Answer> {
    let slow = browser.fork();
    let holding =
        tokio::spawn(async move { slow.post("/locked/slow/gate/note/of-the-holder").await });
    browser.post("/gates/gate/wait").await.ok();
    holding
}

#[tokio::test(flavor = "multi_thread")]
async fn work_under_the_lock_never_overlaps_across_instances() {
    for servers in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counter");
        std::fs::write(&file, "0").unwrap();
        let env = [("COUNTER_FILE", file.to_str().unwrap()), LONG_LEASE];
        let redis = if servers == 1 { None } else { Some(RedisServer::start().await) };
        let deployment = Deployment::start(redis, servers, &env).await;
        let browser = deployment.browser();
        browser.post("/set/start/here").await.ok();

        join_all((0..40).map(async |_| browser.post("/locked/add").await.ok())).await;

        assert_eq!(std::fs::read_to_string(&file).unwrap(), "40");
        assert_eq!(browser.session().await["values"]["count"], 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_killed_holds_up_others_for_its_lease_and_no_longer() {
    let lease = Duration::from_secs(2);
    let (mut deployment, browser) = two_servers(lease).await;
    let begin = Instant::now();
    let holding = holder(&browser).await;
    let held = Instant::now();
    deployment.kill(0);
    holding.await.expect_err("there is nobody to answer");

    let other = deployment.at_server(&browser, 1);
    other.post("/locked/set/note/of-the-next").await.ok();
    let (longest, shortest) = (begin.elapsed(), held.elapsed());
    assert!(longest >= lease, "{longest:?}: the lock was not held");
    assert!(shortest < lease + Duration::from_secs(10), "{shortest:?}");
    assert_eq!(other.session().await["values"]["note"], "of-the-next");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_of_a_paused_process_is_refused_and_not_stored() {
    let lease = Duration::from_millis(600);
    let (deployment, browser) = two_servers(lease).await;
    let holding = holder(&browser).await;
    deployment.pause(0);
    // The second request acquires the lock after the lease has expired.
    let other = deployment.at_server(&browser, 1);
    other.post("/locked/set/note/of-the-next").await.ok();

    deployment.resume(0);
    browser.post("/gates/gate/open").await.ok();
    let answer = holding.await.unwrap();
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.set_cookie(), None);
    assert_eq!(browser.session().await["values"]["note"], "of-the-next");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_takes_longer_than_the_lease_keeps_the_lock() {
    let lease = Duration::from_millis(600);
    let (deployment, browser) = two_servers(lease).await;
    let holding = holder(&browser).await;
    let other = deployment.at_server(&browser, 1).fork();
    let waiting = tokio::spawn(async move { other.post("/locked/set/note/of-the-next").await });
    tokio::time::sleep(3 * lease).await;
    assert!(!waiting.is_finished(), "another request entered");
    browser.post("/gates/gate/open").await.ok();
    holding.await.unwrap().ok();
    waiting.await.unwrap().ok();
    assert_eq!(browser.session().await["values"]["note"], "of-the-next");
}

#[tokio::test(flavor = "multi_thread")]
async fn lock_of_a_client_that_goes_away_lapses() {
    let lease = Duration::from_millis(1_500);
    let (deployment, browser) = two_servers(lease).await;
    let begin = Instant::now();
    let holding = holder(&browser).await;
    holding.abort();
    assert!(holding.await.unwrap_err().is_cancelled());

    let other = deployment.at_server(&browser, 1);
    other.post("/locked/set/note/of-the-next").await.ok();
    assert!(begin.elapsed() >= lease, "the lock was released by a request that was cut off");
    assert_eq!(other.session().await["values"]["note"], "of-the-next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_on_while_another_holds_the_lock_and_both_count() {
    let (deployment, browser) = two_servers(Duration::from_secs(300)).await;
    let holding = holder(&browser).await;
    let other = deployment.at_server(&browser, 1);
    other.post("/login/ada").await.ok();
    browser.post("/gates/gate/open").await.ok();
    holding.await.unwrap().ok();
    let session = other.session().await;
    assert_eq!(
        (&session["owner"], &session["values"]["note"]),
        (&"ada".into(), &"of-the-holder".into())
    );
    other.post("/locked/set/note/free").await.ok();
}

#[tokio::test]
async fn a_lock_costs_two_commands_and_its_release_none_if_the_request_writes() {
    let stage = Stage::new().await;
    stage.browser.post("/locked/set/note/before").await.ok();
    stage.browser.post("/locked/set/note/warm").await.ok();
    let mark = stage.redis.mark_commands().await;
    stage.browser.send(Method::POST, "/locked/set/note/after").await.ok();
    let counts = stage.redis.commands_since(&mark).await;
    assert_eq!((counts.total(), counts.of("get"), counts.of("evalsha")), (4, 2, 2), "{counts}");
}
