use std::{fmt, time::Duration};

use session_core::ConfigError;

/// Where Redis is, and how long to wait for it.
///
/// A URL alone is a whole configuration, so [`RedisStore::connect`](crate::RedisStore::connect) takes
/// one as well:
///
/// | form of the URL | |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | TCP |
/// | `rediss://…` | TLS, with the feature `tls` |
/// | `unix:///path/to/socket[?db=database]` | a Unix socket |
///
/// `Debug` does not show the URL, which may hold a password.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use session_redis::RedisConfig;
///
/// # fn main() -> Result<(), session_core::ConfigError> {
/// let config = RedisConfig::new("redis://127.0.0.1")
///     .with_prefix("shop:")?
///     .with_response_timeout(Duration::from_millis(200))?;
/// # drop(config);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) url: String,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) operation_timeout: Duration,
}

impl RedisConfig {
    /// The longest prefix of a key, in bytes.
    pub const MAX_PREFIX: usize = 64;

    /// Makes a configuration for the server at this URL. It is checked when the store connects.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "session:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_millis(500),
            operation_timeout: Duration::from_secs(1),
        }
    }

    /// Sets what the keys in Redis begin with. The default is `session:`. Applications that share a
    /// database must use different ones, unless they share their sessions.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the prefix is longer than [`MAX_PREFIX`](Self::MAX_PREFIX) bytes.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Result<Self, ConfigError> {
        let prefix = prefix.into();
        if prefix.len() > Self::MAX_PREFIX {
            return Err(ConfigError::new(format!(
                "the prefix {prefix:?} is longer than {} bytes",
                Self::MAX_PREFIX
            )));
        }
        self.prefix = prefix;
        Ok(self)
    }

    /// Sets how long setting up a connection may take. The default is 1 second.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = checked("connect timeout", timeout)?;
        Ok(self)
    }

    /// Sets how long one command may take, the wait for a connection included. The default is 500
    /// milliseconds.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_response_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.response_timeout = checked("response timeout", timeout)?;
        Ok(self)
    }

    /// Sets how long one operation of the store may take in all: a command, and the one more that is
    /// sent where the first certainly did nothing. The default is 1 second.
    ///
    /// A commit or a deletion whose answer was lost is an operation that is asked for once more.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_operation_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.operation_timeout = checked("operation timeout", timeout)?;
        Ok(self)
    }
}

impl From<&str> for RedisConfig {
    fn from(url: &str) -> Self {
        Self::new(url)
    }
}

impl From<String> for RedisConfig {
    fn from(url: String) -> Self {
        Self::new(url)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .finish_non_exhaustive()
    }
}

fn checked(what: &str, timeout: Duration) -> Result<Duration, ConfigError> {
    if timeout.is_zero() {
        return Err(ConfigError::new(format!("the {what} is zero")));
    }
    if timeout > MAX_TIMEOUT {
        return Err(ConfigError::new(format!("the {what} of {timeout:?} is longer than a minute")));
    }
    Ok(timeout)
}

const MAX_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_url() {
        let config = RedisConfig::new("redis://:secret@host");
        insta::assert_snapshot!(
            format!("{config:?}"),
            @r#"RedisConfig { prefix: "session:", connect_timeout: 1s, response_timeout: 500ms, operation_timeout: 1s, .. }"#
        );
    }

    #[test]
    fn errors_quote_the_value() {
        let config = || RedisConfig::new("redis://host");
        let error = config().with_response_timeout(Duration::ZERO).unwrap_err();
        insta::assert_snapshot!(error, @"the response timeout is zero");
        let error = config().with_connect_timeout(Duration::from_secs(61)).unwrap_err();
        insta::assert_snapshot!(error, @"the connect timeout of 61s is longer than a minute");
        let error = config().with_prefix("x".repeat(65)).unwrap_err();
        assert!(error.to_string().contains("is longer than 64 bytes"));
    }
}
