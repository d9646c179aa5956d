use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{Health, Role};

/// The last known state of each server, by the name of the server.
#[derive(Debug)]
pub(crate) struct Warnings {
    expects_cluster: bool,
    seen: Mutex<HashMap<String, Former>>,
}

#[derive(Debug, Default)]
struct Former {
    evicted_keys: Option<u64>,
    warned_of_policy: bool,
    warned_of_role: bool,
    warned_of_cluster: bool,
}

impl Warnings {
    pub(crate) fn new(expects_cluster: bool) -> Self {
        Self { expects_cluster, seen: Mutex::default() }
    }

    /// Logs warnings about lost sessions, and sets the number of newly evicted keys.
    pub(crate) fn look(&self, name: &str, mut health: Health) -> Health {
        let mut watch = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = watch.entry(name.to_owned()).or_default();
        health.newly_evicted = seen.newly_evicted(health.evicted_keys());
        if health.newly_evicted > 0 {
            tracing::warn!(
                target: "session",
                name,
                keys = health.newly_evicted,
                "Redis evicted keys: sessions may be lost, and their users signed out"
            );
        }
        seen.warn_once(name, &health, self.expects_cluster);
        health
    }
}

impl Former {
    /// Returns the number of keys that the server evicted since the last call. The server counts
    /// from zero again after a restart.
    fn newly_evicted(&mut self, now: Option<u64>) -> u64 {
        let Some(now) = now else { return 0 };
        match self.evicted_keys.replace(now) {
            Some(before) if before <= now => now - before,
            Some(_) => now,
            None => 0,
        }
    }

    /// Logs a warning about each state that loses sessions, when the state begins and not on each
    /// call.
    fn warn_once(&mut self, name: &str, health: &Health, expects_cluster: bool) {
        let policy = health.eviction_policy().filter(|policy| policy.evicts_sessions());
        if begins(&mut self.warned_of_policy, policy.is_some())
            && let Some(policy) = policy
        {
            tracing::warn!(
                target: "session",
                name,
                policy = policy.as_str(),
                "Redis evicts sessions when its memory is full: set maxmemory-policy noeviction"
            );
        }
        if begins(&mut self.warned_of_role, health.role() == Some(Role::Replica)) {
            tracing::warn!(
                target: "session",
                name,
                "this Redis is a replica, which stores no session: connect to its primary"
            );
        }
        let is_unexpected = health.is_cluster_node() == Some(true) && !expects_cluster;
        if begins(&mut self.warned_of_cluster, is_unexpected) {
            tracing::warn!(
                target: "session",
                name,
                "this Redis is a node of a cluster, and is used as one server: sessions are refused \
                 as soon as another node has some of the slots; use RedisConfig::cluster"
            );
        }
    }
}

/// Returns `true` if the state begins to hold, and stores the state in `before`.
fn begins(before: &mut bool, holds: bool) -> bool {
    !std::mem::replace(before, holds) && holds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicted_keys_are_counted_from_the_last_time_and_over_a_restart() {
        let mut seen = Former::default();
        let counts = [Some(5), Some(5), Some(7), None, Some(8), Some(2)];
        assert_eq!(counts.map(|now| seen.newly_evicted(now)), [0, 0, 2, 0, 1, 2]);
    }
}
