use std::time::Duration;

use super::server::{RedisServer, RedisServerBuilder};
use crate::patience::until;

/// A primary with two replicas, watched by three sentinels, at addresses of this machine: empty at the
/// start, removed on drop.
///
/// Its methods panic, with a message that says what failed, as those of [`RedisServer`] do.
#[derive(Debug)]
pub struct SentinelRedis {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelRedis {
    /// What the sentinels call the primary.
    pub const NAME: &str = "mymaster";

    /// Starts all six, and waits until the sentinels know each other and the replicas follow.
    ///
    /// The sentinels give up a primary that is silent for `down_after`.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server` on the `PATH`, or it does not come to that.
    pub async fn start(down_after: Duration) -> Self {
        Self::start_with(RedisServer::builder().on_host(), down_after).await
    }

    /// The same with settings for all servers, and where they are.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(settings: RedisServerBuilder, down_after: Duration) -> Self {
        let server = settings.clone().args(["--repl-diskless-sync-delay", "0"]);
        let mut servers = vec![server.clone().start().await];
        for _ in 0..2 {
            let (host, port) = (servers[0].host(), servers[0].port().to_string());
            let replica = server.clone().args(["--replicaof", host, &port]);
            servers.push(replica.start().await);
        }
        for replica in &servers[1..] {
            replica.follows().await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let (name, host, port) = (Self::NAME, servers[0].host(), servers[0].port());
            let config = format!(
                "sentinel monitor {name} {host} {port} 2\n\
                 sentinel down-after-milliseconds {name} {}\n\
                 sentinel failover-timeout {name} 10000\n",
                down_after.as_millis()
            );
            sentinels.push(settings.clone().sentinel(config).start().await);
        }
        for sentinel in &sentinels {
            until("the sentinels know everyone", async || {
                let known = ["num-slaves", "num-other-sentinels"];
                let [replicas, others] = numbers(sentinel, known).await;
                replicas == 2 && others == 2
            })
            .await;
        }
        Self { servers, sentinels }
    }

    /// Returns the URLs of the sentinels.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.sentinels.iter().map(RedisServer::url)
    }

    /// Returns the sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Returns the servers: the first is the primary at the start.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Returns the server that the sentinels call the primary, as soon as they agree.
    ///
    /// # Panics
    ///
    /// If they do not within half a minute.
    pub async fn primary(&self) -> &RedisServer {
        let mut primary = 0;
        until("the sentinels agree on a primary", async || {
            let mut ports = Vec::new();
            for sentinel in &self.sentinels {
                ports.push(named(sentinel).await);
            }
            primary = ports[0];
            ports.iter().all(|port| *port == primary)
        })
        .await;
        let primary = self.servers.iter().find(|server| server.port() == primary);
        primary.expect("the sentinels watch servers of this test")
    }
}

async fn named(sentinel: &RedisServer) -> u16 {
    let mut connection = sentinel.connection().await;
    let (_, port): (String, u16) = redis::cmd("SENTINEL")
        .arg(&["GET-MASTER-ADDR-BY-NAME", SentinelRedis::NAME])
        .query_async(&mut connection)
        .await
        .expect("a sentinel of this test answers");
    port
}

async fn numbers<const N: usize>(sentinel: &RedisServer, names: [&str; N]) -> [u32; N] {
    let mut connection = sentinel.connection().await;
    let fields: Vec<String> = redis::cmd("SENTINEL")
        .arg(&["MASTER", SentinelRedis::NAME])
        .query_async(&mut connection)
        .await
        .unwrap_or_default();
    names.map(|name| {
        let at = fields.iter().position(|field| field == name);
        at.and_then(|at| fields.get(at + 1)?.parse().ok()).unwrap_or_default()
    })
}
