//! How much time there is for something that may be asked for once more, and when that is done.

use std::time::Duration;

use session_core::StoreError;
use tokio::time::{Instant, sleep};

use crate::RedisConfig;

/// How long things may take, and how much may come to nothing or wait.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) operation: Duration,
    pub(crate) failures: u32,
    pub(crate) waiting: usize,
}

impl Limits {
    pub(crate) fn of(config: &RedisConfig) -> Self {
        Self {
            connect: config.connect_timeout,
            response: config.response_timeout,
            operation: config.operation_timeout,
            failures: config.max_failures,
            waiting: config.max_waiting,
        }
    }
}

impl Limits {
    /// When the answer to what changes nothing must be there, be it that of its repetition.
    pub(crate) fn deadline(self) -> Instant {
        Instant::now() + self.operation
    }

    /// When the answer to what may change something must be there.
    ///
    /// If it is lost, the protocol asks once more: both and the pause between them are one operation.
    pub(crate) fn deadline_of_each(self) -> Instant {
        Instant::now() + (self.operation - self.max_pause()) / 2
    }

    /// Waits for a moment by chance, before something is asked for once more: what was lost with a connection was
    /// lost for all who waited at the same instant, and would come back at the same instant.
    pub(crate) async fn pause(self) {
        sleep(self.max_pause().mul_f64(fastrand::f64())).await;
    }

    /// Pauses if an answer was lost, for the protocol asks again as soon as it hears of that.
    pub(crate) async fn pause_if_lost<'e>(self, errors: impl IntoIterator<Item = &'e StoreError>) {
        if errors.into_iter().any(StoreError::is_outcome_unknown) {
            self.pause().await;
        }
    }

    fn max_pause(self) -> Duration {
        MAX_PAUSE.min(self.operation / 20)
    }
}

/// The longest pause, if operations have the time.
const MAX_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedisConfig;

    fn limits(operation: Duration) -> Limits {
        Limits::of(&RedisConfig::new("redis://host").with_operation_timeout(operation).unwrap())
    }

    #[test]
    fn both_attempts_and_the_pause_fit_in_the_time_of_an_operation() {
        for operation in [1, 10, 999, 1_000, 1_001, 20_000, 60_000].map(Duration::from_millis) {
            let limits = limits(operation);
            let before = Instant::now();
            let each = limits.deadline_of_each();
            let taken = before.elapsed();
            assert!(2 * (each - before - taken) + limits.max_pause() <= operation, "{operation:?}");
            assert!(each - before >= operation * 47 / 100, "{operation:?}");
        }
        assert_eq!(limits(Duration::from_secs(1)).max_pause(), MAX_PAUSE);
        assert_eq!(limits(Duration::from_secs(60)).max_pause(), MAX_PAUSE);
    }
}
