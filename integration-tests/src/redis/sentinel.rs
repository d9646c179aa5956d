use std::time::Duration;

use redis::Value;

use super::server::RedisServer;
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
        let primary = RedisServer::builder().on_host().start().await;
        let mut servers = vec![primary];
        for _ in 0..2 {
            let port = servers[0].port().to_string();
            let replica = RedisServer::builder()
                .args(["--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1", &port])
                .on_host();
            servers.push(replica.start().await);
        }
        for replica in &servers[1..] {
            until("a replica follows", async || is_following(replica).await).await;
        }
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            let (name, port) = (Self::NAME, servers[0].port());
            let config = format!(
                "sentinel monitor {name} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {name} {}\n\
                 sentinel failover-timeout {name} 10000\n",
                down_after.as_millis()
            );
            sentinels.push(RedisServer::builder().sentinel(config).start().await);
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

async fn is_following(replica: &RedisServer) -> bool {
    let mut connection = replica.connection().await;
    let role = redis::cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await;
    matches!(role.as_deref(), Ok([_, _, _, Value::BulkString(state), _]) if state == b"connected")
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
