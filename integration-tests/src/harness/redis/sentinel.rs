use std::{collections::HashMap, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use super::server::{RedisServer, RedisServerBuilder};
use crate::harness::patience::until;

/// A primary with two replicas and three sentinels on this machine. All are empty at the start, and
/// removed on drop.
///
/// On failure, its methods panic with the reason, like those of [`RedisServer`].
#[derive(Debug)]
pub struct SentinelRedis {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelRedis {
    /// The sentinels' name for the primary.
    pub const NAME: &str = "mymaster";

    /// Starts all six, and waits until the sentinels know each other and the replicas follow.
    ///
    /// The sentinels give up a primary that is silent for `down_after`.
    ///
    /// # Panics
    ///
    /// If no server is available, or the deployment does not form.
    pub async fn start(down_after: Duration) -> Self {
        Self::start_with(RedisServer::builder().on_host(), down_after).await
    }

    /// Like [`start`](Self::start), with settings and a place for all servers.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(settings: RedisServerBuilder, down_after: Duration) -> Self {
        let server = settings.clone().args(["--repl-diskless-sync-delay", "0"]);
        let mut servers = vec![server.clone().start().await];
        for _ in 0..2 {
            let replica = server.clone().start().await;
            // Only after the start at its final address, because sentinels never forget a replica's
            // former address.
            replica.follow(&servers[0]).await;
            servers.push(replica);
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
        let redis = Self { servers, sentinels };
        redis.is_whole().await;
        redis
    }

    /// Waits until each sentinel knows the others, the primary and two replicas that it can promote.
    ///
    /// A sentinel without processor time for two seconds stays passive for half a minute (`TILT`). After
    /// the loss of a replica, a sentinel reconnects only after a while, and replies `NOGOODSLAVE` until
    /// then.
    ///
    /// # Panics
    ///
    /// If the deployment is incomplete after a minute and a half.
    pub async fn is_whole(&self) {
        for sentinel in &self.sentinels {
            let mut seen = String::new();
            let deadline = Instant::now() + WHOLE_WITHIN;
            while !is_whole(sentinel, &mut seen).await {
                assert!(
                    Instant::now() < deadline,
                    "not within {WHOLE_WITHIN:?}: a sentinel has everyone it needs; it sees {seen}"
                );
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Returns the URLs of the sentinels.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.sentinels.iter().map(RedisServer::url)
    }

    /// Returns the sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Returns the servers: the first is the initial primary.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Returns the primary, as soon as the sentinels agree.
    ///
    /// # Panics
    ///
    /// If they disagree for half a minute.
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

    /// Returns a task that ends with the promotion of a replica, and yields the instant: a sentinel
    /// closes the replica's connections in the transaction of the promotion.
    ///
    /// # Panics
    ///
    /// If a replica does not reply.
    pub async fn promotion(&self) -> JoinHandle<std::time::Instant> {
        let primary = self.primary().await.port();
        let mut connections = JoinSet::new();
        for replica in self.servers.iter().filter(|server| server.port() != primary) {
            let stream = TcpStream::connect((replica.host(), replica.port())).await;
            let mut stream = stream.expect("a replica of this test answers");
            connections.spawn(async move { drop(stream.read(&mut [0; 1]).await) });
        }
        tokio::spawn(async move {
            connections.join_next().await;
            std::time::Instant::now()
        })
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

/// Returns `true` if a sentinel could fail over now, and writes its view to `seen`.
async fn is_whole(sentinel: &RedisServer, seen: &mut String) -> bool {
    let mut connection = sentinel.connection().await;
    let mut ask = redis::pipe();
    ask.cmd("SENTINEL").arg(&["MASTER", SentinelRedis::NAME]);
    ask.cmd("SENTINEL").arg(&["REPLICAS", SentinelRedis::NAME]);
    ask.cmd("INFO").arg("sentinel");
    let answer = ask.query_async::<(Fields, Vec<Fields>, redis::InfoDict)>(&mut connection).await;
    let Ok((primary, replicas, info)) = answer else {
        "no answer".clone_into(seen);
        return false;
    };
    let field = |fields: &Fields, name: &str| fields.get(name).cloned().unwrap_or_default();
    let tilt: Option<u32> = info.get("sentinel_tilt");
    let followed: Vec<_> = replicas
        .iter()
        .map(|replica| (field(replica, "flags"), field(replica, "master-link-status")))
        .collect();
    let (flags, others) = (field(&primary, "flags"), field(&primary, "num-other-sentinels"));
    *seen = format!("primary {flags}, {others} others, replicas {followed:?}, tilt {tilt:?}");
    let follow = followed.iter().filter(|(flags, link)| flags == "slave" && link == "ok").count();
    tilt == Some(0) && flags == "master" && others == "2" && follow == 2
}

type Fields = HashMap<String, String>;

/// Longer than the passive time of a sentinel, plus its reconnection.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
