use std::sync::OnceLock;

use redis::{Cmd, Value};
use session_core::{SessionKey, StoreError, Watch};

use crate::{RedisConfig, near_cache::Copies, tracking::Tracking, transport::Connection};

/// The connection over which live connections load their sessions, so that Redis reports each
/// change. Opened at the first load. A store with a near cache needs no such connection.
///
/// The connection only speeds the news up: if it fails, the store loads over its main connection.
pub(crate) struct WatchConnection {
    config: RedisConfig,
    tracking: Tracking,
    connection: OnceLock<Connection>,
}

impl WatchConnection {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        let without_reports = "live connections learn of the end of a session by polling";
        let key_prefix = config.key_prefix();
        Self {
            config: config.clone(),
            tracking: Tracking::new(Copies::default(), key_prefix, without_reports),
            connection: OnceLock::new(),
        }
    }

    /// Watches a key and loads it. Returns `None` if the connection fails.
    pub(crate) async fn load(&self, key: &SessionKey, get: &Cmd) -> Option<(Value, Option<Watch>)> {
        let watch = self.tracking.watchers().map(|watchers| watchers.watch(key));
        let loaded = async { self.connection()?.read(get).await };
        match loaded.await {
            Ok(value) => Some((value, watch)),
            Err(error) => {
                tracing::debug!(target: "session", %key, %error, "session not watched");
                None
            }
        }
    }

    fn connection(&self) -> Result<&Connection, StoreError> {
        match self.connection.get() {
            Some(connection) => Ok(connection),
            None => {
                let connection = Connection::new(&self.config, &self.tracking)?;
                Ok(self.connection.get_or_init(|| connection))
            }
        }
    }
}
