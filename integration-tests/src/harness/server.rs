//! The application as a separate process.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use session_axum::{
    AtLimit, Lifetime, MemoryStore, RedisConfig, RedisStore, SessionLimit, Sessions,
};
use session_core::{BoxError, async_trait};
use session_redis::{Credentials, CredentialsProvider};
use tracing_subscriber::EnvFilter;

use crate::harness::{app, patience, redis::SentinelRedis};

/// The environment variable that makes a program of this crate act as a server. A test program thus
/// needs no second program for its servers.
pub const ROLE: (&str, &str) = ("INTEGRATION_TESTS_ROLE", "server");

/// Returns `true` if this process must act as a server.
#[must_use]
pub fn is_wanted() -> bool {
    env::var(ROLE.0).is_ok_and(|role| role == ROLE.1)
}

/// Serves the [application](app::app) on a free port of 127.0.0.1, until the process ends.
///
/// The settings are environment variables:
///
/// | variable | |
/// | --- | --- |
/// | `REDIS_URL` | the URL of Redis, or several URLs, separated by spaces, for `sentinel` and `cluster` |
/// | `REDIS_KIND` | `server` (the default), `sentinel` or `cluster`: the kind of servers at these URLs |
/// | `REDIS_PREFIX` | the prefix of all keys |
/// | `REDIS_PATIENCE` | the time limit for replies of Redis, in milliseconds, or `default` for the store's limits |
/// | `REDIS_USER`, `REDIS_PASSWORD_FILE` | a user, and a file with the password, which may change |
/// | `REDIS_TLS_FOLDER` | the folder of `ca.pem`, and of the client's `server.pem` and `server.key` |
/// | `REVOCATION_REPLICAS` | the number of replicas that a revocation waits for, and the milliseconds: `1 200` |
/// | `NEAR_CACHE_MS` | the staleness of the near cache, which is off by default |
/// | `IDLE_MS`, `ABSOLUTE_MS` | the lifetime of sessions |
/// | `LEASE_MS` | the lease of a lock |
/// | `SESSION_LIMIT` | `3 reject`, `3 oldest` or `3 least-recent` |
/// | `SERVER_LOG` | the log filter; the default is everything, so that tests see all that a log can show |
///
/// Without `REDIS_URL`, sessions are in memory.
///
/// # Errors
///
/// Returns an error if a setting is invalid, or Redis is unreachable.
pub async fn serve() -> Result<(), BoxError> {
    let filter = env::var("SERVER_LOG").unwrap_or_else(|_| "trace".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(std::io::stderr)
        .init();
    tracing::trace!("logging at trace level");
    let sessions = sessions().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    axum::serve(listener, app::app(sessions)).await?;
    Ok(())
}

async fn sessions() -> Result<Sessions, BoxError> {
    let mut sessions = match env::var("REDIS_URL") {
        Ok(urls) => Sessions::builder(RedisStore::connect(redis_config(&urls)?).await?),
        Err(_) => Sessions::builder(MemoryStore::default()),
    };
    if let Ok(limit) = env::var("SESSION_LIMIT") {
        let (max, at_limit) = limit.split_once(' ').ok_or("SESSION_LIMIT has two words")?;
        let at_limit = match at_limit {
            "reject" => AtLimit::Reject,
            "oldest" => AtLimit::EvictOldest,
            "least-recent" => AtLimit::EvictLeastRecent,
            other => return Err(format!("SESSION_LIMIT ends in {other:?}").into()),
        };
        sessions = sessions.with_session_limit(SessionLimit::new(max.parse()?, at_limit)?);
    }
    if let Ok(lease) = env::var("LEASE_MS") {
        sessions = sessions.with_lease(millis(&lease)?);
    }
    if let (Ok(idle), Ok(absolute)) = (env::var("IDLE_MS"), env::var("ABSOLUTE_MS")) {
        sessions = sessions.with_lifetime(Lifetime::new(millis(&idle)?, millis(&absolute)?)?);
    }
    Ok(sessions.build()?)
}

fn redis_config(urls: &str) -> Result<RedisConfig, BoxError> {
    let urls_of_nodes = urls.split(' ');
    let mut config = match env::var("REDIS_KIND").as_deref() {
        Err(_) | Ok("server") => RedisConfig::new(urls),
        Ok("sentinel") => RedisConfig::sentinel(urls_of_nodes, SentinelRedis::NAME),
        Ok("cluster") => RedisConfig::cluster(urls_of_nodes),
        Ok(other) => return Err(format!("REDIS_KIND is {other:?}").into()),
    };
    config = match env::var("REDIS_PATIENCE").as_deref() {
        Ok("default") => config,
        Ok(text) => patience::redis_config(config, millis(text)?),
        Err(_) => patience::redis_config(config, patience::PATIENCE),
    };
    if let Ok(prefix) = env::var("REDIS_PREFIX") {
        config = config.with_prefix(prefix)?;
    }
    if let (Ok(user), Ok(file)) = (env::var("REDIS_USER"), env::var("REDIS_PASSWORD_FILE")) {
        config = config.with_credentials(PasswordFile { user, file: file.into() });
    }
    if let Ok(folder) = env::var("REDIS_TLS_FOLDER") {
        let read = |name| std::fs::read(Path::new(&folder).join(name));
        config = config
            .with_root_certificate(read("ca.pem")?)
            .with_client_certificate(read("server.pem")?, read("server.key")?);
    }
    if let Ok(text) = env::var("REVOCATION_REPLICAS") {
        let (replicas, wait) = text.split_once(' ').ok_or("REVOCATION_REPLICAS has two words")?;
        config = config.with_revocation_replicas(replicas.parse()?, millis(wait)?)?;
    }
    if let Ok(staleness) = env::var("NEAR_CACHE_MS") {
        let cache = session_redis::NearCache::default();
        config = config.with_near_cache(cache.with_staleness(millis(&staleness)?)?);
    }
    Ok(config)
}

/// A secret in a mounted file that can change during the life of the process.
struct PasswordFile {
    user: String,
    file: PathBuf,
}

#[async_trait]
impl CredentialsProvider for PasswordFile {
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        Ok(Credentials::new(&self.user, tokio::fs::read_to_string(&self.file).await?))
    }

    async fn changed(&self, current: &Credentials) {
        while !self.credentials().await.is_ok_and(|found| found != *current) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn millis(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}
