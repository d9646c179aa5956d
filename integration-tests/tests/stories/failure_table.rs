//! The effect of each reply of Redis on a load, a commit and the end of a session: the table of
//! session-redis's `FAULTS.md`, with one test for each cell.

use std::{error::Error as _, pin::pin, sync::Arc, time::Duration};

use axum::response::IntoResponse as _;
use integration_tests::{Fault, FaultProxy, PATIENCE, RedisServer, redis_config, until};
use redis::aio::MultiplexedConnection;
use reqwest::StatusCode;
use session_axum::{Key, RedisConfig, RedisStore, Sessions};
use session_core::{
    Clock as _, CookieChange, ManualClock, Session, SessionError, SessionId, StoreErrorKind,
    SystemClock,
};

use crate::support::patient_store;

use StoreErrorKind::{Corrupt, Full, Timeout, Unavailable};

/// Makes three tests of each row: `row::load`, `row::commit` and `row::revoke`.
macro_rules! table {
    ($($row:ident: $load:expr, $commit:expr, $revoke:expr;)*) => {$(
        mod $row {
            use super::{*, Outcome::*};

            #[tokio::test]
            async fn load() {
                assert_eq!(super::$row(Verb::Load).await, $load);
            }

            #[tokio::test]
            async fn commit() {
                assert_eq!(super::$row(Verb::Commit).await, $commit);
            }

            #[tokio::test]
            async fn revoke() {
                assert_eq!(super::$row(Verb::Revoke).await, $revoke);
            }
        }
    )*};
}

// The reply of Redis, and the outcome of a load, a commit and the end of a session.
table! {
    nil:         NoSession,           Ended,               Done;
    silence:     Failed(Timeout),     Failed(Timeout),     Failed(Timeout);
    lost_answer: Done,                Done,                Done;
    readonly:    Done,                Failed(Unavailable), Failed(Unavailable);
    oom:         Done,                Failed(Full),        Done;
    noreplicas:  Done,                Failed(Unavailable), Failed(Unavailable);
    loading:     Failed(Unavailable), Failed(Unavailable), Failed(Unavailable);
    masterdown:  Failed(Unavailable), Failed(Unavailable), Failed(Unavailable);
    clusterdown: Failed(Unavailable), Failed(Unavailable), Failed(Unavailable);
    busy:        Failed(Unavailable), Failed(Unavailable), Failed(Unavailable);
    tryagain:    Failed(Unavailable), Failed(Unavailable), Failed(Unavailable);
    noscript:    Done,                Done,                Done;
    undecodable: NoSession,           Failed(Corrupt),     Done;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verb {
    Load,
    Commit,
    Revoke,
}

impl Verb {
    /// Returns the command that the verb sends.
    fn command(self) -> &'static str {
        match self {
            Self::Load => "get",
            Self::Commit | Self::Revoke => "evalsha",
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    /// The session was read, written or ended: 200.
    Done,
    /// The request continues without a session: 200.
    NoSession,
    /// The session had ended meanwhile: 409.
    Ended,
    /// The store failed: 503.
    Failed(StoreErrorKind),
}

impl Outcome {
    fn of(result: Result<(), SessionError>) -> Self {
        let Err(error) = result else { return Self::Done };
        let (outcome, status) = match &error {
            SessionError::Ended => (Self::Ended, StatusCode::CONFLICT),
            SessionError::Store(error) => {
                (Self::Failed(error.kind()), StatusCode::SERVICE_UNAVAILABLE)
            }
            error => panic!("{error}"),
        };
        let told = error.into_response().status();
        assert_eq!(told, status, "{outcome:?}");
        outcome
    }
}

const COUNT: Key<u64> = Key::new("count");

/// A session, and a request that has loaded it before the fault of Redis.
struct Scene {
    sessions: Sessions,
    id: SessionId,
    request: Session,
}

impl Scene {
    async fn on(config: RedisConfig) -> Self {
        let sessions = Sessions::new(RedisStore::connect(config).await.unwrap());
        // Another session comes first, so that Redis knows the scripts.
        let session = sessions.open([]).await.unwrap();
        for count in 0..2 {
            session.set(COUNT, count).unwrap();
            session.commit().await.unwrap();
        }
        session.destroy().unwrap();
        session.commit().await.unwrap();
        let session = sessions.open([]).await.unwrap();
        session.authenticate("ada").unwrap();
        session.set(COUNT, 1).unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else {
            panic!("a login sets the cookie");
        };
        let request = sessions.open([id.expose().as_bytes()]).await.unwrap();
        Self { sessions, id, request }
    }

    async fn on_patient(redis: &RedisServer) -> Self {
        Self::on(redis_config(redis.url(), PATIENCE)).await
    }

    fn redis_key(&self) -> String {
        format!("session:s:{}", self.id.key())
    }

    async fn meets(&self, verb: Verb) -> Outcome {
        match verb {
            Verb::Load => match self.open().await {
                Ok(session) if session.key().is_none() => Outcome::NoSession,
                result => Outcome::of(result.map(drop)),
            },
            Verb::Commit => {
                self.request.update(COUNT, |count| *count += 1).unwrap();
                Outcome::of(self.request.commit().await)
            }
            Verb::Revoke => {
                self.request.destroy().unwrap();
                Outcome::of(self.request.commit().await)
            }
        }
    }

    async fn open(&self) -> Result<Session, SessionError> {
        self.sessions.open([self.id.expose().as_bytes()]).await
    }
}

async fn tell(redis: &mut MultiplexedConnection, words: &[&str]) {
    let told = redis::cmd(words[0]).arg(&words[1..]).to_owned();
    let _: redis::Value = told.query_async(redis).await.unwrap();
}

async fn nil(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    tell(&mut redis.connection().await, &["DEL", &scene.redis_key()]).await;
    scene.meets(verb).await
}

async fn silence(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on(redis_config(redis.url(), Duration::from_secs(2))).await;
    redis.pause().await;
    let outcome = scene.meets(verb).await;
    redis.unpause().await;
    // Redis may now execute the abandoned command, at most once.
    until("sessions are back", async || scene.open().await.is_ok()).await;
    let count = scene.open().await.unwrap().get(COUNT);
    assert!([None, Some(1), Some(2)].contains(&count), "{verb:?}: {count:?}");
    outcome
}

async fn lost_answer(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let scene = Scene::on(redis_config(proxy.url(), PATIENCE)).await;
    drop(proxy.take_arrivals(verb.command()));
    proxy.next(verb.command(), Fault::CutAfter);
    let outcome = scene.meets(verb).await;
    assert_eq!(proxy.take_arrivals(verb.command()).len(), 2, "once more");
    let count = scene.open().await.unwrap().get(COUNT);
    let expected = match verb {
        Verb::Load => Some(1),
        Verb::Commit => Some(2),
        Verb::Revoke => None,
    };
    assert_eq!(count, expected);
    outcome
}

async fn readonly(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let scene = Scene::on(redis_config(proxy.url(), PATIENCE)).await;
    tell(&mut redis.connection().await, &["REPLICAOF", "127.0.0.1", "1"]).await;
    drop(proxy.take_arrivals(verb.command()));
    let outcome = scene.meets(verb).await;
    assert_eq!(proxy.take_arrivals(verb.command()).len(), 1, "a replica is asked nothing more");
    outcome
}

async fn oom(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    tell(&mut redis.connection().await, &["CONFIG", "SET", "maxmemory", "1"]).await;
    scene.meets(verb).await
}

async fn noreplicas(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    tell(&mut redis.connection().await, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    scene.meets(verb).await
}

async fn loading(verb: Verb) -> Outcome {
    let redis = RedisServer::builder()
        .arg("--rdbcompression", "no")
        // With 400 keys, loading takes 8 seconds. Meanwhile Redis replies after each 2 MiB.
        .arg("--key-load-delay", "20000")
        .start()
        .await;
    let scene = Scene::on_patient(&redis).await;
    let mut admin = redis.connection().await;
    let big = "x".repeat(128 * 1024);
    for number in 0..400 {
        tell(&mut admin, &["SET", &number.to_string(), &big]).await;
    }
    tell(&mut admin, &["SAVE"]).await;
    redis.kill().await;
    let mut loading = pin!(redis.start_again());
    let met = async {
        until("Redis loads", async || {
            let Err(SessionError::Store(error)) = scene.open().await else { return false };
            error.source().is_some_and(|source| source.to_string().contains("loading its data"))
        })
        .await;
        scene.meets(verb).await
    };
    tokio::select! {
        outcome = met => outcome,
        () = &mut loading => panic!("Redis was ready too soon"),
    }
}

async fn masterdown(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    let mut admin = redis.connection().await;
    tell(&mut admin, &["CONFIG", "SET", "replica-serve-stale-data", "no"]).await;
    tell(&mut admin, &["REPLICAOF", "127.0.0.1", "1"]).await;
    scene.meets(verb).await
}

async fn clusterdown(verb: Verb) -> Outcome {
    let redis = RedisServer::builder().arg("--cluster-enabled", "yes").on_host().start().await;
    let mut admin = redis.connection().await;
    let state = async |state: &str| {
        let mut admin = redis.connection().await;
        until(state, async || {
            let info = redis::cmd("CLUSTER").arg("INFO").to_owned();
            info.query_async::<String>(&mut admin).await.unwrap().contains(state)
        })
        .await;
    };
    let slots: Vec<_> = (0..16_384).map(|slot| slot.to_string()).collect();
    let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
    tell(&mut admin, &words.collect::<Vec<_>>()).await;
    state("cluster_state:ok").await;
    let scene = Scene::on(redis_config(RedisConfig::cluster([redis.url()]), PATIENCE)).await;
    let slot = redis::cmd("CLUSTER").arg("KEYSLOT").arg(scene.redis_key()).to_owned();
    let slot: u16 = slot.query_async(&mut admin).await.unwrap();
    // Not the session's own slot: a cluster with a missing slot also refuses all other slots.
    tell(&mut admin, &["CLUSTER", "DELSLOTS", &((slot + 1) % 16_384).to_string()]).await;
    state("cluster_state:fail").await;
    scene.meets(verb).await
}

async fn busy(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    let (mut admin, mut other) = (redis.connection().await, redis.connection().await);
    // After 10 ms, Redis counts a script as hanging.
    tell(&mut admin, &["CONFIG", "SET", "lua-time-limit", "10"]).await;
    let hang = tokio::spawn(async move {
        let eval = redis::cmd("EVAL").arg(&["while true do end", "0"]).to_owned();
        eval.query_async::<redis::Value>(&mut admin).await
    });
    until("Redis is busy", async || {
        redis::cmd("PING").query_async::<String>(&mut other).await.is_err()
    })
    .await;
    let outcome = scene.meets(verb).await;
    tell(&mut other, &["SCRIPT", "KILL"]).await;
    hang.await.unwrap().unwrap_err();
    outcome
}

/// Redis sends this reply for commands with several keys whose slot moves. The store never sends one, so
/// the proxy makes the reply up.
async fn tryagain(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let proxy = FaultProxy::before(&redis).await;
    let scene = Scene::on(redis_config(proxy.url(), PATIENCE)).await;
    let text = "-TRYAGAIN Multiple keys request during rehashing of slot";
    proxy.next(verb.command(), Fault::Answer(text));
    let outcome = scene.meets(verb).await;
    assert_eq!(scene.open().await.unwrap().get(COUNT), Some(1), "nothing was done");
    outcome
}

async fn noscript(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    tell(&mut redis.connection().await, &["SCRIPT", "FLUSH"]).await;
    scene.meets(verb).await
}

async fn undecodable(verb: Verb) -> Outcome {
    let redis = RedisServer::start().await;
    let scene = Scene::on_patient(&redis).await;
    let mut admin = redis.connection().await;
    tell(&mut admin, &["SET", &scene.redis_key(), "no record"]).await;
    let outcome = scene.meets(verb).await;
    let left: u32 =
        redis::cmd("EXISTS").arg(scene.redis_key()).query_async(&mut admin).await.unwrap();
    assert_eq!(left, u32::from(verb != Verb::Revoke));
    let noted = scene.sessions.corrupt_records();
    assert_eq!(noted, u64::from(verb == Verb::Load), "it is counted");
    outcome
}

/// On a full server, the use of a session still moves its deadline, so that a user who only reads stays
/// signed in.
#[tokio::test]
async fn a_full_server_notes_the_use_of_a_session() {
    let redis = RedisServer::start().await;
    let store = patient_store(&redis).await;
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let sessions = Sessions::builder(store).with_clock(Arc::clone(&clock)).build().unwrap();
    let session = sessions.open([]).await.unwrap();
    session.authenticate("ada").unwrap();
    let CookieChange::Set { id, .. } = session.finish().await.unwrap() else {
        panic!("a login sets the cookie");
    };
    let mut admin = redis.connection().await;
    tell(&mut admin, &["CONFIG", "SET", "maxmemory", "1"]).await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(50 * 60));
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        assert!(session.owner().is_some(), "the idle time is an hour");
        let _ = session.finish().await.unwrap();
    }
}
