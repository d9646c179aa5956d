use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};

use super::server::{RedisServer, RedisServerBuilder};
use crate::patience::until;

/// A cluster of three primaries and three replicas, at addresses of this machine: empty at the start,
/// removed on drop.
///
/// Its methods panic, with a message that says what failed, as those of [`RedisServer`] do.
#[derive(Debug)]
pub struct ClusterRedis {
    nodes: Vec<RedisServer>,
}

impl ClusterRedis {
    /// Starts all six, and waits until they agree on who has which slot and the replicas follow.
    ///
    /// Nodes give up one that is silent for `node_timeout`.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server` on the `PATH`, or it does not come to that.
    pub async fn start(node_timeout: Duration) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..6 {
            nodes.push(Self::node(node_timeout).start().await);
        }
        let mut connections = Vec::new();
        let mut ids = Vec::new();
        for node in &nodes {
            connections.push(node.connection().await);
            let mut connection = node.connection().await;
            ids.push(ask::<String>(&mut connection, &["MYID"]).await.expect("its own name"));
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            let epoch = (number + 1).to_string();
            ask::<Value>(connection, &["SET-CONFIG-EPOCH", &epoch]).await.expect("a fresh node");
        }
        for node in &nodes[1..] {
            let port = node.port().to_string();
            let meet = ["MEET", "127.0.0.1", &port];
            ask::<Value>(&mut connections[0], &meet).await.expect("a fresh node");
        }
        for connection in &mut connections {
            until("all nodes know each other", async || {
                let nodes: String = ask(connection, &["NODES"]).await.unwrap_or_default();
                let known = nodes.lines().filter(|line| !line.contains("handshake"));
                known.count() == ids.len()
            })
            .await;
        }
        for (number, primary) in connections[..PRIMARIES].iter_mut().enumerate() {
            let [first, end] = [number, number + 1].map(|n| n * SLOTS / PRIMARIES);
            let slots: Vec<String> = (first..end).map(|slot| slot.to_string()).collect();
            let command: Vec<&str> =
                ["ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            ask::<Value>(primary, &command).await.expect("free slots");
        }
        for (primary, replica) in ids.iter().zip(&mut connections[PRIMARIES..]) {
            let command = ["REPLICATE", primary.as_str()];
            ask::<Value>(replica, &command).await.expect("a node that it knows");
        }
        let cluster = Self { nodes };
        cluster.is_whole().await;
        cluster
    }

    /// A node that belongs to no cluster yet.
    fn node(node_timeout: Duration) -> RedisServerBuilder {
        RedisServer::builder()
            .arg("--cluster-enabled", "yes")
            .arg("--cluster-node-timeout", node_timeout.as_millis().to_string())
            .arg("--repl-diskless-sync-delay", "0")
            .on_host()
    }

    async fn is_whole(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut connection = node.connection().await;
            until("the cluster is whole", async || {
                let info: String = ask(&mut connection, &["INFO"]).await.unwrap_or_default();
                let slots: Vec<Vec<Value>> =
                    ask(&mut connection, &["SLOTS"]).await.unwrap_or_default();
                // First, last, the primary, its replica.
                info.contains("cluster_state:ok")
                    && slots.len() == PRIMARIES
                    && slots.iter().all(|range| range.len() == 4)
            })
            .await;
            if number >= PRIMARIES {
                until("a replica follows", async || {
                    let role = redis::cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await;
                    let state = role.ok().and_then(|role| role.into_iter().nth(3));
                    state == Some(Value::BulkString(b"connected".into()))
                })
                .await;
            }
        }
    }

    /// Returns the URLs of the nodes.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(RedisServer::url)
    }

    /// Returns the nodes: the three that are primaries at the start, then the replica of each.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns the slot of a key.
    ///
    /// # Panics
    ///
    /// If the first node does not answer.
    pub async fn slot(&self, key: &str) -> u16 {
        let mut connection = self.nodes[0].connection().await;
        ask(&mut connection, &["KEYSLOT", key]).await.expect("a number")
    }

    /// Returns the number of the node that has a slot.
    ///
    /// # Panics
    ///
    /// If the first node does not answer.
    pub async fn owner(&self, slot: u16) -> usize {
        let mut connection = self.nodes[0].connection().await;
        let ranges: Vec<(u16, u16, (String, u16, String))> = {
            let ranges: Vec<Vec<Value>> = ask(&mut connection, &["SLOTS"]).await.expect("ranges");
            let read = |range: Vec<Value>| {
                let primary: Vec<Value> = redis::from_redis_value(range[2].clone())?;
                RedisResult::Ok((
                    redis::from_redis_value(range[0].clone())?,
                    redis::from_redis_value(range[1].clone())?,
                    (
                        redis::from_redis_value(primary[0].clone())?,
                        redis::from_redis_value(primary[1].clone())?,
                        redis::from_redis_value(primary[2].clone())?,
                    ),
                ))
            };
            ranges.into_iter().map(|range| read(range).expect("a range")).collect()
        };
        let (_, _, (_, port, _)) = ranges
            .into_iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot))
            .expect("every slot has a node");
        self.nodes.iter().position(|node| node.port() == port).expect("a node of this test")
    }

    /// Moves a slot with all its keys from one primary to another, by number, as `redis-cli` does it.
    ///
    /// `between` is run when both nodes know of the move and no key has moved yet, and after each batch of
    /// keys.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub async fn move_slot(
        &self,
        slot: u16,
        from: usize,
        to: usize,
        mut between: impl AsyncFnMut(),
    ) {
        let slot = slot.to_string();
        let mut source = self.nodes[from].connection().await;
        let mut target = self.nodes[to].connection().await;
        let [source_id, target_id]: [String; 2] = [
            ask(&mut source, &["MYID"]).await.expect("its own name"),
            ask(&mut target, &["MYID"]).await.expect("its own name"),
        ];
        let set = async |connection: &mut MultiplexedConnection, state: &str, id: &str| {
            let command = ["SETSLOT", slot.as_str(), state, id];
            ask::<Value>(connection, &command).await.expect("a node that takes part");
        };
        set(&mut target, "IMPORTING", &source_id).await;
        set(&mut source, "MIGRATING", &target_id).await;
        between().await;
        loop {
            let command = ["GETKEYSINSLOT", slot.as_str(), "10"];
            let keys: Vec<String> = ask(&mut source, &command).await.expect("keys");
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(self.nodes[to].host()).arg(self.nodes[to].port()).arg("").arg(0);
            migrate.arg(30_000).arg("KEYS").arg(&keys);
            let _: Value = migrate.query_async(&mut source).await.expect("keys that can move");
            between().await;
        }
        // The target first: it must know that the slot is its own before anyone is sent there.
        set(&mut target, "NODE", &target_id).await;
        set(&mut source, "NODE", &target_id).await;
    }
}

async fn ask<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    words: &[&str],
) -> RedisResult<T> {
    redis::cmd("CLUSTER").arg(words).query_async(connection).await
}

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;
