//! Time limits for tests that are not about time limits.

use std::time::Duration;

use session_redis::RedisConfig;
use tokio::time::{Instant, sleep};

/// How long a story's server waits for an answer of Redis, unless the story is about such waits.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Settings of a store whose commands may take so long, connections too, and operations twice that.
///
/// The defaults answer 503 where the machine stands still for half a second, as one under load does.
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
/// If it does not hold by then.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(30), what, holds).await;
}

/// The same with another limit.
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
