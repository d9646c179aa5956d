use std::sync::OnceLock;

use redis::Cmd;
use session_core::{SessionKey, StoreError, Watch};

use crate::{RedisConfig, near_cache::Copies, tracking::Tracking, transport::Connection};

/// The connection over which Redis reports the changes of the sessions of live connections. Opened
/// at the first load. A store with a near cache needs no such connection.
///
/// The connection only reports. The main connection loads the sessions, because it notices a server
/// that has become a replica: that server refuses its writes.
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

    /// Watches a key by a read of it. Returns `None` if the read fails. If the server does not report
    /// changes, the watch never completes, and the caller loads at the end of each interval.
    pub(crate) async fn watch(&self, key: &SessionKey, read: &Cmd) -> Option<Watch> {
        let watch = self.tracking.watchers()?.watch(key);
        let tracked = async { self.connection()?.read(read).await };
        match tracked.await {
            Ok(_) => Some(watch),
            Err(error) => {
                tracing::debug!(target: "session", %error, session.id = %key, "session not watched");
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
