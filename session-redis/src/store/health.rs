use session_core::{StoreError, StoreErrorKind};

use crate::{Health, NodeHealth, RedisStore, info::Info};

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
    /// Of a cluster it is the health of the node that is worst off: one that evicts sessions comes before one
    /// that does not, and then the one whose memory is the fullest. [`health_of_nodes`](Self::health_of_nodes)
    /// tells all of them.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if Redis does not answer or refuses this client, of a cluster if one of the nodes
    /// does.
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

    /// Asks each server for its [health](Self::health), all at the same time: of a cluster the nodes that have
    /// slots, sorted by their addresses, otherwise the one.
    ///
    /// What one of them does not answer keeps nobody from hearing of the others.
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
                answer.map(|answer| self.watch().look(&name, Health::read(&Info::read(answer))));
            NodeHealth { name, health }
        });
        nodes.collect()
    }

    /// Checks what the server reports of itself, and that it runs scripts. Trouble that may pass is no error.
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

    /// Runs a script on keys that no session has, in two ways: `EVAL`, and `EVALSHA`.
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

/// The number of keys that are tried on a node of a cluster. If it has only half of the slots, all of them are in
/// that half once in 65,536 times.
const KEYS_OF_CLUSTER: usize = 16;
