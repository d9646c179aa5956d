use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};

/// Connects to a server that may be busy.
pub(super) async fn connect(url: &str) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(READY_WITHIN))
        .set_response_timeout(Some(READY_WITHIN));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// The time in which a server accepts a connection and replies.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);
