use std::time::Duration;

use session_core::ConfigError;

/// A cache of sessions in this process, for
/// [`RedisConfig::with_near_cache`](crate::RedisConfig::with_near_cache).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use session_redis::{NearCache, RedisConfig};
///
/// # fn main() -> Result<(), session_core::ConfigError> {
/// let cache = NearCache::default()
///     .with_capacity(256 * 1024 * 1024)?
///     .with_staleness(Duration::from_secs(1))?;
/// let config = RedisConfig::new("redis://127.0.0.1").with_near_cache(cache);
/// # drop(config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NearCache {
    pub(crate) capacity: u64,
    pub(crate) staleness: Duration,
}

impl NearCache {
    /// The least capacity, in bytes: 1 MiB.
    pub const MIN_CAPACITY: u64 = 1024 * 1024;

    /// The shortest staleness: 100 milliseconds.
    pub const MIN_STALENESS: Duration = Duration::from_millis(100);

    /// The longest staleness: 10 seconds. For this time after a write, the requests of the same
    /// client read the session from Redis, in every process.
    pub const MAX_STALENESS: Duration = Duration::from_secs(10);

    /// Sets the capacity in bytes, including bookkeeping. The default is 64 MiB. When the cache is
    /// full, the least recently used sessions are evicted first, to a precision of one second.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the capacity is less than [`MIN_CAPACITY`](Self::MIN_CAPACITY).
    pub fn with_capacity(mut self, bytes: u64) -> Result<Self, ConfigError> {
        if bytes < Self::MIN_CAPACITY {
            return Err(ConfigError::new(format!(
                "a near cache of {bytes} bytes is smaller than {} bytes",
                Self::MIN_CAPACITY
            )));
        }
        self.capacity = bytes;
        Ok(self)
    }

    /// Sets how long a copy may still be used after another process has changed the session. The
    /// default is 2 seconds.
    ///
    /// The limit matters only if the connection hangs. Over a working connection, the process
    /// learns of the change within the time of a message. Processes that share sessions may set
    /// different limits.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the span is not between [`MIN_STALENESS`](Self::MIN_STALENESS) and
    /// [`MAX_STALENESS`](Self::MAX_STALENESS).
    pub fn with_staleness(mut self, staleness: Duration) -> Result<Self, ConfigError> {
        if !(Self::MIN_STALENESS..=Self::MAX_STALENESS).contains(&staleness) {
            return Err(ConfigError::new(format!(
                "a staleness of {staleness:?} is not between {:?} and {:?}",
                Self::MIN_STALENESS,
                Self::MAX_STALENESS
            )));
        }
        self.staleness = staleness;
        Ok(self)
    }
}

impl Default for NearCache {
    fn default() -> Self {
        Self { capacity: 64 * 1024 * 1024, staleness: Duration::from_secs(2) }
    }
}

/// The statistics of a near cache since the store was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct NearCacheStats {
    /// Sessions that were opened from the cache, without a request to Redis.
    pub hits: u64,
    /// Sessions that had to be read from Redis, because the cache had no usable copy.
    pub misses: u64,
    /// Keys of sessions that Redis reported as changed, by this process too.
    pub invalidations: u64,
    /// How often all copies of a connection were dropped: because the connection was lost, because
    /// Redis was emptied, or because a node of a cluster turned out not to serve a key any more.
    pub flushes: u64,
    /// Sessions in the cache at the moment, and free places of sessions that were just changed.
    pub entries: u64,
    /// Bytes of these sessions and places, at most the capacity.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_quote_the_value() {
        let cache = NearCache::default;
        let error = cache().with_capacity(1000).unwrap_err();
        insta::assert_snapshot!(error, @"a near cache of 1000 bytes is smaller than 1048576 bytes");
        for staleness in [Duration::from_millis(99), Duration::from_millis(10_001)] {
            assert!(cache().with_staleness(staleness).is_err());
        }
        let error = cache().with_staleness(Duration::ZERO).unwrap_err();
        insta::assert_snapshot!(error, @"a staleness of 0ns is not between 100ms and 10s");
    }
}
