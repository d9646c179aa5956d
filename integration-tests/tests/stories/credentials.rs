//! Passwords and tokens change during the life of the process.

use std::{
    error::Error as _,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use integration_tests::{Browser, PATIENCE, RedisServer, redis_config, until};
use redis::{InfoDict, aio::MultiplexedConnection};
use reqwest::StatusCode;
use session_axum::{RedisConfig, RedisStore, Sessions};
use session_core::{
    Clock as _, SessionKey, SessionStore as _, StoreErrorKind, SystemClock, async_trait,
};
use session_redis::{Credentials, CredentialsProvider, NearCache};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    support::{Log, serve},
    transports::why,
};

type Provided = Result<Credentials, Box<dyn std::error::Error + Send + Sync>>;

/// A provider that announces its changes.
struct Rotated(watch::Sender<Credentials>);

#[async_trait]
impl CredentialsProvider for Rotated {
    async fn credentials(&self) -> Provided {
        Ok(self.0.borrow().clone())
    }

    async fn changed(&self, current: &Credentials) {
        let mut receiver = self.0.subscribe();
        if receiver.wait_for(|latest| latest != current).await.is_err() {
            pending().await
        }
    }
}

async fn acl(connection: &mut MultiplexedConnection, words: &[&str]) {
    let mut acl = redis::cmd("ACL");
    acl.arg(words).exec_async(connection).await.unwrap();
}

async fn calls_of(connection: &mut MultiplexedConnection, command: &str) -> u64 {
    let stats: InfoDict =
        redis::cmd("INFO").arg("commandstats").query_async(connection).await.unwrap();
    let stat: Option<String> = stats.get(&format!("cmdstat_{command}"));
    let calls = stat.and_then(|stat| stat.strip_prefix("calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or_default()
}

async fn connections(connection: &mut MultiplexedConnection) -> u64 {
    let stats: InfoDict = redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
    stats.get("total_connections_received").unwrap()
}

async fn kill(connection: &mut MultiplexedConnection, user: &str) {
    redis::cmd("CLIENT").arg(&["KILL", "USER", user]).exec_async(connection).await.unwrap();
}

/// Concurrent requests until the call of `end`. The tasks return their number.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    async fn on(store: RedisStore) -> Self {
        let addr = serve(Sessions::new(store)).await;
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..4).map(|_| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let browser = Browser::new(addr);
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    let answer = browser.post("/count").await;
                    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                    assert_eq!(answer.body, count.to_string());
                }
                count
            })
        });
        Self { tasks: tasks.collect(), stop }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert!(task.await.unwrap() > 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_rotates_every_second_fails_no_request() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    acl(&mut admin, &["SETUSER", "app", "on", ">password-0", "~*", "&*", "+@all"]).await;
    let provider = Arc::new(Rotated(watch::Sender::new(Credentials::new("app", "password-0"))));
    let config = RedisConfig::new(redis.url()).with_credentials(Arc::clone(&provider));
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let load = Load::on(store).await;
    let before = connections(&mut admin).await;
    for number in 1..=5 {
        let password = format!("password-{number}");
        acl(&mut admin, &["SETUSER", "app", &format!(">{password}")]).await;
        let auths = calls_of(&mut admin, "auth").await;
        provider.0.send_replace(Credentials::new("app", password));
        until("the connection knows the password", async || {
            calls_of(&mut admin, "auth").await > auths
        })
        .await;
        sleep(Duration::from_secs(1)).await;
        acl(&mut admin, &["SETUSER", "app", &format!("<password-{}", number - 1)]).await;
    }
    assert_eq!(connections(&mut admin).await, before, "over the same connection");
    kill(&mut admin, "app").await;
    sleep(Duration::from_secs(1)).await;
    assert!(connections(&mut admin).await > before);
    load.end().await;
    let log: Vec<redis::Value> =
        redis::cmd("ACL").arg("LOG").query_async(&mut admin).await.unwrap();
    assert_eq!(log, [], "nothing was refused");
}

/// A provider whose tokens are separate users. The deletion of a user closes its connections.
struct Tokens {
    admin: MultiplexedConnection,
    count: AtomicUsize,
}

const LIFE: Duration = Duration::from_secs(3);

#[async_trait]
impl CredentialsProvider for Tokens {
    async fn credentials(&self) -> Provided {
        let user = format!("token-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.admin.clone();
        acl(&mut admin, &["SETUSER", &user, "on", ">secret", "~*", "&*", "+@all"]).await;
        let credentials = Credentials::new(&*user, "secret").with_expiry(SystemTime::now() + LIFE);
        tokio::spawn(async move {
            sleep(LIFE).await;
            acl(&mut admin, &["DELUSER", &user]).await;
        });
        Ok(credentials)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_replaced_before_it_expires() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let provider = Arc::new(Tokens { admin: admin.clone(), count: AtomicUsize::new(0) });
    let config = RedisConfig::new(redis.url())
        .with_credentials(Arc::clone(&provider))
        .with_near_cache(NearCache::default());
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let load = Load::on(store).await;
    let before = connections(&mut admin).await;
    sleep(3 * LIFE).await;
    assert_eq!(connections(&mut admin).await, before, "no connection was closed");
    load.end().await;
    let tokens = provider.count.load(Ordering::Relaxed);
    assert!((4..=8).contains(&tokens), "{tokens}");
}

/// A provider that succeeds, fails or hangs on command.
#[derive(Default)]
struct Moody {
    mood: Mutex<Mood>,
    asked: AtomicUsize,
}

#[derive(Clone, Copy, Default)]
enum Mood {
    #[default]
    Well,
    Fails,
    Hangs,
}

#[async_trait]
impl CredentialsProvider for Moody {
    async fn credentials(&self) -> Provided {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Well => Ok(Credentials::new("app", "hunter2")),
            Mood::Fails => Err("the vault is sealed".into()),
            Mood::Hangs => pending().await,
        }
    }
}

/// Returns the kind of the store's error, and the error's text with all causes.
async fn error_of(store: &RedisStore) -> (StoreErrorKind, String) {
    let key = SessionKey::from_bytes([7; SessionKey::LEN]);
    let error = store.load(&key, SystemClock.now()).await.unwrap_err();
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" | {cause} {cause:?}"));
        source = cause.source();
    }
    (error.kind(), text)
}

async fn is_well(store: &RedisStore) -> bool {
    let key = SessionKey::from_bytes([7; SessionKey::LEN]);
    store.load(&key, SystemClock.now()).await.is_ok()
}

async fn with_provider(provider: &Arc<Moody>) -> (RedisServer, MultiplexedConnection, RedisConfig) {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    acl(&mut admin, &["SETUSER", "app", "on", ">hunter2", "~*", "&*", "+@all"]).await;
    let config = RedisConfig::new(redis.url()).with_credentials(Arc::clone(provider));
    (redis, admin, config)
}

#[tokio::test]
async fn a_provider_that_fails_is_named_and_asked_at_intervals() {
    let log = Log::default();
    let _listening = log.listen();
    let provider = Arc::<Moody>::default();
    let (_redis, mut admin, config) = with_provider(&provider).await;
    let store = RedisStore::connect(config.clone()).await.unwrap();
    *provider.mood.lock().unwrap() = Mood::Fails;
    let (kind, text) = why(config.clone()).await;
    assert_eq!(kind, StoreErrorKind::Unavailable);
    assert!(text.contains("the provider of credentials failed"), "{text}");

    kill(&mut admin, "app").await;
    let asked = provider.asked.load(Ordering::Relaxed);
    let begin = Instant::now();
    let mut named = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        let called = Instant::now();
        if is_well(&store).await {
            continue;
        }
        let (_, text) = error_of(&store).await;
        named += usize::from(text.contains("the vault is sealed"));
        assert!(!text.contains("hunter2"), "{text}");
        assert!(called.elapsed() < Duration::from_secs(2), "{:?}", called.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    let asked = provider.asked.load(Ordering::Relaxed) - asked;
    assert!((1..=9).contains(&asked), "{asked}");
    assert!(named > 10, "{named}");

    *provider.mood.lock().unwrap() = Mood::Well;
    until("sessions are back", async || is_well(&store).await).await;
    assert!(log.count("the provider of credentials failed") > 0);
    assert_eq!(log.count("hunter2"), 0);
    assert!(!format!("{config:?}{store:?}").contains("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_keeps_no_request_waiting() {
    let provider = Arc::<Moody>::default();
    let (_redis, mut admin, config) = with_provider(&provider).await;
    let store = RedisStore::connect(config.clone()).await.unwrap();
    *provider.mood.lock().unwrap() = Mood::Hangs;
    let error = timeout(PATIENCE, RedisStore::connect(config)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let text = error.source().unwrap().to_string();
    assert!(text.contains("the provider of credentials did not answer in time"), "{text}");

    kill(&mut admin, "app").await;
    until("the connection is gone", async || !is_well(&store).await).await;
    until("the provider is named", async || {
        let begin = Instant::now();
        let (kind, text) = error_of(&store).await;
        assert_eq!(kind, StoreErrorKind::Unavailable, "{text}");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        text.contains("the provider of credentials did not answer in time")
    })
    .await;
    *provider.mood.lock().unwrap() = Mood::Well;
    until("sessions are back", async || is_well(&store).await).await;
}

/// According to the operator's page, the removal of a password leaves connections open, and the removal
/// of a user closes them.
#[tokio::test]
async fn only_the_end_of_its_user_closes_a_connection() {
    let redis = RedisServer::start().await;
    let mut admin = redis.connection().await;
    let all = ["on", ">one", "~*", "&*", "+@all"];
    acl(&mut admin, &[&["SETUSER", "app"], &all[..]].concat()).await;
    let config = RedisConfig::new(redis.url()).with_user("app").with_password("one");
    let store = RedisStore::connect(redis_config(config, PATIENCE)).await.unwrap();
    let before = connections(&mut admin).await;
    for change in [&["<one"][..], &["resetpass"], &["off"], &[&["reset"], &all[..]].concat()] {
        acl(&mut admin, &[&["SETUSER", "app"], change].concat()).await;
        assert!(is_well(&store).await, "{change:?}");
    }
    assert_eq!(connections(&mut admin).await, before);
    acl(&mut admin, &["DELUSER", "app"]).await;
    let (kind, text) = error_of(&store).await;
    assert_eq!(kind, StoreErrorKind::Misconfigured, "{text}");
    assert!(text.contains("refuses the password"), "{text}");
}
