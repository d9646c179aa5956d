//! The search for the primary with the help of sentinels, repeated after each failover.

mod client;
mod failover_watch;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use session_core::StoreErrorKind;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::{
    client::SentinelClient,
    failover_watch::{Address, FailoverWatch, Named},
};
use crate::{
    RedisConfig,
    error::ConnectError,
    tracking::Tracking,
    transport::{
        access::{Access, Endpoint, parse},
        connector::{Link, connect},
        handshake::{self, Wanted},
        limits::Limits,
    },
};

/// The sentinels, and the settings for connections to the primary.
///
/// redis-rs has a client for sentinels as well. In 1.8.1 (`sentinel.rs:1015`) the redis-rs client
/// takes the first configured sentinel that names a primary, even if the sentinel missed the last
/// failover, and subscribes to no announcements. The client checks one connection to the primary,
/// but returns only the address, so the caller connects a second time.
pub(crate) struct Sentinels {
    sentinels: Vec<Arc<SentinelClient>>,
    watch: Arc<FailoverWatch>,
    access: Access,
    limits: Limits,
    tracking: Tracking,
    tls: bool,
}

impl Sentinels {
    pub(crate) fn new(
        config: &RedisConfig,
        urls: &[String],
        name: &str,
        tls: Option<bool>,
        tracking: Tracking,
    ) -> Result<Self, ConnectError> {
        let (access, limits) = (Access::new(config)?, Limits::of(config));
        let watch = Arc::new(FailoverWatch::new(name));
        let mut sentinels = Vec::with_capacity(urls.len());
        let mut is_by_tls = false;
        for url in urls {
            let info = parse(url)?;
            if info.redis_settings().db() != 0 {
                return Err(ConnectError::misconfigured(
                    "the URL of a sentinel names a database, and sentinels have none: \
                     `with_database` is for that of the sessions",
                ));
            }
            is_by_tls |= matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            let client = SentinelClient::new(access.endpoint(info)?, &watch, limits);
            sentinels.push(Arc::new(client));
        }
        if sentinels.is_empty() {
            return Err(ConnectError::misconfigured(
                "`RedisConfig::sentinel` was given no URL: it takes those of one sentinel or more",
            ));
        }
        let tls = tls.unwrap_or(is_by_tls);
        Ok(Self { sentinels, watch, access, limits, tracking, tls })
    }

    /// Returns the sentinels' name for the primary.
    pub(crate) fn name(&self) -> &str {
        self.watch.name()
    }

    /// Returns `true` if a failover is known to be under way, or to have taken place since the
    /// primary was found. Once a second, the call also asks the sentinels in the background.
    pub(crate) fn have_moved(&self) -> bool {
        if self.watch.is_due() {
            for sentinel in &self.sentinels {
                tokio::spawn(Arc::clone(sentinel).ask());
            }
        }
        self.watch.has_moved()
    }

    /// Finds the primary and connects, within the connect timeout.
    pub(crate) async fn find(&self) -> Result<Link, ConnectError> {
        let limit = self.limits.connect;
        timeout(limit, self.search()).await.unwrap_or_else(|_| {
            Err(ConnectError::new(
                StoreErrorKind::Timeout,
                format!("no primary of the name {:?} was found within {limit:?}", self.name()),
            ))
        })
    }

    async fn search(&self) -> Result<Link, ConnectError> {
        if let Some(link) = self.connect_to_successor().await {
            return Ok(link);
        }
        let primary = self.newest().await?;
        let link = self.connect(&primary.address, Wanted::Primary).await?;
        self.watch.on_connected(primary);
        Ok(link)
    }

    /// Connects to the replica under promotion, as soon as the replica reports the role of a
    /// primary. Returns `None` if no promotion is under way. Each attempt opens a new connection,
    /// because the promotion closes all connections of the replica.
    async fn connect_to_successor(&self) -> Option<Link> {
        let mut pause = SHORTEST_PAUSE;
        while let Some((successor, until)) = self.watch.successor() {
            if let Ok(Ok(link)) =
                timeout_at(until, self.connect(&successor.address, Wanted::Successor)).await
            {
                self.watch.on_connected(successor);
                return Some(link);
            }
            sleep(pause).await;
            pause *= 2;
        }
        None
    }

    /// Asks all sentinels concurrently, and returns the server of the newest failover.
    ///
    /// A sentinel that missed the failover names the former primary. The former primary may have
    /// come back, and may still act as a primary. So the other sentinels have [`MOMENT`] to reply
    /// after the first reply.
    async fn newest(&self) -> Result<Named, ConnectError> {
        // Each request is a task, so that a late reply still reaches the watch.
        let ask = |sentinel: &Arc<SentinelClient>| tokio::spawn(Arc::clone(sentinel).ask());
        let mut answers: FuturesUnordered<_> = self.sentinels.iter().map(ask).collect();
        let mut until = Instant::now() + self.limits.connect;
        let mut newest = None;
        let mut failure = None;
        while let Ok(Some(Ok(answer))) = timeout_at(until, answers.next()).await {
            match answer {
                Ok(named) => {
                    until = until.min(Instant::now() + MOMENT);
                    newest = newest.max(Some(named));
                }
                // An error of the configuration is more specific than silence.
                Err(error) if error.kind() == StoreErrorKind::Misconfigured => {
                    failure = Some(error)
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        newest.ok_or_else(|| {
            failure.unwrap_or_else(|| {
                ConnectError::new(StoreErrorKind::Unavailable, "the search for a primary was ended")
            })
        })
    }

    /// Returns the way to the primary that the sentinels name, and its configuration epoch.
    pub(crate) async fn primary(&self) -> Result<(Endpoint, u64), ConnectError> {
        let Named { epoch, address } = self.newest().await?;
        Ok((self.endpoint(&address)?, epoch))
    }

    async fn connect(&self, address: &Address, wanted: Wanted) -> Result<Link, ConnectError> {
        let endpoint = self.endpoint(address)?;
        let mut link = connect(&endpoint, &self.tracking, self.limits).await?;
        let address = endpoint.addr().to_string();
        handshake::check(&mut link.connection, &address, wanted, self.limits.connect).await?;
        Ok(link)
    }

    fn endpoint(&self, (host, port): &Address) -> Result<Endpoint, ConnectError> {
        let (host, port) = (host.clone(), *port);
        let addr = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let address = addr.to_string();
        let settings = self.access.settings(RedisConnectionInfo::default());
        let info = addr
            .into_connection_info()
            .map_err(|error| ConnectError::explain(error, &address))?
            .set_redis_settings(settings);
        self.access.store_endpoint(info)
    }
}

/// How long the search waits for the other sentinels after the first reply.
const MOMENT: Duration = Duration::from_millis(100);

/// The pause after the first failed attempt to connect to a replica under promotion. Each later
/// pause is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
