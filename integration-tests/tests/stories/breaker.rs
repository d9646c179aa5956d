//! Requests do not pile up while Redis does not reply.

use std::time::{Duration, Instant};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use futures_util::future::join_all;
use integration_tests::{PATIENCE, RedisServer, app, redis_config, until};
use redis::AsyncCommands as _;
use session_axum::{RedisConfig, RedisStore, Sessions, StoreErrorKind};
use session_core::{Clock as _, SessionKey, SessionStore as _, SystemClock};
use session_redis::Circuit;
use tower::ServiceExt as _;

use crate::support::{Log, patient_store, ping};

/// An upper bound that a loaded machine keeps, to detect hangs.
const LONG: Duration = Duration::from_secs(20);

const AT_ONCE: usize = 5_000;

/// Sends this many concurrent requests that need the session, each from a separate task, like a server.
async fn requests(app: &Router, cookie: &str, count: usize) -> Vec<(StatusCode, Duration)> {
    let requests = (0..count).map(|_| {
        let request = Request::get("/session").header("cookie", cookie);
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap());
        tokio::spawn(async move {
            let begin = Instant::now();
            let status = answer.await.unwrap().status();
            (status, begin.elapsed())
        })
    });
    let requests: Vec<_> = requests.collect();
    join_all(requests).await.into_iter().map(Result::unwrap).collect()
}

fn longest(answers: &[(StatusCode, Duration)]) -> Duration {
    answers.iter().map(|(_, time)| *time).max().unwrap()
}

/// Returns the resident memory of this program, or `None` if the system does not report it.
fn resident_mib() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * 4 / 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_requests_at_once_are_answered_while_redis_stands_still() {
    let redis = RedisServer::start().await;
    let store = RedisStore::connect(redis.url()).await.unwrap();
    let app = app::app(Sessions::new(store.clone()));
    let mut cookie = String::new();
    until("there is a session", async || {
        let request = Request::post("/count").body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(request).await.unwrap();
        let Some(set) = answer.headers().get("set-cookie") else { return false };
        cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        true
    })
    .await;
    let all_are_served = async |count| {
        requests(&app, &cookie, count).await.iter().all(|(status, _)| *status == StatusCode::OK)
    };
    until("requests are served", async || all_are_served(500).await).await;
    let mark = redis.mark_commands().await;
    let before = resident_mib();

    redis.pause().await;
    let begin = Instant::now();
    let first = requests(&app, &cookie, AT_ONCE).await;
    let first_took = begin.elapsed();
    let grown = resident_mib().zip(before).map(|(now, before)| now.saturating_sub(before));
    assert_ne!(store.state().circuit(), Circuit::Closed);
    // All requests of the second round start concurrently, and Redis still does not reply.
    let second = requests(&app, &cookie, AT_ONCE).await;
    for answers in [&first, &second] {
        assert!(answers.iter().all(|(status, _)| *status == StatusCode::SERVICE_UNAVAILABLE));
        assert!(longest(answers) < LONG, "{:?}", longest(answers));
    }
    let at_once = second.iter().filter(|(_, time)| *time < Duration::from_millis(250)).count();
    assert_eq!(store.state().waiting(), 0);

    redis.unpause().await;
    let begin = Instant::now();
    // The store sent only a part of the commands, so their memory in Redis is bounded.
    let sent = redis.commands_since(&mark).await.of("get");
    assert!(sent < 5_000, "{sent} of 10,000 commands");
    until("requests are served", async || all_are_served(500).await).await;
    let back = begin.elapsed();
    assert_eq!(store.state().circuit(), Circuit::Closed);
    assert!(back < LONG, "{back:?}");
    println!(
        "{AT_ONCE} requests: the longest took {:?}, all {first_took:?}, {sent} sent, {grown:?} MiB more; of as many \
         afterwards {at_once} were answered within 250 ms, the longest took {:?}; 500 at once were \
         served {back:?} after the return",
        longest(&first),
        longest(&second),
    );
}

#[tokio::test]
async fn one_slow_command_opens_nothing() {
    let redis = RedisServer::start().await;
    let config = RedisConfig::new(redis.url()).with_connect_timeout(PATIENCE).unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    redis.pause().await;
    let error = ping(&store).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    redis.unpause().await;
    assert_eq!(store.state().circuit(), Circuit::Closed);
}

#[tokio::test]
async fn what_redis_answers_opens_nothing_be_it_an_error() {
    let redis = RedisServer::start().await;
    let store = patient_store(&redis).await;
    let mut admin = redis.connection().await;
    let (key, now) = (SessionKey::from_bytes([1; SessionKey::LEN]), SystemClock.now());
    let _: () = admin.rpush(format!("session:s:{key}"), "no string").await.unwrap();
    for _ in 0..20 {
        let error = store.load(&key, now).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "WRONGTYPE");
    }
    let _: () = admin.del(format!("session:s:{key}")).await.unwrap();
    for _ in 0..20 {
        let _: () = redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut admin).await.unwrap();
        assert!(store.delete(&key, now).await.unwrap().is_none(), "NOSCRIPT is mended");
    }
    let full = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).to_owned();
    let _: () = full.query_async(&mut admin).await.unwrap();
    for _ in 0..20 {
        let session = Sessions::new(store.clone()).open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        session.finish().await.unwrap_err();
    }
    let state = store.state();
    assert_eq!((state.circuit(), state.waiting()), (Circuit::Closed, 0));
}

#[tokio::test]
async fn a_redis_that_is_gone_is_noticed_and_its_return_too() {
    let redis = RedisServer::start().await;
    let store = patient_store(&redis).await;
    let log = Log::default();
    let _logged = log.listen();
    ping(&store).await.unwrap();
    let connected = store.state().since();

    redis.kill().await;
    until("it is noticed", async || {
        ping(&store).await.unwrap_err();
        store.state().circuit() == Circuit::Open
    })
    .await;
    assert!(store.state().since() > connected);
    assert_eq!(ping(&store).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(log.count("Redis does not answer"), 1, "{}", log.text());

    redis.start_again().await;
    // Each ping is a probe, and the pings follow each other without a pause.
    until("it is back", async || ping(&store).await.is_ok()).await;
    assert_eq!(store.state().circuit(), Circuit::Closed);
    assert_eq!(log.count("Redis answers again"), 1, "{}", log.text());
}

#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    let redis = RedisServer::start().await;
    let config = redis_config(redis.url(), PATIENCE).with_max_waiting(10).unwrap();
    let store = RedisStore::connect(config).await.unwrap();
    redis.pause().await;
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { ping(&store).await })
        })
        .collect();
    until("ten wait", async || store.state().waiting() == 10).await;
    for _ in 0..50 {
        let error = ping(&store).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "too many commands wait for Redis");
    }
    redis.unpause().await;
    for waited in waiting {
        waited.await.unwrap().unwrap();
    }
    assert_eq!((store.state().circuit(), store.state().waiting()), (Circuit::Closed, 0));
}
