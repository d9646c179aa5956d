use std::{error::Error, fmt, sync::Arc, time::SystemTime};

use session_core::async_trait;

/// A provider of credentials, for passwords and tokens that change while the process runs.
///
/// The store calls the provider for each new connection. The store authenticates open connections
/// again before the credentials expire, and when the provider announces a change, while requests go
/// on. The type [`Credentials`] implements this trait for credentials that never change.
///
/// The trait is made async by the macro `session_core::async_trait`.
///
/// # Cancel safety
///
/// The store drops a call of [`credentials`](Self::credentials) that takes too long. While a
/// connection is set up, the limit is nine tenths of the [connect
/// timeout](crate::RedisConfig::with_connect_timeout), counted from the start of the attempt; for a
/// renewal the limit is the whole connect timeout. The store drops a call of
/// [`changed`](Self::changed) when the credentials are due or the connection ends. Each connection
/// calls both methods, concurrently with the others. A provider should therefore keep a token until
/// the token is due, rather than fetch a new token with each call.
///
/// # Examples
///
/// ```
/// use std::{error::Error, time::{Duration, SystemTime}};
/// use session_core::async_trait;
/// use session_redis::{Credentials, CredentialsProvider, RedisConfig};
///
/// struct Token;
///
/// #[async_trait]
/// impl CredentialsProvider for Token {
///     async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
///         let token = std::fs::read_to_string("/run/secrets/redis-token")?;
///         let an_hour = Duration::from_secs(60 * 60);
///         Ok(Credentials::new("sessions", token.trim()).with_expiry(SystemTime::now() + an_hour))
///     }
/// }
///
/// let config = RedisConfig::new("redis://127.0.0.1").with_credentials(Token);
/// # drop(config);
/// ```
#[async_trait]
pub trait CredentialsProvider: Send + Sync {
    /// Returns the credentials that are valid now.
    ///
    /// # Errors
    ///
    /// Returns an error if the provider has no credentials at the moment. The store logs the text
    /// of the error, and returns the error as the source of the failure of a request, so the text
    /// must not contain a secret.
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>>;

    /// Waits until [`credentials`](Self::credentials) returns other credentials than `current`. The
    /// default implementation waits forever.
    async fn changed(&self, current: &Credentials) {
        let _ = current;
        std::future::pending().await
    }
}

/// A user, a password or token, and the time of expiry.
///
/// `Debug` shows only the time of expiry.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    user: Option<String>,
    password: String,
    expires_at: Option<SystemTime>,
}

impl Credentials {
    /// Creates the credentials of a user.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), password: password.into(), expires_at: None }
    }

    /// Creates the credentials of the user `default` of Redis, from a password alone.
    #[must_use]
    pub fn from_password(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into(), expires_at: None }
    }

    /// Sets the time at which the server ends a connection that was authenticated with these
    /// credentials. By default the credentials never expire.
    ///
    /// The store authenticates the connection again shortly before: when a third of the remaining
    /// time is left, at most 5 minutes. Jitter adds up to a tenth to this margin.
    #[must_use]
    pub fn with_expiry(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// Returns `true` if a server cannot distinguish the two: user and password are equal.
    pub(crate) fn are_same(&self, other: &Self) -> bool {
        self.user == other.user && self.password == other.password
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

#[async_trait]
impl CredentialsProvider for Credentials {
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        Ok(self.clone())
    }
}

#[async_trait]
impl<P: CredentialsProvider + ?Sized> CredentialsProvider for Arc<P> {
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>> {
        (**self).credentials().await
    }

    async fn changed(&self, current: &Credentials) {
        (**self).changed(current).await;
    }
}

/// The reason why the provider returned no credentials. `Display` shows a fixed text without
/// secrets.
#[derive(Debug)]
pub(crate) enum NoCredentials {
    Failed(Box<dyn Error + Send + Sync>),
    Silent,
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(_) => "the provider of credentials failed",
            Self::Silent => "the provider of credentials did not answer in time",
        })
    }
}

impl Error for NoCredentials {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            Self::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_credentials() {
        let shown = format!("{:?}", Credentials::new("ada", "hunter2"));
        assert_eq!(shown, "Credentials { expires_at: None, .. }");
    }
}
