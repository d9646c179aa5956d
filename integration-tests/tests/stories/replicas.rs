//! Acknowledged ends survive a failover if the store waits for replicas.

use std::time::{Duration, Instant};

use integration_tests::{Browser, PATIENCE, RedisServer, redis_config, until};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use reqwest::StatusCode;
use session_axum::{RedisStore, Sessions, StoreErrorKind};
use session_core::{Clock as _, CookieChange, SessionError, SessionKey, SessionStore, SystemClock};

use crate::support::{Log, ping, serve};

/// A primary and one replica that follows it.
struct Pair {
    primary: RedisServer,
    replica: RedisServer,
}

impl Pair {
    async fn start() -> Self {
        let primary = RedisServer::builder().on_host().arg("--repl-diskless-sync-delay", "0");
        let (primary, replica) = (primary.start().await, RedisServer::builder().on_host());
        let pair = Self { primary, replica: replica.start().await };
        let mut admin = pair.replica.connection().await;
        let port = pair.primary.port().to_string();
        let follow = redis::cmd("REPLICAOF").arg(&["127.0.0.1", &port]).to_owned();
        let _: () = follow.query_async(&mut admin).await.unwrap();
        until("the replica follows", async || {
            let mut info = redis::cmd("INFO");
            let info = info.arg("replication").query_async::<String>(&mut admin.clone()).await;
            info.unwrap().contains("master_link_status:up")
        })
        .await;
        pair
    }

    /// Connects a store that waits this long for the replica.
    async fn store(&self, wait: Duration) -> RedisStore {
        let config = redis_config(self.primary.url(), PATIENCE);
        let config = config.with_revocation_replicas(1, wait).unwrap();
        RedisStore::connect(config).await.unwrap()
    }
}

async fn names(redis: &mut MultiplexedConnection) -> Vec<String> {
    let mut names: Vec<String> = redis.keys("session:s:*").await.unwrap();
    names.sort();
    names
}

/// Signs in a user, and returns the session's ID and key.
async fn log_in(sessions: &Sessions, owner: &str) -> (String, SessionKey) {
    let session = sessions.open([]).await.unwrap();
    session.authenticate(owner).unwrap();
    session.link("sid", owner).unwrap();
    let CookieChange::Set { id, .. } = session.finish().await.unwrap() else {
        panic!("a login tells an ID")
    };
    (id.expose().to_owned(), id.key())
}

#[tokio::test]
async fn what_was_acknowledged_as_ended_is_ended_on_the_replica() {
    let pair = Pair::start().await;
    let sessions = Sessions::new(pair.store(PATIENCE).await);
    let mut replica = pair.replica.connection().await;
    let mark = pair.primary.mark_commands().await;
    let begin = Instant::now();
    for round in 0..100 {
        let (id, key) = log_in(&sessions, "ada").await;
        let name = format!("session:s:{key}");
        let left: Vec<u8> = match round % 5 {
            // A logout.
            0 => {
                let session = sessions.open([id.as_bytes()]).await.unwrap();
                session.destroy().unwrap();
                let _ = session.finish().await.unwrap();
                replica.get(&name).await.unwrap()
            }
            // A revocation from elsewhere.
            1 => {
                assert!(sessions.revoke("ada", key).await.unwrap());
                replica.get(&name).await.unwrap()
            }
            2 => {
                assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
                replica.get(&name).await.unwrap()
            }
            3 => {
                assert_eq!(sessions.revoke_linked("sid", "ada").await.unwrap(), 1);
                replica.get(&name).await.unwrap()
            }
            // Another login: a tombstone replaces the former record.
            _ => {
                let session = sessions.open([id.as_bytes()]).await.unwrap();
                session.authenticate("ada").unwrap();
                let _ = session.finish().await.unwrap();
                let stone: Vec<u8> = replica.get(&name).await.unwrap();
                assert_eq!(stone.get(..2), Some(&[1, 1][..]), "a tombstone");
                sessions.revoke_all("ada").await.unwrap();
                Vec::new()
            }
        };
        assert!(left.is_empty(), "round {round}");
    }
    let waits = pair.primary.commands_since(&mark).await.of("wait");
    println!("{waits} WAITs for 120 ends, with as many logins in {:?}", begin.elapsed());
}

/// The primary is killed during ends, and the replica takes over.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_end_is_lost_in_a_failover() {
    let pair = Pair::start().await;
    let store = pair.store(PATIENCE).await;
    let sessions = Sessions::new(store.clone());
    let mut keys = Vec::new();
    for _ in 0..800 {
        keys.push(log_in(&sessions, "ada").await.1);
    }
    let mut replica = pair.replica.connection().await;
    until("the replica has all sessions", async || names(&mut replica.clone()).await.len() == 800)
        .await;

    let (acknowledged, mut told) = tokio::sync::mpsc::unbounded_channel();
    for keys in keys.chunks(100) {
        let (store, keys, acknowledged) = (store.clone(), keys.to_vec(), acknowledged.clone());
        tokio::spawn(async move {
            for key in keys {
                if store.delete(&key, SystemClock.now()).await.is_err() {
                    return;
                }
                acknowledged.send(key).unwrap();
            }
        });
    }
    drop(acknowledged);
    let mut ended = Vec::new();
    while ended.len() < 100 {
        ended.push(told.recv().await.unwrap());
    }
    pair.primary.kill().await;
    while let Some(key) = told.recv().await {
        ended.push(key);
    }
    let promote = redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).to_owned();
    let _: () = promote.query_async(&mut replica).await.unwrap();
    let left = names(&mut replica).await;
    println!(
        "{} ends acknowledged, {} of 800 sessions left on the replica",
        ended.len(),
        left.len()
    );
    for key in ended {
        assert!(!left.contains(&format!("session:s:{key}")), "acknowledged, and back");
    }
}

#[tokio::test]
async fn an_end_that_the_replica_does_not_confirm_is_done_and_an_error() {
    let pair = Pair::start().await;
    let store = pair.store(Duration::from_millis(200)).await;
    let sessions = Sessions::new(store.clone());
    let (id, key) = log_in(&sessions, "ada").await;
    let (other, _) = log_in(&sessions, "ada").await;
    let session = sessions.open([id.as_bytes()]).await.unwrap();
    let mut primary = pair.primary.connection().await;

    pair.replica.pause().await;
    session.destroy().unwrap();
    let mark = pair.primary.mark_commands().await;
    let error = session.finish().await.unwrap_err();
    let SessionError::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::Unreplicated);
    assert!(error.is_retryable() && error.is_outcome_unknown());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "done here, but 0 of 1 replicas confirmed it within 200ms");
    assert!(!names(&mut primary).await.contains(&format!("session:s:{key}")), "it is done");
    let waits = pair.primary.commands_since(&mark).await.of("wait");
    assert_eq!(waits, 2, "asked for once more, and waited again");
    // Over HTTP, the response reports the same failure.
    let browser = Browser::new(serve(Sessions::new(store.clone())).await);
    browser.post("/login/eve").await.ok();
    assert_eq!(browser.post("/logout").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let error = sessions.revoke_all("ada").await.unwrap_err();
    let kind = match &error {
        SessionError::Store(error) => error.kind(),
        _ => panic!("{error}"),
    };
    assert_eq!(kind, StoreErrorKind::Unreplicated);
    assert!(sessions.open([other.as_bytes()]).await.unwrap().owner().is_none(), "it is done");

    // A repeated request confirms an end that was executed before.
    pair.replica.unpause().await;
    until("the replica confirms", async || store.delete(&key, SystemClock.now()).await.is_ok())
        .await;
    let mut replica = pair.replica.connection().await;
    assert_eq!(names(&mut replica).await, names(&mut primary).await);

    // A killed replica has the same effect as a silent one.
    pair.replica.kill().await;
    let (_, key) = log_in(&sessions, "bob").await;
    let error = store.delete(&key, SystemClock.now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreplicated);
    assert!(store.load(&key, SystemClock.now()).await.unwrap().is_none(), "it is done");
}

/// The first logout was executed, so the session of the browser's cookie has ended. A success would
/// claim that the replica has confirmed the logout.
#[tokio::test]
async fn a_logout_that_is_asked_for_again_waits_again() {
    let pair = Pair::start().await;
    let sessions = Sessions::new(pair.store(Duration::from_millis(200)).await);
    let browser = Browser::new(serve(sessions).await);
    browser.post("/login/ada").await.ok();
    let mut replica = pair.replica.connection().await;
    until("the replica has the session", async || names(&mut replica).await.len() == 1).await;

    pair.replica.pause().await;
    for _ in 0..3 {
        let id = browser.session_id();
        assert_eq!(browser.post("/logout").await.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(browser.session_id(), id, "the cookie stays, so that the browser can ask again");
    }
    pair.replica.unpause().await;
    until("the logout is confirmed", async || browser.post("/logout").await.status.is_success())
        .await;
    assert_eq!(names(&mut replica).await, [""; 0]);
}

/// `WAIT` blocks only its own connection. A request waits for at most two of these commands.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_replicas_holds_up_nobody_else() {
    let pair = Pair::start().await;
    let store = pair.store(Duration::from_secs(2)).await;
    let sessions = Sessions::new(store.clone());
    let mut keys = Vec::new();
    for _ in 0..50 {
        keys.push(log_in(&sessions, "ada").await.1);
    }
    pair.replica.pause().await;
    let mark = pair.primary.mark_commands().await;
    let begin = Instant::now();
    let ends: Vec<_> = keys
        .iter()
        .map(|key| {
            let (store, key) = (store.clone(), *key);
            tokio::spawn(async move { store.delete(&key, SystemClock.now()).await })
        })
        .collect();
    let mut pings = 0;
    while !ends.iter().all(tokio::task::JoinHandle::is_finished) {
        ping(&store).await.unwrap();
        pings += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begin.elapsed();
    for end in ends {
        assert_eq!(end.await.unwrap().unwrap_err().kind(), StoreErrorKind::Unreplicated);
    }
    for key in keys {
        assert!(store.load(&key, SystemClock.now()).await.unwrap().is_none(), "all are done");
    }
    let waits = pair.primary.commands_since(&mark).await.of("wait");
    println!("50 ends took {took:?} with {waits} WAITs of 2 s; {pings} reads meanwhile");
    assert!((1..=10).contains(&waits), "{waits} WAITs, one after the other");
    assert!(pings >= 10, "{pings} reads while others waited");
}

#[tokio::test]
async fn a_full_server_ends_sessions_and_its_replica_too() {
    let pair = Pair::start().await;
    let store = pair.store(PATIENCE).await;
    let sessions = Sessions::new(store.clone());
    let (_, key) = log_in(&sessions, "ada").await;
    let mut primary = pair.primary.connection().await;
    let full = redis::cmd("CONFIG").arg(&["SET", "maxmemory", "1"]).to_owned();
    let _: () = full.query_async(&mut primary).await.unwrap();
    assert!(store.delete(&key, SystemClock.now()).await.unwrap().is_some());
    // The repetition has nothing to write, but must still wait.
    assert!(store.delete(&key, SystemClock.now()).await.unwrap().is_none());
    let mut replica = pair.replica.connection().await;
    assert_eq!(names(&mut replica).await, [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_said_at_the_start() {
    let redis = RedisServer::start().await;
    let log = Log::default();
    let _logged = log.listen();
    let wait = Duration::from_millis(50);
    let config = redis_config(redis.url(), PATIENCE).with_revocation_replicas(1, wait).unwrap();
    RedisStore::connect(config).await.unwrap();
    assert_eq!(log.count("fewer replicas follow this Redis"), 1, "{}", log.text());

    let mut admin = redis.connection().await;
    let mut acl = redis::cmd("ACL");
    acl.arg(&["SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-wait"]);
    let _: () = acl.query_async(&mut admin).await.unwrap();
    let url = redis.url().replace("redis://", "redis://some:secret@");
    let config = redis_config(url.as_str(), PATIENCE).with_revocation_replicas(1, wait).unwrap();
    let error = RedisStore::connect(config).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured);
}

/// Without the option, the store neither waits for replicas nor sends additional commands.
#[tokio::test]
async fn nothing_is_waited_for_by_default() {
    let redis = RedisServer::start().await;
    let store = RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap();
    let sessions = Sessions::new(store);
    let mark = redis.mark_commands().await;
    log_in(&sessions, "ada").await;
    assert_eq!(sessions.revoke_all("ada").await.unwrap(), 1);
    let counts = redis.commands_since(&mark).await;
    assert_eq!((counts.of("wait"), counts.of("publish")), (0, 0), "{counts}");
}
