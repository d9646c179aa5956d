use std::{fmt, sync::Arc, time::Duration};

use session_core::ConfigError;

use crate::{credentials::CredentialsProvider, near_cache::Tracking};

/// Where Redis is, and how long to wait for it.
///
/// | Redis is | |
/// | --- | --- |
/// | one server, or a primary behind one address | [`new`](Self::new) |
#[cfg_attr(
    feature = "sentinel",
    doc = "| a primary with replicas, watched by Sentinel | [`sentinel`](Self::sentinel) |"
)]
#[cfg_attr(
    not(feature = "sentinel"),
    doc = "| a primary with replicas, watched by Sentinel | `sentinel`, with the feature `sentinel` |"
)]
#[cfg_attr(feature = "cluster", doc = "| a cluster | [`cluster`](Self::cluster) |")]
#[cfg_attr(not(feature = "cluster"), doc = "| a cluster | `cluster`, with the feature `cluster` |")]
///
/// A URL alone is a whole configuration, so [`RedisStore::connect`](crate::RedisStore::connect) takes
/// one as well:
///
/// | form of the URL | |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]` | TCP |
/// | `rediss://…` | TLS, with the feature `tls` |
/// | `unix:///path/to/socket[?db=database&user=user&pass=password]` | a Unix socket |
///
/// `Debug` shows neither a URL, which may hold a password, nor a password, nor a key.
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
    pub(crate) place: Place,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) credentials: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) database: Option<u32>,
    #[cfg(feature = "tls")]
    pub(crate) tls: crate::tls::TlsSettings,
    pub(crate) client_name: String,
    pub(crate) prefix: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) operation_timeout: Duration,
    pub(crate) max_failures: u32,
    pub(crate) max_waiting: usize,
    /// How many, and how long they are waited for.
    pub(crate) revocation_replicas: Option<(u32, Duration)>,
    #[cfg(feature = "near-cache")]
    pub(crate) near_cache: Option<crate::NearCache>,
}

/// Where to look for the servers that hold sessions.
#[derive(Clone)]
pub(crate) enum Place {
    Server(String),
    #[cfg(feature = "sentinel")]
    Sentinel {
        sentinels: Vec<String>,
        primary: String,
        /// Whether the servers are spoken to by TLS. Without it, if a sentinel is.
        tls: Option<bool>,
    },
    #[cfg(feature = "cluster")]
    Cluster(Vec<String>),
}

impl Place {
    pub(crate) fn is_cluster(&self) -> bool {
        match self {
            Self::Server(_) => false,
            #[cfg(feature = "sentinel")]
            Self::Sentinel { .. } => false,
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => true,
        }
    }
}

impl RedisConfig {
    /// The longest prefix of a key, in bytes.
    pub const MAX_PREFIX: usize = 64;

    /// The longest name of a client, in bytes.
    pub const MAX_CLIENT_NAME: usize = 64;

    /// Makes a configuration for the server at this URL. It is checked when the store connects.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::at(Place::Server(url.into()))
    }

    /// Makes a configuration for the server that these sentinels call the primary of this name
    /// (`mymaster` in most examples), whichever it is at the time.
    ///
    /// Each is named by a URL of its own, with a user and a password if the sentinels want them; what the
    /// primary wants is said by [`with_user`](Self::with_user), [`with_password`](Self::with_password)
    /// and [`with_database`](Self::with_database). The primary is spoken to by TLS if a sentinel is,
    /// unless `with_primary_tls` sets otherwise. One sentinel that answers is enough, so name all of them. It
    /// is checked when the store connects.
    ///
    /// When the connection is lost, or turns out to lead to a replica, the sentinels are asked again:
    /// immediately, and then at most three times a second while commands come. The announcement of a failover
    /// by a sentinel has the same effect.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_redis::RedisConfig;
    ///
    /// let sentinels = ["redis://s1:26379", "redis://s2:26379", "redis://s3:26379"];
    /// let config = RedisConfig::sentinel(sentinels, "mymaster").with_password("secret");
    /// # drop(config);
    /// ```
    #[cfg(feature = "sentinel")]
    #[must_use]
    pub fn sentinel(
        sentinels: impl IntoIterator<Item = impl Into<String>>,
        primary: impl Into<String>,
    ) -> Self {
        let sentinels = sentinels.into_iter().map(Into::into).collect();
        Self::at(Place::Sentinel { sentinels, primary: primary.into(), tls: None })
    }

    /// Makes a configuration for the cluster that these nodes belong to.
    ///
    /// One that answers is enough and tells all others, so name a few. User, password and TLS are the same
    /// for all nodes: those of the first URL, or of [`with_user`](Self::with_user) and its like. It is
    /// checked when the store connects.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_redis::RedisConfig;
    ///
    /// let config = RedisConfig::cluster(["redis://n1", "redis://n2"]).with_password("secret");
    /// # drop(config);
    /// ```
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn cluster(nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::at(Place::Cluster(nodes.into_iter().map(Into::into).collect()))
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            user: None,
            password: None,
            credentials: None,
            database: None,
            #[cfg(feature = "tls")]
            tls: crate::tls::TlsSettings::default(),
            client_name: env!("CARGO_PKG_NAME").to_owned(),
            prefix: "session:".to_owned(),
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_millis(500),
            operation_timeout: Duration::from_secs(1),
            max_failures: 5,
            max_waiting: 4_096,
            revocation_replicas: None,
            #[cfg(feature = "near-cache")]
            near_cache: None,
        }
    }

    /// Sets the name of the user at the servers that hold sessions, in place of the URL's. The default is
    /// Redis's user `default`.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password at the servers that hold sessions, in place of the URL's, as it is: without
    /// %-codes. The default is none.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the source of user and password at the servers that hold sessions, in place of what the URL,
    /// [`with_user`](Self::with_user) and [`with_password`](Self::with_password) say.
    ///
    /// It is asked for each new connection, and those that live are authenticated again when it has others.
    #[must_use]
    pub fn with_credentials(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.credentials = Some(Arc::new(provider));
        self
    }

    /// Sets the number of the database, in place of the URL's. The default is 0. Most clusters have no other;
    /// those of Valkey 9 may.
    #[must_use]
    pub fn with_database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Sets the authorities whose certificates servers may have, in PEM format, in place of those that
    /// the system knows. For `rediss://`; read when the store connects.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_root_certificate(mut self, certificate_pem: impl Into<Vec<u8>>) -> Self {
        self.tls.root_certificates = Some(certificate_pem.into());
        self
    }

    /// Sets the certificate that this client shows to servers, and its private key, in PEM format. The
    /// default is none. For `rediss://`; read when the store connects.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.tls.client_certificate = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Sets the whole client side of TLS, in place of the certificates that the other methods take. For
    /// `rediss://`.
    ///
    /// Its resolvers and verifiers are asked with each new connection, so certificates change while the
    /// process lives if they say so. The cryptography is that of the configuration.
    ///
    /// # Security
    ///
    /// A server is as trustworthy as the verifier of this configuration makes it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls_config(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.tls.config = Some(config.into());
        self
    }

    /// Sets the host name or IP address in the certificates of all servers. For `rediss://`. The default is
    /// the host under which a server is reached: that of the URL, or what a cluster or a sentinel calls it.
    ///
    /// Clusters and sentinels often name servers by IP address, while the certificate names a host.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Sets whether the servers that sentinels name are spoken to by TLS. The default is `true` if the URL of a
    /// sentinel begins with `rediss://`, and otherwise `false`. Without sentinels this has no effect.
    #[cfg(all(feature = "sentinel", feature = "tls"))]
    #[must_use]
    pub fn with_primary_tls(mut self, is_on: bool) -> Self {
        if let Place::Sentinel { tls, .. } = &mut self.place {
            *tls = Some(is_on);
        }
        self
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

    /// Sets the name by which the servers that hold sessions list the connections of this store ([`CLIENT
    /// LIST`](https://redis.io/docs/latest/commands/client-setname/)). The default is `session-redis`.
    ///
    /// A server that does not know or permit `CLIENT SETNAME` lists the connections without a name.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the name is empty or longer than [`MAX_CLIENT_NAME`](Self::MAX_CLIENT_NAME)
    /// bytes, or if a character is not what Redis allows: printable ASCII without spaces, `!` to `~`.
    pub fn with_client_name(mut self, name: impl Into<String>) -> Result<Self, ConfigError> {
        let name = name.into();
        if !(1..=Self::MAX_CLIENT_NAME).contains(&name.len()) {
            return Err(ConfigError::new(format!(
                "the client name {name:?} does not have 1 to {} bytes",
                Self::MAX_CLIENT_NAME
            )));
        }
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ConfigError::new(format!(
                "the client name {name:?} has a character that is not printable ASCII, or a space"
            )));
        }
        self.client_name = name;
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
    /// milliseconds. A command that may change something has no more than its share of the
    /// [operation's time](Self::with_operation_timeout).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_response_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.response_timeout = checked("response timeout", timeout)?;
        Ok(self)
    }

    /// Sets how long one operation on the store may take in all, its repetition included. The default is 1
    /// second.
    ///
    /// What only reads has all of it. What may change something has half of it each time, less a pause: if the
    /// answer is lost, the protocol asks once more. The pause before that is by chance, up to a twentieth of the
    /// operation's time and at most 50 milliseconds. So a commit has two times 475 milliseconds by default.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_operation_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.operation_timeout = checked("operation timeout", timeout)?;
        Ok(self)
    }

    /// Sets after how many commands in a row without an answer requests no longer wait for Redis: from then
    /// on one at a time is sent, and the others fail at once, until one is answered. The default is 5.
    ///
    /// A failure is an answer that does not come in time, or a connection that cannot be set up, whatever the
    /// reason. What Redis answers is an answer, also an error. A connection that is lost says nothing either
    /// way. A connection that is silent for so many commands is replaced.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the number is zero or more than a million.
    pub fn with_max_failures(mut self, commands: u32) -> Result<Self, ConfigError> {
        if !(1..=1_000_000).contains(&commands) {
            return Err(ConfigError::new(format!(
                "{commands} commands without an answer are not between 1 and a million"
            )));
        }
        self.max_failures = commands;
        Ok(self)
    }

    /// Sets how many commands may wait for Redis at once; more of them fail at once, so that a Redis that
    /// stands still does not fill the memory. The default is 4,096: what comes in while Redis stands still
    /// for 400 milliseconds, at 10,000 commands per second.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the number is zero or more than a million.
    pub fn with_max_waiting(mut self, commands: usize) -> Result<Self, ConfigError> {
        if !(1..=1_000_000).contains(&commands) {
            return Err(ConfigError::new(format!(
                "{commands} commands that wait are not between 1 and a million"
            )));
        }
        self.max_waiting = commands;
        Ok(self)
    }

    /// Makes whatever ends a session (a logout, an end from elsewhere, the end of the former ID at a login or
    /// a renewal) wait until so many replicas have confirmed it, at most for this time, so that a failover to
    /// one of them does not bring the session back. By default no replica is waited for.
    ///
    /// The time is counted in milliseconds, rounded up. If it passes, the session is ended, but the answer is
    /// an error: [`Unreplicated`](session_core::StoreErrorKind::Unreplicated), a 503. The protocol has asked
    /// once more by then. What is asked for while others wait is sent when they are done, and waits together:
    /// so with a replica missing an operation takes up to four times this.
    ///
    /// It takes a connection of its own, and the commands `WAIT` and `PUBLISH`, on the channel `{prefix}wait`. A
    /// cluster is refused: there each primary has replicas of its own.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the number of replicas is not 1 to 100, or the time is zero or longer than
    /// a minute.
    pub fn with_revocation_replicas(
        mut self,
        replicas: u32,
        timeout: Duration,
    ) -> Result<Self, ConfigError> {
        if !(1..=100).contains(&replicas) {
            return Err(ConfigError::new(format!("{replicas} replicas are not between 1 and 100")));
        }
        self.revocation_replicas = Some((replicas, checked("wait for replicas", timeout)?));
        Ok(self)
    }

    /// Keeps sessions that were read in this process, so that reading one again asks Redis nothing. Redis tells what
    /// others change (RESP3, `CLIENT TRACKING`); if it does not, that is said once (`tracing`, target `session`) and
    /// sessions are read from it as ever. By default no session is kept.
    ///
    /// What a client wrote it reads back through any process. What is changed otherwise, the end of a session too, is
    /// seen by the other processes within the time of a message, and within
    /// [`with_staleness`](crate::NearCache::with_staleness) if the connection hangs.
    ///
    /// It takes the command `CLIENT TRACKING`.
    #[cfg(feature = "near-cache")]
    #[must_use]
    pub fn with_near_cache(mut self, cache: crate::NearCache) -> Self {
        self.near_cache = Some(cache);
        self
    }

    /// What tracks the connections for the near cache.
    #[cfg(feature = "near-cache")]
    pub(crate) fn tracking(&self) -> Tracking {
        let new = |cache| Tracking::new(cache, self.key_prefix());
        self.near_cache.map(new).unwrap_or_default()
    }

    #[cfg(not(feature = "near-cache"))]
    pub(crate) fn tracking(&self) -> Tracking {
        Tracking::default()
    }

    /// What the keys of sessions begin with.
    pub(crate) fn key_prefix(&self) -> String {
        format!("{}s:", self.prefix)
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
        let mut shown = f.debug_struct("RedisConfig");
        shown
            .field("prefix", &self.prefix)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("max_failures", &self.max_failures)
            .field("max_waiting", &self.max_waiting)
            .field("revocation_replicas", &self.revocation_replicas);
        #[cfg(feature = "near-cache")]
        if let Some(near_cache) = &self.near_cache {
            shown.field("near_cache", near_cache);
        }
        shown.finish_non_exhaustive()
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
        let config = RedisConfig::new("redis://:secret@host").with_password("secret");
        insta::assert_snapshot!(
            format!("{config:?}"),
            @r#"RedisConfig { prefix: "session:", connect_timeout: 1s, response_timeout: 500ms, operation_timeout: 1s, max_failures: 5, max_waiting: 4096, revocation_replicas: None, .. }"#
        );
    }

    #[test]
    fn errors_quote_the_value() {
        let config = || RedisConfig::new("redis://host");
        let error = config().with_response_timeout(Duration::ZERO).unwrap_err();
        insta::assert_snapshot!(error, @"the response timeout is zero");
        let error = config().with_connect_timeout(Duration::from_secs(61)).unwrap_err();
        insta::assert_snapshot!(error, @"the connect timeout of 61s is longer than a minute");
        let error = config().with_max_failures(0).unwrap_err();
        insta::assert_snapshot!(error, @"0 commands without an answer are not between 1 and a million");
        let error = config().with_max_waiting(1_000_001).unwrap_err();
        insta::assert_snapshot!(error, @"1000001 commands that wait are not between 1 and a million");
        let second = Duration::from_secs(1);
        let error = config().with_revocation_replicas(0, second).unwrap_err();
        insta::assert_snapshot!(error, @"0 replicas are not between 1 and 100");
        let error = config().with_revocation_replicas(1, Duration::ZERO).unwrap_err();
        insta::assert_snapshot!(error, @"the wait for replicas is zero");
        let error = config().with_client_name("").unwrap_err();
        insta::assert_snapshot!(error, @r#"the client name "" does not have 1 to 64 bytes"#);
        let error = config().with_client_name("my shop").unwrap_err();
        insta::assert_snapshot!(error, @r#"the client name "my shop" has a character that is not printable ASCII, or a space"#);
        assert!(config().with_client_name("x".repeat(65)).is_err());
        assert!(config().with_client_name("~shop!").is_ok());
        let error = config().with_prefix("x".repeat(65)).unwrap_err();
        assert!(error.to_string().contains("is longer than 64 bytes"));
    }
}
