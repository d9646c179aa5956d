//! The client of a cluster.
//!
//! ```text
//! commands.rs   a command goes to the owner of its slot, and follows redirections
//! nodes.rs      a command goes to each node, or to one by its name
//!     │
//! refresh.rs    the slot map: asked for at the start, and again after a failure that may be a move
//!     │
//! mod.rs        the map and its nodes
//! ```

mod commands;
mod nodes;
mod refresh;
mod slot;
mod topology;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError};
use tokio::{sync::watch, time::Instant};

use crate::{
    RedisConfig, RedisState,
    error::ConnectError,
    tracking::Tracking,
    transport::{
        access::{Access, parse},
        cluster::topology::Address,
        failure::Failure,
        handshake::Wanted,
        limits::Limits,
        managed_connection::Source,
        node::Node,
    },
};

/// The nodes of a cluster, and the owner of each slot.
///
/// redis-rs has a cluster client as well. After a lost reply, the redis-rs client repeats a command
/// by itself, and could thus apply a commit twice. The client sends `ASKING` separately from its
/// command, over a connection that other requests share. A silent node can stop all commands. Here
/// each node has its own circuit breaker, like a single server.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Shared>);

struct Shared {
    access: Access,
    limits: Limits,
    tracking: Tracking,
    tls: bool,
    settings: RedisConnectionInfo,
    map: Mutex<Map>,
}

struct Member {
    address: Address,
    node: Node,
}

#[derive(Default)]
struct Map {
    /// The owner of each slot, with the slot as the index.
    owners: Vec<Option<Arc<Member>>>,
    members: HashMap<Address, Arc<Member>>,
    /// The nodes in the configuration, with or without slots.
    seeds: Vec<Arc<Member>>,
    /// The error of the last refresh, if every asked node failed.
    failure: Option<ConnectError>,
    /// When the last refresh began.
    refreshed_at: Option<Instant>,
    /// Present during a refresh. The channel closes at the end of the refresh.
    refresh: Option<watch::Receiver<()>>,
    /// The number of refreshes so far.
    count: usize,
}

impl Cluster {
    /// Creates a client. The first command looks for the cluster, unless [`connect`](Self::connect)
    /// was called before.
    pub(crate) fn new(
        config: &RedisConfig,
        urls: &[String],
        tracking: Tracking,
    ) -> Result<Self, ConnectError> {
        let access = Access::new(config)?;
        let limits = Limits::of(config);
        let mut seeds = Vec::new();
        let mut of_all = None;
        for url in urls {
            let info = parse(url)?;
            let (seed, is_tls) = match info.addr() {
                ConnectionAddr::Tcp(host, port) => ((host.clone(), *port), false),
                ConnectionAddr::TcpTls { host, port, .. } => ((host.clone(), *port), true),
                _ => {
                    return Err(ConnectError::misconfigured(
                        "the URL of a node of a cluster is that of a Unix socket, and nodes tell the \
                         others by host and port",
                    ));
                }
            };
            let settings = access.settings(info.redis_settings().clone());
            let (tls, settings) = &*of_all.get_or_insert((is_tls, settings));
            if *tls != is_tls {
                return Err(ConnectError::misconfigured(
                    "the URLs of the nodes have different schemes: TLS is for all or none",
                ));
            }
            access.store_endpoint(info.set_redis_settings(settings.clone()))?;
            seeds.push(seed);
        }
        let Some((tls, settings)) = of_all else {
            return Err(ConnectError::misconfigured(
                "`RedisConfig::cluster` was given no URL: it takes those of one node or more",
            ));
        };
        let map = Mutex::new(Map::default());
        let cluster = Self(Arc::new(Shared { access, limits, tracking, tls, settings, map }));
        let seeds = seeds.into_iter().map(|seed| cluster.new_member(seed).map(Arc::new));
        let seeds = seeds.collect::<Result<_, _>>()?;
        cluster.map().seeds = seeds;
        Ok(cluster)
    }

    /// Returns the state of the worst node, with the sum of the waiting commands.
    pub(crate) fn state(&self) -> RedisState {
        let states: Vec<_> =
            self.map().members.values().map(|member| member.node.state()).collect();
        RedisState::worst(states)
    }

    /// Returns the node at an address, and adds a node if the address is new.
    fn member(&self, address: Address) -> Result<Arc<Member>, Failure> {
        self.member_in(&mut self.map(), address).map_err(Failure::Lost)
    }

    fn member_in(&self, map: &mut Map, address: Address) -> Result<Arc<Member>, ConnectError> {
        if let Some(member) = map.members.get(&address) {
            return Ok(Arc::clone(member));
        }
        let seed = map.seeds.iter().find(|seed| seed.address == address).cloned();
        let member = match seed {
            Some(seed) => seed,
            None => Arc::new(self.new_member(address.clone())?),
        };
        map.members.insert(address, Arc::clone(&member));
        Ok(member)
    }

    fn new_member(&self, address: Address) -> Result<Member, ConnectError> {
        let (host, port) = address.clone();
        let addr = if self.0.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let text = addr.to_string();
        let explain = |error: RedisError| ConnectError::explain(error, &text);
        let info = addr.into_connection_info().map_err(explain)?;
        let info = info.set_redis_settings(self.0.settings.clone());
        let endpoint = self.0.access.store_endpoint(info)?;
        let source = Source::server(endpoint, self.0.tracking.clone(), Wanted::ClusterNode);
        Ok(Member { address, node: Node::new(source, self.0.limits) })
    }

    fn map(&self) -> MutexGuard<'_, Map> {
        // Every change leaves the map usable, also if the thread panics afterwards.
        self.0.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<Arc<Member>> {
        self.owners.get(usize::from(slot)).cloned().flatten()
    }
}
