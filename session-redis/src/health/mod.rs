//! The state that servers report (`INFO`), and warnings about settings and events that lose
//! sessions.

pub(crate) mod warnings;

use std::fmt;

use session_core::StoreError;

use crate::info::Info;

/// The health of one server, a part of the result of
/// [`RedisStore::health_of_nodes`](crate::RedisStore::health_of_nodes).
#[derive(Debug)]
pub struct NodeHealth {
    pub(crate) name: String,
    pub(crate) health: Result<Health, StoreError>,
}

impl NodeHealth {
    /// Returns the host and the port of the server, or the path of the socket. With Sentinel, this
    /// is the name of the primary at the sentinels.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the health of the server.
    ///
    /// # Errors
    ///
    /// Returns the [`StoreError`] of a server that did not reply or refuses this client.
    pub const fn health(&self) -> Result<&Health, &StoreError> {
        self.health.as_ref()
    }
}

/// The health of Redis, the result of [`RedisStore::health`](crate::RedisStore::health). A value is
/// `None` if the server did not report the value.
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
    /// Returns the software that the server runs.
    #[must_use]
    pub fn software(&self) -> Option<Software> {
        self.software
    }

    /// Returns the version of the software, in the notation of the server.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns the eviction policy, which applies when the memory is full. Some services do not
    /// report the policy.
    #[must_use]
    pub fn eviction_policy(&self) -> Option<&EvictionPolicy> {
        self.eviction_policy.as_ref()
    }

    /// Returns the used memory in bytes.
    #[must_use]
    pub fn used_memory(&self) -> Option<u64> {
        self.used_memory
    }

    /// Returns the memory limit in bytes, or zero if there is no limit.
    #[must_use]
    pub fn max_memory(&self) -> Option<u64> {
        self.max_memory
    }

    /// Returns the number of keys that the server evicted since its start, sessions and other keys.
    #[must_use]
    pub fn evicted_keys(&self) -> Option<u64> {
        self.evicted_keys
    }

    /// Returns the number of keys that the server evicted since the last request for its health
    /// through this store or a clone. The first request reports zero: the request of
    /// [`RedisStore::connect`](crate::RedisStore::connect), or the first call after
    /// [`connect_lazy`](crate::RedisStore::connect_lazy).
    #[must_use]
    pub fn newly_evicted_keys(&self) -> u64 {
        self.newly_evicted
    }

    /// Returns `true` if the server is a node of a cluster.
    ///
    /// [`RedisConfig::new`](crate::RedisConfig::new) works with such a node as long as the node
    /// serves all slots.
    #[must_use]
    pub fn is_cluster_node(&self) -> Option<bool> {
        self.is_cluster_node
    }

    /// Returns the role of the server. A replica refuses to store sessions.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// Returns the number of replicas that are connected to the server.
    #[must_use]
    pub fn replicas(&self) -> Option<u64> {
        self.replicas
    }

    /// Returns `true` if the server is a replica that is connected to its primary, and `None` for a
    /// primary.
    #[must_use]
    pub fn primary_link_is_up(&self) -> Option<bool> {
        self.primary_link_is_up
    }

    /// Returns the number of keys in the tracking table, in which the server records the keys that
    /// near caches hold. The limit is `tracking-table-max-keys`.
    #[must_use]
    pub fn tracked_keys(&self) -> Option<u64> {
        self.tracked_keys
    }

    /// Returns the number of pairs of a [tracked key](Self::tracked_keys) and a connection that has
    /// read the key, including closed connections. The table takes about 85 bytes per key and 50
    /// bytes per pair in the memory of the server.
    #[must_use]
    pub fn tracked_reads(&self) -> Option<u64> {
        self.tracked_reads
    }

    /// Returns `true` if the server reported no value at all, for example because `INFO` is
    /// forbidden.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Compares two servers by their risk of losing sessions: the greater one is worse off.
    pub(crate) fn cmp_trouble(&self, other: &Self) -> std::cmp::Ordering {
        let evicts = |health: &Self| {
            health.eviction_policy.as_ref().is_some_and(EvictionPolicy::evicts_sessions)
        };
        // A server without a limit is treated as if its limit were the largest number.
        let max = |health: &Self| match health.max_memory {
            None | Some(0) => u64::MAX,
            Some(max) => max,
        };
        let used = |health: &Self| health.used_memory.unwrap_or_default();
        // Compares the shares `used / max` without a division, by cross-multiplication.
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

/// The software of a server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Software {
    /// Redis, or a server that reports only a version of Redis, such as a proxy or a managed
    /// service.
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

/// The behavior of Redis when its memory is full (`maxmemory-policy`).
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum EvictionPolicy {
    /// `noeviction`: Redis refuses writes. The right policy for sessions.
    NoEviction,
    /// `allkeys-…`: Redis evicts any key.
    AllKeys(String),
    /// `volatile-…`: Redis evicts keys with a time to live, which every session has.
    Volatile(String),
    /// A policy that this version of the crate does not know.
    Other(String),
}

impl EvictionPolicy {
    /// Returns `true` if Redis evicts sessions when its memory is full, which signs their users
    /// out. An unknown policy is assumed to evict sessions.
    #[must_use]
    pub fn evicts_sessions(&self) -> bool {
        !matches!(self, Self::NoEviction)
    }

    /// Returns the name of the policy in Redis.
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

/// The role of a server in replication.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// The server accepts writes.
    Primary,
    /// The server follows a primary.
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
