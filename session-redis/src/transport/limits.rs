//! The deadlines of operations, and the pauses before a repetition.

use std::time::Duration;

use session_core::StoreError;
use tokio::time::{Instant, sleep};

use crate::RedisConfig;

/// The timeouts, and the limits of the circuit breaker.
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
    /// Returns the deadline of an operation that changes nothing, a repetition included.
    pub(crate) fn deadline(self) -> Instant {
        Instant::now() + self.operation
    }

    /// Returns the deadline of one attempt at an operation that may change data.
    ///
    /// If the reply is lost, the session protocol repeats the operation. Both attempts and the
    /// pause between them fit in the time of one operation.
    pub(crate) fn deadline_of_each(self) -> Instant {
        Instant::now() + (self.operation - self.max_pause()) / 2
    }

    /// Waits for a random time before a repetition. All requests on a lost connection fail at the
    /// same instant, and would otherwise be repeated at the same instant.
    pub(crate) async fn pause(self) {
        sleep(self.max_pause().mul_f64(fastrand::f64())).await;
    }

    /// Pauses if a reply was lost, because the session protocol repeats the operation as soon as
    /// the error is returned.
    pub(crate) async fn pause_if_lost<'e>(self, errors: impl IntoIterator<Item = &'e StoreError>) {
        if errors.into_iter().any(StoreError::is_outcome_unknown) {
            self.pause().await;
        }
    }

    fn max_pause(self) -> Duration {
        MAX_PAUSE.min(self.operation / 20)
    }
}

/// The longest pause. Operations shorter than a second have a shorter limit, a twentieth of their
/// time.
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
