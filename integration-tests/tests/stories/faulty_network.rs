//! The fate of requests if the network fails, or Redis is slow, at a chosen command.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use integration_tests::{Browser, Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use reqwest::{Method, StatusCode};
use session_axum::{Key, RedisConfig, RedisStore, Sessions};

use crate::support::serve;

/// A server on a Redis behind a proxy. In the browser, Ada is signed in and has counted to one.
struct Scene {
    _redis: RedisServer,
    proxy: FaultProxy,
    browser: Browser,
}

impl Scene {
    /// Starts the server with the store's own limits, or with the limits for a busy machine.
    async fn new(patience: Option<Duration>) -> Self {
        let redis = RedisServer::start().await;
        let proxy = FaultProxy::before(&redis).await;
        let config = match patience {
            Some(patience) => redis_config(proxy.url(), patience),
            None => RedisConfig::new(proxy.url()),
        };
        let mut store = None;
        until("the store connects", async || {
            store = RedisStore::connect(config.clone()).await.ok();
            store.is_some()
        })
        .await;
        let browser = Browser::new(serve(store.unwrap()).await);
        for path in ["/login/ada", "/count"] {
            until(path, async || browser.post(path).await.status == StatusCode::OK).await;
        }
        Self { _redis: redis, proxy, browser }
    }

    /// Returns another browser, in which `owner` is signed in.
    async fn signed_in(&self, owner: &str) -> Browser {
        let browser = Browser::new(self.browser.addr());
        let path = format!("/login/{owner}");
        until(&path, async || browser.post(&path).await.status == StatusCode::OK).await;
        browser
    }
}

async fn devices(browser: &Browser) -> usize {
    browser.get("/devices").await.ok().json().as_array().unwrap().len()
}

/// Routes that write, each with a command whose request or reply is lost.
const WRITES: [(&str, &str); 11] = [
    ("/count", "evalsha"),
    ("/login/ada", "eval"),
    ("/login/ada", "set"),
    ("/login/ada", "evalsha"),
    ("/renew", "eval"),
    ("/renew", "set"),
    ("/renew", "evalsha"),
    ("/logout", "evalsha"),
    ("/end-others", "eval"),
    ("/end-all", "zrangebyscore"),
    ("/end-all", "eval"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_cut_off_is_done_once_before_or_after_redis_carried_it_out() {
    let scene = Scene::new(Some(PATIENCE)).await;
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        for (path, command) in WRITES {
            let what = format!("{path}, {command}, {fault:?}");
            let (browser, other) = (scene.signed_in("eve").await, scene.signed_in("eve").await);
            browser.post("/count").await.ok();
            scene.proxy.next(command, fault);
            let path = path.replace("ada", "eve");
            let answer = browser.post(&path).await;
            assert_eq!((answer.status, scene.proxy.pending()), (StatusCode::OK, 0), "{what}");

            let session = browser.session().await;
            let count = if path == "/count" { 2 } else { 1 };
            let here = (&session["owner"], &session["values"]["count"], devices(&other).await);
            let (signed_in, nobody) = ("eve".into(), serde_json::Value::Null);
            match path.as_str() {
                "/logout" => assert_eq!(here, (&nobody, &nobody, 1), "{what}"),
                "/end-all" => assert_eq!(here, (&nobody, &nobody, 0), "{what}"),
                "/end-others" => assert_eq!(here, (&signed_in, &count.into(), 0), "{what}"),
                _ => assert_eq!(here, (&signed_in, &count.into(), 2), "{what}"),
            }
            for browser in [&browser, &other] {
                browser.post("/end-all").await.ok();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_write_that_is_cut_off_makes_one_session() {
    let scene = Scene::new(Some(PATIENCE)).await;
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let visitor = Browser::new(scene.browser.addr());
        scene.proxy.next("set", fault);
        assert_eq!(visitor.post("/count").await.ok().body, "1", "{fault:?}");
        assert_eq!(scene.proxy.pending(), 0);
        assert_eq!(visitor.post("/count").await.ok().body, "2", "{fault:?}");

        scene.proxy.next("eval", fault);
        let visitor = Browser::new(scene.browser.addr());
        visitor.post("/login/bob").await.ok();
        assert_eq!(devices(&visitor).await, 1, "{fault:?}");
        visitor.post("/logout").await.ok();
    }
}

/// A commit is repeated only once.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_twice_is_an_error_and_counts_once() {
    let scene = Scene::new(Some(PATIENCE)).await;
    for (round, fault) in (1..).zip([Fault::CutBefore, Fault::CutAfter]) {
        drop(scene.proxy.take_arrivals("evalsha"));
        scene.proxy.next("evalsha", fault);
        scene.proxy.next("evalsha", Fault::CutAfter);
        let answer = scene.browser.post("/count").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{fault:?}");
        assert_eq!(scene.proxy.take_arrivals("evalsha").len(), 2, "{fault:?}");
        assert_eq!(scene.browser.session().await["values"]["count"], 1 + round, "{fault:?}");
    }
    assert_eq!(scene.browser.post("/count").await.ok().body, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_pieces_is_what_was_said() {
    for bytes in [1, 7] {
        let scene = Scene::new(Some(PATIENCE)).await;
        scene.proxy.slice(bytes);
        let note = "x".repeat(3_000);
        scene.browser.post(&format!("/set/note/{note}")).await.ok();
        let other = scene.signed_in("ada").await;
        for path in ["/count", "/renew", "/login/ada"] {
            scene.browser.post(path).await.ok();
        }
        let session = scene.browser.session().await;
        assert_eq!(session["values"]["note"], note);
        assert_eq!((&session["owner"], &session["values"]["count"]), (&"ada".into(), &2.into()));
        assert_eq!(devices(&scene.browser).await, 2);
        scene.browser.post("/end-others").await.ok();
        assert!(other.session().await["owner"].is_null());
    }
}

/// If Redis, or the connection, stalls at any command, the request fails within the time of one
/// operation. The limit includes the repetition.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_in_time_whichever_command_stalls() {
    const OPERATION: Duration = Duration::from_secs(1);
    let requests = [(Method::GET, "/session", "get"), (Method::GET, "/devices", "zrangebyscore")];
    let requests = requests.into_iter().chain(WRITES.map(|(path, of)| (Method::POST, path, of)));
    let mut slowest = Duration::ZERO;
    for (method, path, command) in requests {
        let scene = Scene::new(None).await;
        let _other = scene.signed_in("ada").await;
        scene.proxy.next(command, Fault::Stall);
        let begin = Instant::now();
        let answer = scene.browser.send(method, path).await;
        let took = begin.elapsed();
        slowest = slowest.max(took);
        println!("{path}, {command}: {} after {} ms", answer.status, took.as_millis());
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path} {command}");
        assert_eq!(answer.set_cookie(), None, "{path} {command}");
        assert!(took < OPERATION + PATIENCE, "{path} {command} took {took:?}");
        // Only `/logout` and `/end-all` may sign the user out.
        until("a new connection is used", async || {
            scene.browser.get("/session").await.status == StatusCode::OK
        })
        .await;
        if !["/logout", "/end-all"].contains(&path) {
            assert_eq!(scene.browser.session().await["owner"], "ada", "{path} {command}");
        }
    }
    println!("the slowest took {} ms, of {OPERATION:?} for one operation", slowest.as_millis());
}

/// A command that arrives after its request has failed is executed at most once, and does not revive the
/// session.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrives_late_counts_at_most_once_and_brings_nothing_back() {
    let scene = Scene::new(None).await;
    let late = Duration::from_secs(2);
    scene.proxy.next("evalsha", Fault::Delay(late));
    let answer = scene.browser.post("/count").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    // Both attempts arrive.
    until("it arrives", async || {
        let answer = scene.browser.get("/session").await;
        answer.status == StatusCode::OK && answer.json()["values"]["count"] == 2
    })
    .await;
    scene.proxy.next("evalsha", Fault::Delay(late));
    let (counting, leaving) = (scene.browser.clone(), scene.browser.fork());
    let counting = tokio::spawn(async move { counting.post("/count").await });
    until("it is under way", async || scene.proxy.pending() == 0).await;
    until("Ada is signed out", async || leaving.post("/logout").await.status == StatusCode::OK)
        .await;
    let answer = counting.await.unwrap();
    assert_ne!(answer.status, StatusCode::OK);
    let begin = Instant::now();
    while begin.elapsed() < 2 * late {
        let answer = leaving.get("/session").await;
        assert!(answer.status != StatusCode::OK || answer.json()["owner"].is_null(), "{answer:?}");
    }
}

/// Random faults with eight concurrent writers. Every acknowledged write counts exactly once. A failed
/// write counts at most once.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_network_does_what_was_acknowledged_is_what_counts() {
    const FAULTS: [Fault; 5] = [
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Stall,
        Fault::Delay(Duration::from_millis(20)),
        Fault::Delay(Duration::from_millis(700)),
    ];
    let scene = Scene::new(None).await;
    let (acknowledged, failed) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|_| {
        let (browser, over) = (scene.browser.clone(), Arc::clone(&over));
        let (acknowledged, failed) = (Arc::clone(&acknowledged), Arc::clone(&failed));
        tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                match browser.post("/count").await.status {
                    StatusCode::OK => acknowledged.fetch_add(1, Ordering::SeqCst),
                    status => {
                        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        failed.fetch_add(1, Ordering::SeqCst)
                    }
                };
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    for round in 0..40 {
        let command = if round % 3 == 2 { "get" } else { "evalsha" };
        scene.proxy.next(command, FAULTS[round % FAULTS.len()]);
        until("a fault is met", async || scene.proxy.pending() == 0).await;
        let before = acknowledged.load(Ordering::SeqCst);
        until("some are acknowledged", async || acknowledged.load(Ordering::SeqCst) > before + 8)
            .await;
    }
    over.store(true, Ordering::SeqCst);
    for written in join_all(writers).await {
        written.unwrap();
    }
    let count = scene.browser.session().await["values"]["count"].as_u64().unwrap();
    let [acknowledged, failed] = [acknowledged, failed].map(|n| n.load(Ordering::SeqCst));
    println!("40 faults: {acknowledged} acknowledged, {failed} failed, {count} counted");
    assert!(
        acknowledged <= count && count <= acknowledged + failed,
        "{acknowledged} {failed} {count}"
    );
}

/// A lost connection loses the replies of all waiting requests. Their repetitions are spread over time.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_lose_their_answers_together_do_not_come_back_together() {
    const AT_ONCE: usize = 200;
    const ATTEMPTS: usize = 9;
    const NOTE: Key<String> = Key::new("note");
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    let sessions = Sessions::new(store.clone());
    let mut cookies = Vec::new();
    for _ in 0..AT_ONCE {
        let session = sessions.open([]).await.unwrap();
        session.set(NOTE, "first".to_owned()).unwrap();
        let change = session.finish().await.unwrap();
        let session_core::CookieChange::Set { id, .. } = change else { panic!("{change:?}") };
        cookies.push(id);
    }
    // From here on, Redis knows the script.
    let session = sessions.open([cookies[0].expose().as_bytes()]).await.unwrap();
    session.set(NOTE, "again".to_owned()).unwrap();
    session.commit().await.unwrap();
    for command in ["get", "evalsha"] {
        let mut spreads = Vec::new();
        for attempt in 0..ATTEMPTS {
            let mut opened = Vec::new();
            if command == "evalsha" {
                for id in &cookies {
                    opened.push(sessions.open([id.expose().as_bytes()]).await.unwrap());
                }
            }
            proxy.next(command, Fault::Stall);
            let mut waiting = Vec::new();
            for (number, id) in cookies.iter().cloned().enumerate() {
                let (sessions, opened) = (sessions.clone(), opened.get(number).cloned());
                waiting.push(tokio::spawn(async move {
                    match opened {
                        None => drop(sessions.open([id.expose().as_bytes()]).await.unwrap()),
                        Some(session) => {
                            session.set(NOTE, format!("attempt {attempt}")).unwrap();
                            session.commit().await.unwrap();
                        }
                    }
                }));
            }
            until("all wait", async || store.state().waiting() == AT_ONCE).await;
            drop(proxy.take_arrivals(command));
            proxy.cut();
            let cut = Instant::now();
            for waited in join_all(waiting).await {
                waited.unwrap();
            }
            let arrivals = proxy.take_arrivals(command);
            assert_eq!(arrivals.len(), AT_ONCE, "each comes back once");
            let mut after: Vec<_> = arrivals.iter().map(|at| at.duration_since(cut)).collect();
            after.sort();
            let [first, tenth, half, ninetieth, last] =
                [0, 10, 50, 90, 100].map(|share| after[(AT_ONCE * share / 100).min(AT_ONCE - 1)]);
            println!(
                "{command}: back after {first:.0?}, {tenth:.0?} (10 %), {half:.0?} (50 %), \
                 {ninetieth:.0?} (90 %), {last:.0?}"
            );
            spreads.push(ninetieth - tenth);
        }
        // A machine that stands still for a moment sends all of them together afterwards. So three of
        // the attempts count: one alone may be spread by a busy machine.
        spreads.sort();
        let spread = spreads[ATTEMPTS - 3];
        assert!(spread >= Duration::from_millis(25), "{command}: 80 % within {spread:?}");
    }
}
