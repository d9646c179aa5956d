use std::time::Duration;

use session_core::SessionError;
use tokio::time::sleep;

/// Walks over all sessions. If Redis is lost, begins again, a bounded number of times.
pub(crate) async fn walk<T>(
    mut walk: impl AsyncFnMut() -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    for _ in 0..MAX_LOSSES {
        match walk().await {
            Err(error) if error.is_retryable() => {
                eprintln!("warning: the walk over the sessions begins again: {error}");
                sleep(PAUSE).await;
            }
            result => return result,
        }
    }
    walk().await
}

/// The most losses of a walk. A failover takes a few seconds.
const MAX_LOSSES: usize = 10;

/// The time between two walks.
const PAUSE: Duration = Duration::from_secs(1);
