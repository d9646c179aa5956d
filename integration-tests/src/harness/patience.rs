//! Time limits for tests whose subject is not a time limit.

use std::time::Duration;

use session_redis::RedisConfig;
use tokio::time::{Instant, sleep};

/// The time for which a server waits for a reply of Redis, except in tests about such waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the settings with this time limit for connections and commands, and twice the limit for
/// operations.
///
/// With the default limits, a server returns 503 if the machine stands still for half a second, as under
/// load.
///
/// # Panics
///
/// If the time is zero, or longer than half a minute.
#[must_use]
pub fn redis_config(config: impl Into<RedisConfig>, patience: Duration) -> RedisConfig {
    config
        .into()
        .with_connect_timeout(patience)
        .and_then(|config| config.with_response_timeout(patience))
        .and_then(|config| config.with_operation_timeout(2 * patience))
        .expect("a time up to half a minute")
}

/// Waits until a condition holds, at most half a minute.
///
/// # Panics
///
/// If the condition does not hold by then.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(30), what, holds).await;
}

/// Like [`until`], with another limit.
pub(crate) async fn until_within(
    limit: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> bool,
) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
