use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use redis::Value;
use session_core::{StoreError, StoreErrorKind};

use crate::RedisStore;

impl RedisStore {
    /// Asks Redis how it is: its version, memory, eviction, and replication.
    ///
    /// This is one `INFO`, and nothing that managed services forbid. Where the user may not even ask for that,
    /// the answer is [unknown](Health::is_unknown), and no error. It is for a page of the operator's or a
    /// metric once in a while; whether requests are answered at the moment, without asking Redis, is another
    /// question.
    ///
    /// If keys were evicted since the last time that anybody asked through this store or a clone of it, that
    /// is a `tracing` warning (target `session`): it may have signed users out.
    ///
    /// [`connect`](Self::connect) asks too, so that what would cost sessions is a warning from the start.
    ///
    /// Of a cluster nothing is told, as each node would tell something else: ask the nodes.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if Redis does not answer or refuses this client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_redis::{EvictionPolicy, RedisStore};
    ///
    /// # async fn example(store: RedisStore) -> Result<(), session_core::StoreError> {
    /// let health = store.health().await?;
    /// println!("Redis {}", health.version().unwrap_or("of unknown version"));
    /// if let (Some(used), Some(max)) = (health.used_memory(), health.max_memory()) {
    ///     println!("{used} of {max} bytes are used");
    /// }
    /// if health.eviction_policy().is_some_and(EvictionPolicy::evicts_sessions) {
    ///     println!("{} keys were evicted", health.evicted_keys().unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn health(&self) -> Result<Health, StoreError> {
        let health = match self.connection().ask(&redis::cmd("INFO")).await? {
            Value::BulkString(text) => Health::parse(&String::from_utf8_lossy(&text)),
            Value::VerbatimString { text, .. } => Health::parse(&text),
            Value::SimpleString(text) => Health::parse(&text),
            // Not allowed, renamed or left out; or a proxy's own idea of it.
            _ => Health::default(),
        };
        let watch = self.watch();
        let newly_evicted = watch.newly_evicted(health.evicted_keys);
        if newly_evicted > 0 {
            tracing::warn!(
                target: "session",
                keys = newly_evicted,
                "Redis evicted keys: sessions may be lost, and their users signed out"
            );
        }
        watch.warn_once(&health);
        Ok(Health { newly_evicted, ..health })
    }

    /// What a new connection is worth. Trouble that may pass is none of the connection's.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        match self.health().await {
            Err(error) if error.kind() == StoreErrorKind::Misconfigured => Err(error),
            Err(error) => {
                tracing::debug!(target: "session", %error, "the health of Redis is not known");
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }
}

/// How Redis is, as [`RedisStore::health`] found it. What it did not tell is unknown.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Health {
    version: Option<String>,
    eviction_policy: Option<EvictionPolicy>,
    used_memory: Option<u64>,
    max_memory: Option<u64>,
    evicted_keys: Option<u64>,
    newly_evicted: u64,
    role: Option<Role>,
    replicas: Option<u64>,
    primary_link_is_up: Option<bool>,
}

impl Health {
    /// The version of the server, as it writes it. Valkey tells the version of Redis with which it is
    /// compatible.
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

    /// Tells whether the server told nothing at all, as it does where `INFO` is forbidden.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    fn parse(info: &str) -> Self {
        let field = |name: &str| {
            info.lines().find_map(|line| {
                let value = line.trim_end().strip_prefix(name)?.strip_prefix(':')?;
                (!value.is_empty()).then_some(value)
            })
        };
        let number = |name| field(name)?.parse().ok();
        Self {
            version: field("redis_version").map(str::to_owned),
            eviction_policy: field("maxmemory_policy").map(EvictionPolicy::parse),
            used_memory: number("used_memory"),
            max_memory: number("maxmemory"),
            evicted_keys: number("evicted_keys"),
            newly_evicted: 0,
            role: match field("role") {
                Some("master") => Some(Role::Primary),
                Some("slave") => Some(Role::Replica),
                _ => None,
            },
            replicas: number("connected_slaves"),
            primary_link_is_up: field("master_link_status").map(|status| status == "up"),
        }
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

/// What was seen of a server before.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    evicted_keys: Mutex<Option<u64>>,
    warned_of_policy: AtomicBool,
    warned_of_role: AtomicBool,
}

impl Watch {
    /// How many keys were evicted since the last time. The count begins anew when the server does.
    fn newly_evicted(&self, now: Option<u64>) -> u64 {
        let Some(now) = now else { return 0 };
        let mut last = self.evicted_keys.lock().unwrap_or_else(PoisonError::into_inner);
        match last.replace(now) {
            Some(before) if before <= now => now - before,
            Some(_) => now,
            None => 0,
        }
    }

    /// Warns of what would cost sessions, when it is found and not each time.
    fn warn_once(&self, health: &Health) {
        let policy = health.eviction_policy.as_ref().filter(|policy| policy.evicts_sessions());
        if begins(&self.warned_of_policy, policy.is_some())
            && let Some(policy) = policy
        {
            tracing::warn!(
                target: "session",
                policy = policy.as_str(),
                "Redis evicts sessions when its memory is full: set maxmemory-policy noeviction"
            );
        }
        if begins(&self.warned_of_role, health.role == Some(Role::Replica)) {
            tracing::warn!(
                target: "session",
                "this Redis is a replica, which stores no session: connect to its primary"
            );
        }
    }
}

/// Tells whether something holds that did not before.
fn begins(before: &AtomicBool, holds: bool) -> bool {
    !before.swap(holds, Ordering::Relaxed) && holds
}

const NO_EVICTION: &str = "noeviction";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_of_a_primary_is_read() {
        let info = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory:1024\r\n\
            used_memory_human:1K\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Stats\r\n\
            evicted_keys:3\r\n# Replication\r\nrole:master\r\nconnected_slaves:2\r\n";
        let health = Health::parse(info);
        assert_eq!(health.version(), Some("7.0.15"));
        assert_eq!(health.eviction_policy(), Some(&EvictionPolicy::NoEviction));
        assert_eq!((health.used_memory(), health.max_memory()), (Some(1024), Some(0)));
        assert_eq!((health.evicted_keys(), health.newly_evicted_keys()), (Some(3), 0));
        assert_eq!((health.role(), health.replicas()), (Some(Role::Primary), Some(2)));
        assert_eq!(health.primary_link_is_up(), None);
        assert!(!health.is_unknown());
    }

    #[test]
    fn info_of_a_replica_is_read() {
        let health = Health::parse("role:slave\nmaster_link_status:down\n");
        assert_eq!(
            (health.role(), health.primary_link_is_up()),
            (Some(Role::Replica), Some(false))
        );
    }

    #[test]
    fn what_is_not_told_or_not_understood_is_unknown() {
        for info in ["", "\r\n", "redis_version:\r\nused_memory:much\r\nmaxmemory_policy", "a:b:c"]
        {
            assert!(Health::parse(info).is_unknown(), "{info:?}");
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
    fn evicted_keys_are_counted_from_the_last_time_and_over_a_restart() {
        let watch = Watch::default();
        let counts = [Some(5), Some(5), Some(7), None, Some(8), Some(2)];
        assert_eq!(counts.map(|now| watch.newly_evicted(now)), [0, 0, 2, 0, 1, 2]);
    }
}
