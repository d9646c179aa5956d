use std::ops::Range;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult, Value};

use super::server::{RedisServer, RedisServerBuilder};
use crate::harness::patience::until;

/// A cluster of three primaries and three replicas on this machine. The cluster is empty at the start,
/// and removed on drop.
///
/// On failure, its methods panic with the reason, like those of [`RedisServer`].
#[derive(Debug)]
pub struct ClusterRedis {
    settings: RedisServerBuilder,
    nodes: Vec<RedisServer>,
}

impl ClusterRedis {
    /// Starts all six, and waits until the nodes agree on the slots and the replicas follow.
    ///
    /// Nodes give up another one that is silent for `node_timeout`.
    ///
    /// # Panics
    ///
    /// If no server is available, or the cluster does not form.
    pub async fn start(node_timeout: Duration) -> Self {
        Self::start_with(RedisServer::builder().on_host(), node_timeout).await
    }

    /// Like [`start`](Self::start), with settings and a place for all nodes.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(settings: RedisServerBuilder, node_timeout: Duration) -> Self {
        let settings = settings
            .arg("--cluster-enabled", "yes")
            .arg("--cluster-node-timeout", node_timeout.as_millis().to_string())
            .arg("--repl-diskless-sync-delay", "0");
        let mut nodes = Vec::new();
        for _ in 0..6 {
            nodes.push(settings.clone().start().await);
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
            meet(&nodes[0], node).await;
        }
        all_know_each_other(&nodes).await;
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
        let cluster = Self { settings, nodes };
        cluster.is_whole().await;
        cluster
    }

    /// Adds a primary without slots, which becomes the last of the [nodes](Self::nodes).
    ///
    /// # Panics
    ///
    /// If the node does not start, or another node is down.
    pub async fn add_node(&mut self) {
        let node = self.settings.clone().start().await;
        meet(&self.nodes[0], &node).await;
        let mut connection = node.connection().await;
        self.nodes.push(node);
        all_know_each_other(&self.nodes).await;
        // A node accepts no keys until it knows the owners of all slots.
        until("the new node finds the cluster whole", async || {
            let info: String = ask(&mut connection, &["INFO"]).await.unwrap_or_default();
            info.contains("cluster_state:ok")
        })
        .await;
    }

    async fn is_whole(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut connection = node.connection().await;
            until("the cluster is whole", async || {
                let info: String = ask(&mut connection, &["INFO"]).await.unwrap_or_default();
                let slots: Vec<Vec<Value>> =
                    ask(&mut connection, &["SLOTS"]).await.unwrap_or_default();
                // A range consists of the first slot, the last slot, the primary and its replica.
                info.contains("cluster_state:ok")
                    && slots.len() == PRIMARIES
                    && slots.iter().all(|range| range.len() == 4)
            })
            .await;
            if number >= PRIMARIES {
                node.follows().await;
            }
        }
    }

    /// Returns the URLs of the nodes.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(RedisServer::url)
    }

    /// Returns the nodes: the three initial primaries, then the replica of each.
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

    /// Returns the number of the node that owns a slot.
    ///
    /// # Panics
    ///
    /// If the first node does not answer.
    pub async fn owner(&self, slot: u16) -> usize {
        self.owner_by(0, slot).await.expect("every slot has a node")
    }

    /// Returns the number of the node that owns a slot, according to the node `witness`.
    pub async fn owner_by(&self, witness: usize, slot: u16) -> Option<usize> {
        let mut connection = self.nodes[witness].connection().await;
        let ranges: Vec<Vec<Value>> = ask(&mut connection, &["SLOTS"]).await.ok()?;
        let port = ranges.into_iter().find_map(|range| {
            let [first, last]: [u16; 2] =
                [0, 1].map(|at| redis::from_redis_value(range[at].clone()).expect("a slot"));
            let primary: Vec<Value> = redis::from_redis_value(range[2].clone()).expect("a node");
            (first..=last)
                .contains(&slot)
                .then(|| redis::from_redis_value::<u16>(primary[1].clone()).expect("a port"))
        })?;
        self.nodes.iter().position(|node| node.port() == port)
    }

    /// Moves a slot with all its keys from one primary to another, in the same way as `redis-cli`. Both
    /// primaries are given by number.
    ///
    /// `between` runs when both nodes know of the move and before any key has moved, and again after
    /// each batch of keys.
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
        self.road(from, to).await.take(slot, &mut between).await;
    }

    /// Moves slots with all their keys from one primary to another, and returns the number of keys.
    ///
    /// # Panics
    ///
    /// If a node refuses.
    pub async fn move_slots(&self, slots: Range<u16>, from: usize, to: usize) -> usize {
        let mut road = self.road(from, to).await;
        let mut keys = 0;
        for slot in slots {
            keys += road.take(slot, &mut async || {}).await;
        }
        keys
    }

    async fn road(&self, from: usize, to: usize) -> Road<'_> {
        let mut source = self.nodes[from].connection().await;
        let mut target = self.nodes[to].connection().await;
        let [source_id, target_id]: [String; 2] = [
            ask(&mut source, &["MYID"]).await.expect("its own name"),
            ask(&mut target, &["MYID"]).await.expect("its own name"),
        ];
        Road { source, source_id, target, target_id, to: &self.nodes[to] }
    }
}

/// The connections for moving slots from one primary to another.
struct Road<'a> {
    source: MultiplexedConnection,
    source_id: String,
    target: MultiplexedConnection,
    target_id: String,
    to: &'a RedisServer,
}

impl Road<'_> {
    async fn take(&mut self, slot: u16, between: &mut impl AsyncFnMut()) -> usize {
        let slot = slot.to_string();
        let set = async |connection: &mut MultiplexedConnection, state: &str, id: &str| {
            let command = ["SETSLOT", slot.as_str(), state, id];
            // Valkey waits for its replicas first, which may be late on a busy machine.
            until("the replicas know the state of the slot", async || {
                match ask::<Value>(connection, &command).await {
                    Err(error) if error.code() == Some("NOREPLICAS") => false,
                    reply => reply.is_ok() || panic!("the node takes no part: {reply:?}"),
                }
            })
            .await;
        };
        set(&mut self.target, "IMPORTING", &self.source_id).await;
        set(&mut self.source, "MIGRATING", &self.target_id).await;
        between().await;
        let mut moved = 0;
        loop {
            let command = ["GETKEYSINSLOT", slot.as_str(), "10"];
            let keys: Vec<String> = ask(&mut self.source, &command).await.expect("keys");
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(self.to.host()).arg(self.to.port()).arg("").arg(0);
            migrate.arg(30_000).arg("KEYS").arg(&keys);
            let _: Value = migrate.query_async(&mut self.source).await.expect("keys that can move");
            moved += keys.len();
            between().await;
        }
        // The target comes first: it must own the slot before the source redirects clients.
        set(&mut self.target, "NODE", &self.target_id).await;
        set(&mut self.source, "NODE", &self.target_id).await;
        moved
    }
}

async fn meet(node: &RedisServer, other: &RedisServer) {
    let mut connection = node.connection().await;
    let port = other.port().to_string();
    let command = ["MEET", other.host(), &port];
    ask::<Value>(&mut connection, &command).await.expect("a fresh node");
}

async fn all_know_each_other(nodes: &[RedisServer]) {
    for node in nodes {
        let mut connection = node.connection().await;
        until("all nodes know each other", async || {
            let known: String = ask(&mut connection, &["NODES"]).await.unwrap_or_default();
            let known = known.lines().filter(|line| !line.contains("handshake"));
            known.count() == nodes.len()
        })
        .await;
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
