use session_core::{StoreError, StoreErrorKind};

use crate::{Health, NodeHealth, RedisStore, info::Info};

impl RedisStore {
    /// Asks Redis for its health: version, memory, eviction and replication.
    ///
    /// The store sends a single `INFO`, which managed services permit. If the user may not run
    /// `INFO`, the result is [unknown](Health::is_unknown), and not an error. Call this method for
    /// a page for operators or for an occasional metric. [`state`](Self::state) reports, without a
    /// command, whether Redis answers requests at the moment.
    ///
    /// If Redis has evicted keys since the last call through this store or a clone, the store logs
    /// a `tracing` warning (target `session`), because the eviction may have signed users out.
    ///
    /// [`connect`](Self::connect) calls this method too, so that a setting that loses sessions is
    /// reported from the start.
    ///
    /// For a cluster, the result is the health of the worst node: a node that evicts sessions is
    /// worse than any other node, and then the fullest node is the worst.
    /// [`health_of_nodes`](Self::health_of_nodes) returns the health of all nodes.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if Redis, or a node of a cluster, does not reply or refuses this
    /// client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_redis::{EvictionPolicy, RedisStore};
    ///
    /// # async fn example(store: RedisStore) -> Result<(), session_core::StoreError> {
    /// let health = store.health().await?;
    /// if let (Some(software), Some(version)) = (health.software(), health.version()) {
    ///     println!("{software} {version}");
    /// }
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
        let mut healths = Vec::new();
        for node in self.health_of_nodes().await {
            healths.push(node.health?);
        }
        Ok(healths.into_iter().max_by(Health::cmp_trouble).unwrap_or_default())
    }

    /// Asks each server for its [health](Self::health), concurrently, and returns all results,
    /// including failures. For a cluster these are the known nodes that serve slots, sorted by
    /// address. Otherwise there is a single server.
    ///
    /// If no node of a cluster tells which nodes serve slots, the list names the configured nodes,
    /// each with the error.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_redis::RedisStore;
    ///
    /// # async fn example(store: RedisStore) {
    /// for node in store.health_of_nodes().await {
    ///     match node.health() {
    ///         Ok(health) => println!("{}: {:?} bytes are used", node.name(), health.used_memory()),
    ///         Err(error) => println!("{}: {error}", node.name()),
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn health_of_nodes(&self) -> Vec<NodeHealth> {
        let answers = self.connection().ask_each(&redis::cmd("INFO")).await;
        let nodes = answers.into_iter().map(|(name, answer)| {
            let health =
                answer.map(|answer| self.warnings().look(&name, Health::read(&Info::read(answer))));
            NodeHealth { name, health }
        });
        nodes.collect()
    }

    /// Checks the health of the servers, and that they run scripts. Only a lasting error is
    /// returned; an error that may pass is logged or ignored.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let mut keys = 2;
        for NodeHealth { name, health } in self.health_of_nodes().await {
            match health {
                Err(error) if error.kind() == StoreErrorKind::Misconfigured => return Err(error),
                Err(error) => {
                    tracing::debug!(target: "session", name, %error, "the health of Redis is not known");
                }
                Ok(health) if health.is_cluster_node() == Some(true) => keys = KEYS_OF_CLUSTER,
                Ok(_) => {}
            }
        }
        self.check_scripts(keys).await
    }

    /// Runs a script by `EVAL` and by `EVALSHA`, on keys that no session has.
    async fn check_scripts(&self, keys: usize) -> Result<(), StoreError> {
        let script = &self.scripts().delete;
        let calls = (0..keys).map(|number| script.call(self.probe_key(number), 0)).collect();
        let answers = match self.connection().run_all(script, calls).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(error)],
        };
        let is_lasting = |error: &StoreError| error.kind() == StoreErrorKind::Misconfigured;
        match answers.into_iter().filter_map(Result::err).find(is_lasting) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// The number of keys to try if the server is a node of a cluster. If a node serves only half of
/// the slots, the chance that all keys are in that half is 1 in 65,536.
const KEYS_OF_CLUSTER: usize = 16;
