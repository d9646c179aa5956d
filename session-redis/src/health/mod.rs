//! What servers report of themselves (`INFO`), and warnings of what costs sessions.

pub(crate) mod warnings;

use std::fmt;

use session_core::StoreError;

use crate::info::Info;

/// How one server is, as [`RedisStore::health_of_nodes`](crate::RedisStore::health_of_nodes) found it.
#[derive(Debug)]
pub struct NodeHealth {
    pub(crate) name: String,
    pub(crate) health: Result<Health, StoreError>,
}

impl NodeHealth {
    /// The host and the port of the server, or its socket; where sentinels watch, what they call the primary.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is.
    ///
    /// # Errors
    ///
    /// Returns the [`StoreError`] of a server that did not answer or refuses this client.
    pub const fn health(&self) -> Result<&Health, &StoreError> {
        self.health.as_ref()
    }
}

/// How Redis is, as [`RedisStore::health`](crate::RedisStore::health) found it. What it did not tell is unknown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    software: Option<Software>,
    version: Option<String>,
    eviction_policy: Option<EvictionPolicy>,
    used_memory: Option<u64>,
    max_memory: Option<u64>,
    evicted_keys: Option<u64>,
    pub(crate) newly_evicted: u64,
    is_cluster_node: Option<bool>,
    role: Option<Role>,
    replicas: Option<u64>,
    primary_link_is_up: Option<bool>,
    tracked_keys: Option<u64>,
    tracked_reads: Option<u64>,
}

impl Health {
    /// The software that the server runs.
    #[must_use]
    pub fn software(&self) -> Option<Software> {
        self.software
    }

    /// The version of that software, as the server writes it.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What Redis does when its memory is full. Some services do not tell it.
    #[must_use]
    pub fn eviction_policy(&self) -> Option<&EvictionPolicy> {
        self.eviction_policy.as_ref()
    }

    /// The memory that is used, in bytes.
    #[must_use]
    pub fn used_memory(&self) -> Option<u64> {
        self.used_memory
    }

    /// The memory that may be used, in bytes; zero if there is no limit.
    #[must_use]
    pub fn max_memory(&self) -> Option<u64> {
        self.max_memory
    }

    /// How many keys were evicted since the server started, sessions or not.
    #[must_use]
    pub fn evicted_keys(&self) -> Option<u64> {
        self.evicted_keys
    }

    /// How many of them since health was asked for before, by this store or a clone of it. The first time is
    /// when the store connected.
    #[must_use]
    pub fn newly_evicted_keys(&self) -> u64 {
        self.newly_evicted
    }

    /// Returns whether the server is a node of a cluster.
    ///
    /// A node works with [`RedisConfig::new`](crate::RedisConfig::new) as long as it has all slots.
    #[must_use]
    pub fn is_cluster_node(&self) -> Option<bool> {
        self.is_cluster_node
    }

    /// Whether the server is a primary or a replica. A replica refuses to store sessions.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// How many replicas are connected to the server.
    #[must_use]
    pub fn replicas(&self) -> Option<u64> {
        self.replicas
    }

    /// Whether a replica is connected to its primary. Unknown of a primary.
    #[must_use]
    pub fn primary_link_is_up(&self) -> Option<bool> {
        self.primary_link_is_up
    }

    /// Returns the number of keys that near caches hold, in the server's tracking table: at most
    /// `tracking-table-max-keys`.
    #[must_use]
    pub fn tracked_keys(&self) -> Option<u64> {
        self.tracked_keys
    }

    /// Returns the number of pairs of a [tracked key](Self::tracked_keys) and a connection that has read it, closed
    /// connections included. The table takes about 85 bytes per key and 50 bytes per pair of the server's memory.
    #[must_use]
    pub fn tracked_reads(&self) -> Option<u64> {
        self.tracked_reads
    }

    /// Tells whether the server told nothing at all, as it does where `INFO` is forbidden.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Compares how badly off servers are.
    pub(crate) fn cmp_trouble(&self, other: &Self) -> std::cmp::Ordering {
        let evicts = |health: &Self| {
            health.eviction_policy.as_ref().is_some_and(EvictionPolicy::evicts_sessions)
        };
        // Of what has no limit: as much as there is.
        let max = |health: &Self| match health.max_memory {
            None | Some(0) => u64::MAX,
            Some(max) => max,
        };
        let used = |health: &Self| health.used_memory.unwrap_or_default();
        // Used of one in the limit of the other: a comparison of the shares.
        let [full, other_full] = [(self, other), (other, self)]
            .map(|(one, another)| u128::from(used(one)) * u128::from(max(another)));
        evicts(self).cmp(&evicts(other)).then(full.cmp(&other_full))
    }

    pub(crate) fn read(info: &Info) -> Self {
        let (software, version) = match (info.get("valkey_version"), info.get("redis_version")) {
            (Some(version), _) => (Some(Software::Valkey), Some(version)),
            (None, Some(version)) => (Some(Software::Redis), Some(version)),
            (None, None) => (None, None),
        };
        Self {
            software,
            version: version.map(str::to_owned),
            eviction_policy: info.get("maxmemory_policy").map(EvictionPolicy::parse),
            used_memory: info.number("used_memory"),
            max_memory: info.number("maxmemory"),
            evicted_keys: info.number("evicted_keys"),
            newly_evicted: 0,
            is_cluster_node: info.mode().map(|mode| mode == "cluster"),
            role: match info.get("role") {
                Some("master") => Some(Role::Primary),
                Some("slave") => Some(Role::Replica),
                _ => None,
            },
            replicas: info.number("connected_slaves"),
            primary_link_is_up: info.get("master_link_status").map(|status| status == "up"),
            tracked_keys: info.number("tracking_total_keys"),
            tracked_reads: info.number("tracking_total_items"),
        }
    }
}

/// What a server runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Software {
    /// Redis, or a server that reports no name of its own, such as a proxy or a managed service.
    Redis,
    /// Valkey.
    Valkey,
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// What Redis does when its memory is full (`maxmemory-policy`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// `noeviction`: it refuses writes. The right one for sessions.
    NoEviction,
    /// `allkeys-…`: it evicts any key.
    AllKeys(String),
    /// `volatile-…`: it evicts keys that have a time to live, as every session has.
    Volatile(String),
    /// One that this version does not know.
    Other(String),
}

impl EvictionPolicy {
    /// Tells whether sessions are lost, and their users signed out, when memory is full. Of a policy that is
    /// not known that is to be feared.
    #[must_use]
    pub fn evicts_sessions(&self) -> bool {
        !matches!(self, Self::NoEviction)
    }

    /// The name that Redis has for it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::NoEviction => NO_EVICTION,
            Self::AllKeys(name) | Self::Volatile(name) | Self::Other(name) => name,
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            NO_EVICTION => Self::NoEviction,
            _ if name.starts_with("allkeys-") => Self::AllKeys(name.to_owned()),
            _ if name.starts_with("volatile-") => Self::Volatile(name.to_owned()),
            _ => Self::Other(name.to_owned()),
        }
    }
}

/// What a server is to the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows a primary.
    Replica,
}

const NO_EVICTION: &str = "noeviction";

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn health(info: &str) -> Health {
        Health::read(&Info::read(Value::SimpleString(info.to_owned())))
    }

    #[test]
    fn info_of_a_primary_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory:1024\r\n\
            used_memory_human:1K\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Stats\r\n\
            evicted_keys:3\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";
        let health = health(info);
        assert_eq!((health.software(), health.version()), (Some(Software::Redis), Some("7.0.15")));
        assert_eq!(health.eviction_policy(), Some(&EvictionPolicy::NoEviction));
        assert_eq!((health.used_memory(), health.max_memory()), (Some(1024), Some(0)));
        assert_eq!((health.evicted_keys(), health.newly_evicted_keys()), (Some(3), 0));
        assert_eq!((health.role(), health.replicas()), (Some(Role::Primary), Some(2)));
        assert_eq!(health.primary_link_is_up(), None);
        assert!(!health.is_unknown());
    }

    #[test]
    fn info_of_valkey_is_read() {
        let info = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n";
        let health = health(info);
        assert_eq!((health.software(), health.version()), (Some(Software::Valkey), Some("8.1.1")));
    }

    #[test]
    fn info_of_a_replica_is_read() {
        let health = health("role:slave\nmaster_link_status:down\n");
        assert_eq!(
            (health.role(), health.primary_link_is_up()),
            (Some(Role::Replica), Some(false))
        );
    }

    #[test]
    fn what_is_not_told_or_not_understood_is_unknown() {
        for info in ["", "\r\n", "redis_version:\r\nused_memory:much\r\nmaxmemory_policy", "a:b:c"]
        {
            assert!(health(info).is_unknown(), "{info:?}");
        }
    }

    #[test]
    fn only_noeviction_keeps_sessions() {
        for (name, evicts) in [
            ("noeviction", false),
            ("allkeys-lru", true),
            ("volatile-ttl", true),
            ("of-the-future", true),
        ] {
            let policy = EvictionPolicy::parse(name);
            assert_eq!((policy.evicts_sessions(), policy.as_str()), (evicts, name));
        }
    }

    #[test]
    fn a_node_that_evicts_is_worse_off_than_a_full_one_and_that_than_a_large_one() {
        let node = |policy, used, max| {
            health(&format!("maxmemory_policy:{policy}\nused_memory:{used}\nmaxmemory:{max}"))
        };
        let in_order = [
            Health::default(),
            node("noeviction", 5_000, 0),
            node("noeviction", 5_000, 100_000),
            node("noeviction", 90, 100),
            node("noeviction", 100, 100),
            node("allkeys-lru", 1, 100),
        ];
        assert!(in_order.is_sorted_by(|one, other| one.cmp_trouble(other).is_lt()));
    }
}
