use std::{error::Error, fmt, sync::Arc, time::SystemTime};

use session_core::async_trait;

/// A source of credentials, for passwords and tokens that change while the process lives.
///
/// It is asked for each new connection. Connections that live are authenticated again before the
/// credentials expire, and when the provider announces a change. No request waits for either.
/// [`Credentials`] are themselves a provider, of what never changes.
///
/// The trait is async by the macro `session_core::async_trait`.
///
/// # Cancel safety
///
/// A call of [`credentials`](Self::credentials) is dropped if it takes longer than nine tenths of what
/// [a connection may](crate::RedisConfig::with_connect_timeout). Both methods are called concurrently, once
/// for each connection: a provider keeps a token until it is due, rather than fetch one with each call.
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
    /// Returns an error if there are none at the moment. It is the source of the error that a request meets,
    /// and its text is logged, so it must hold no secret.
    async fn credentials(&self) -> Result<Credentials, Box<dyn Error + Send + Sync>>;

    /// Waits until [`credentials`](Self::credentials) returns others than these. By default this is never.
    async fn changed(&self, current: &Credentials) {
        let _ = current;
        std::future::pending().await
    }
}

/// A user and a password or token, and how long they are good for.
///
/// `Debug` shows neither.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    user: Option<String>,
    password: String,
    expires_at: Option<SystemTime>,
}

impl Credentials {
    /// Makes the credentials of a user.
    #[must_use]
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), password: password.into(), expires_at: None }
    }

    /// Makes the credentials of Redis's user `default`, which need no more than a password.
    #[must_use]
    pub fn from_password(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into(), expires_at: None }
    }

    /// Sets when the server ends a connection that was authenticated with them. The default is never.
    ///
    /// The connection is authenticated again when a third of the remaining time is left, or 5 minutes if a third
    /// is longer.
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

    /// Returns `true` if a server takes one for the other.
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

/// Why there are no credentials. Holds none.
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
