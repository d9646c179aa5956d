//! The error that a caller receives for each fault of Redis, on real servers.

use std::{
    error::Error as _,
    time::{Duration, Instant},
};

use integration_tests::{Browser, Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{SessionError, StoreError, StoreErrorKind};

use crate::support::{Stage, patient_store, ping, serve};

/// Returns the error of a connection that must fail. The texts must contain neither URL nor password.
async fn refused(config: impl Into<RedisConfig>) -> StoreError {
    let error = RedisStore::connect(config).await.unwrap_err();
    let source = error.source().map(ToString::to_string);
    let text = format!("{error} {error:?} {source:?}");
    assert!(!text.contains("hunter2") && !text.contains("redis://"), "{text}");
    error
}

/// Returns the kind of error when a new session is written.
async fn refused_write(redis: &RedisServer) -> StoreErrorKind {
    let store = patient_store(redis).await;
    let session = Sessions::new(store).open([]).await.unwrap();
    session.authenticate("ada").unwrap();
    match session.finish().await.unwrap_err() {
        SessionError::Store(error) => error.kind(),
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_misconfigured() {
    for url in
        ["", "hunter2", "http://hunter2@localhost", "redis://user:hunter2@localhost/no-number"]
    {
        assert_eq!(refused(url).await.kind(), StoreErrorKind::Misconfigured, "{url}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_misconfigured() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let set = redis::cmd("CONFIG").arg(&["SET", "requirepass", "secret"]).to_owned();
    let _: () = set.query_async(&mut admin).await.unwrap();
    for user in [":hunter2@", "nobody:hunter2@", ""] {
        let url = redis.url().replace("redis://", &format!("redis://{user}"));
        let result = RedisStore::connect(redis_config(url.as_str(), PATIENCE)).await;
        match result {
            Err(error) => assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{user}"),
            // Without a password, Redis accepts the connection, and refuses its first command.
            Ok(_) => assert_eq!(refused_write(&redis).await, StoreErrorKind::Misconfigured),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let begin = Instant::now();
    let url = format!("redis://:hunter2@{addr}");
    let error = refused(redis_config(url.as_str(), PATIENCE)).await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begin.elapsed() < PATIENCE, "{:?}: it waited for its limit", begin.elapsed());
}

#[tokio::test]
async fn a_busy_server_is_unavailable() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let mut set = redis::cmd("CONFIG");
    // After 10 ms, Redis counts a script as hanging.
    let _: () = set.arg(&["SET", "lua-time-limit", "10"]).query_async(&mut admin).await.unwrap();
    let hang = tokio::spawn(async move {
        let mut eval = redis::cmd("EVAL");
        eval.arg("while true do end").arg(0);
        eval.query_async::<redis::Value>(&mut admin).await
    });
    let mut other = redis.connection().await;
    until("Redis is busy", async || {
        let ping: Result<String, _> = redis::cmd("PING").query_async(&mut other).await;
        ping.is_err()
    })
    .await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await;
    let kind = match store {
        Err(error) => error.kind(),
        Ok(_) => refused_write(&redis).await,
    };
    assert_eq!(kind, StoreErrorKind::Unavailable);
    let _: () = redis::cmd("SCRIPT").arg("KILL").query_async(&mut other).await.unwrap();
    hang.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_a_timeout() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let begin = Instant::now();
    let error = refused(format!("redis://{addr}")).await;
    assert_eq!(error.kind(), StoreErrorKind::Timeout);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    drop(listener);
}

#[tokio::test]
async fn a_full_server_refuses_writes_but_reads_and_ends_sessions() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    stage.browser.post("/count").await.ok();
    let other = Browser::new(stage.addr());
    other.post("/login/eve").await.ok();
    let devices = [(); 3].map(|()| Browser::new(stage.addr()));
    for device in &devices {
        device.post("/login/ada").await.ok();
    }
    let mut admin = stage.redis.connection().await;
    let mut set = async |setting: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        let _: () = command.arg(&["SET", setting, value]).query_async(&mut admin).await.unwrap();
    };
    set("maxmemory-policy", "noeviction").await;
    set("maxmemory", "1").await;

    for path in ["/count", "/login/bob", "/set/a/b"] {
        let answer = stage.browser.post(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.set_cookie(), None);
    }
    let visitor = Browser::new(stage.addr());
    assert_eq!(visitor.post("/count").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let session = stage.browser.session().await;
    assert_eq!((&session["owner"], &session["values"]["count"]), (&"ada".into(), &1.into()));
    assert_eq!(refused_write(&stage.redis).await, StoreErrorKind::Full);
    other.post("/logout").await.ok();
    assert!(other.session().await["owner"].is_null());
    let key = devices[0].session().await["key"].as_str().unwrap().to_owned();
    assert_eq!(stage.browser.post(&format!("/end/{key}")).await.ok().body, "true");
    assert_eq!(stage.browser.post("/end-others").await.ok().body, "2");
    for device in &devices {
        assert!(device.session().await["owner"].is_null());
    }
    stage.advance(10 * 60_000);
    assert_eq!(stage.browser.session().await["owner"], "ada");

    set("maxmemory", "0").await;
    assert_eq!(stage.browser.post("/count").await.ok().body, "2");
}

/// More sessions than one round trip ends, and one key in the index that cannot be blocked.
#[tokio::test]
async fn a_full_server_still_signs_out_everywhere() {
    let redis = RedisServer::start().await;
    let store = RedisStore::connect(redis.url()).await.unwrap();
    let sessions = Sessions::new(store);
    for _ in 0..150 {
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        let _ = session.finish().await.unwrap();
    }
    let mut admin = redis.connection().await;
    let set = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).to_owned();
    let _: () = set.query_async(&mut admin).await.unwrap();

    assert_eq!(refused_write(&redis).await, StoreErrorKind::Full);
    // An error reports that a key could not be blocked. The sessions have ended nevertheless.
    let _ = sessions.revoke_all("ada").await;
    assert!(sessions.list("ada").await.unwrap().is_empty());
    let left: Vec<String> =
        redis::cmd("KEYS").arg("session:s:*").query_async(&mut admin).await.unwrap();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let stage = Stage::new().await;
    let mut admin = stage.redis.connection().await;
    for count in 1..=3 {
        assert_eq!(stage.browser.post("/count").await.ok().body, count.to_string());
        let flush = redis::cmd("SCRIPT").arg("FLUSH").to_owned();
        let _: () = flush.query_async(&mut admin).await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_comes_back_without_an_error() {
    let stage = Stage::new().await;
    stage.browser.post("/count").await.ok();
    let mut admin = stage.redis.connection().await;
    for count in 2..=4 {
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let _: () = kill.query_async(&mut admin).await.unwrap();
        // A read is repeated on a new connection. A commit is repeated too, and recognized by its nonce.
        assert_eq!(stage.browser.session().await["values"]["count"], count - 1);
        let _: () = kill.query_async(&mut admin).await.unwrap();
        assert_eq!(stage.browser.post("/count").await.ok().body, count.to_string());
    }
}

#[tokio::test]
async fn a_replica_that_may_not_be_written_is_an_outage_and_no_success() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let mut admin = stage.redis.connection().await;
    let mut replicate = async |master: &[&str]| {
        let mut command = redis::cmd("REPLICAOF");
        let _: () = command.arg(master).query_async(&mut admin).await.unwrap();
    };
    replicate(&["127.0.0.1", "1"]).await;
    for path in ["/count", "/logout"] {
        let answer = stage.browser.post(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.set_cookie(), None, "{path}");
    }
    // A store that starts with the replica reports the error immediately.
    let error = refused(redis_config(stage.redis.url(), PATIENCE)).await;
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
    // The data of a replica may be older than an acknowledged write.
    for _ in 0..20 {
        let answer = stage.browser.get("/session").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    replicate(&["NO", "ONE"]).await;
    until("writes work again", async || {
        stage.browser.post("/count").await.status == StatusCode::OK
    })
    .await;
}

/// The situation of a host name that still leads to the former primary.
#[tokio::test]
async fn a_connection_that_leads_to_a_replica_is_not_used_for_reads_either() {
    let [primary, replica] = [RedisServer::start().await, RedisServer::start().await];
    let proxy = FaultProxy::before(&primary).await;
    let store = RedisStore::connect(redis_config(proxy.url(), PATIENCE)).await.unwrap();
    ping(&store).await.unwrap();
    replica.follow(&primary).await;
    proxy.lead_to(&replica);
    proxy.cut();
    for _ in 0..20 {
        let error = ping(&store).await.unwrap_err();
        assert!(error.source().unwrap().to_string().contains("is a replica"), "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    proxy.lead_to(&primary);
    until("the primary is found", async || ping(&store).await.is_ok()).await;
}

#[tokio::test]
async fn a_key_of_another_type_is_a_fresh_session() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let key = stage.redis_key().await;
    let mut admin = stage.redis.connection().await;
    let _: () = redis::cmd("DEL").arg(&key).query_async(&mut admin).await.unwrap();
    let _: () = redis::cmd("LPUSH").arg(&key).arg("x").query_async(&mut admin).await.unwrap();
    assert!(stage.browser.session().await["key"].is_null());
    // The store does not touch the data of another program.
    let kept: u32 = redis::cmd("EXISTS").arg(&key).query_async(&mut admin).await.unwrap();
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_password_that_was_wrong_for_a_while_is_no_lasting_outage() {
    let stage = Stage::new().await;
    stage.browser.post("/login/ada").await.ok();
    let mut admin = stage.redis.connection().await;
    let mut config = async |setting: &str, value: &str| {
        let mut command = redis::cmd("CONFIG");
        let _: () = command.arg(&["SET", setting, value]).query_async(&mut admin).await.unwrap();
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let _: () = kill.query_async(&mut admin).await.unwrap();
    };
    config("requirepass", "secret").await;
    until("Redis refuses the server", async || {
        stage.browser.get("/session").await.status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    config("requirepass", "").await;
    until("sessions are back", async || {
        stage.browser.get("/session").await.status == StatusCode::OK
    })
    .await;
    assert_eq!(stage.browser.session().await["owner"], "ada");
}

/// The situation of a failed host, or a firewall that forgot the connection: replies never arrive.
#[tokio::test]
async fn a_connection_that_went_silent_is_replaced() {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let store = RedisStore::connect(proxy.url()).await.unwrap();
    let browser = Browser::new(serve(store).await);
    until("Ada is signed in", async || browser.post("/login/ada").await.status == StatusCode::OK)
        .await;

    proxy.next("get", Fault::Stall);
    let mut session = None;
    until("a new connection is used", async || {
        let answer = browser.get("/session").await;
        session = (answer.status == StatusCode::OK).then(|| answer.json());
        session.is_some()
    })
    .await;
    assert_eq!(session.unwrap()["owner"], "ada");
}

/// The address leads to the new primary, while the open connection leads to the old one.
#[tokio::test]
async fn a_primary_that_was_demoted_is_left() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let proxy = FaultProxy::before(&old).await;
    let config = redis_config(proxy.url(), PATIENCE);
    let browser = Browser::new(serve(RedisStore::connect(config).await.unwrap()).await);
    browser.post("/count").await.ok();
    let mut admin = old.connection().await;
    let demote = redis::cmd("REPLICAOF").arg(&["127.0.0.1", "1"]).to_owned();
    let _: () = demote.query_async(&mut admin).await.unwrap();
    proxy.lead_to(&new);

    // The first write is refused, repeated at the server to which the address now leads, and counts
    // there.
    let visitor = Browser::new(browser.addr());
    until("writes work", async || visitor.post("/count").await.status == StatusCode::OK).await;
    let mut admin = new.connection().await;
    let keys: u32 = redis::cmd("DBSIZE").query_async(&mut admin).await.unwrap();
    assert_eq!(keys, 1);
}
