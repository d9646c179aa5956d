use std::{fmt, sync::Arc, time::Duration};

use session_core::ConfigError;

use crate::{credentials::CredentialsProvider, tracking::Tracking};

/// The address of Redis, the credentials, and the time limits of a store.
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
/// A URL alone is a complete configuration, and [`RedisStore::connect`](crate::RedisStore::connect)
/// accepts a URL directly:
///
/// | form of the URL | |
/// | --- | --- |
/// | `redis://[user:password@]host[:port][/database]`, `valkey://…` | TCP |
/// | `rediss://…`, `valkeys://…` | TLS, with the feature `tls` |
/// | `unix:///path/to/socket[?db=database&user=user&pass=password]` | a Unix socket |
///
/// `Debug` omits URLs, which may hold a password, and also omits passwords and private keys.
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
    /// The number of replicas, and the time to wait for their confirmation.
    pub(crate) revocation_replicas: Option<(u32, Duration)>,
    #[cfg(feature = "near-cache")]
    pub(crate) near_cache: Option<crate::NearCache>,
}

/// The addresses at which the store looks for the servers that hold sessions.
#[derive(Clone)]
pub(crate) enum Place {
    Server(String),
    #[cfg(feature = "sentinel")]
    Sentinel {
        sentinels: Vec<String>,
        primary: String,
        /// `Some(true)` if the connections to the primary use TLS. `None` means: if the URL of a
        /// sentinel does.
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

    /// Creates a configuration for the server at a URL. The URL is checked when the store connects.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::at(Place::Server(url.into()))
    }

    /// Creates a configuration for a primary that Sentinel watches. `primary` is the name of the
    /// primary at the sentinels (`mymaster` in most examples), and the store follows each failover.
    ///
    /// Each sentinel has a URL, with a user and a password if the sentinel requires authentication.
    /// The user, the password and the database of the primary are set by
    /// [`with_user`](Self::with_user), [`with_password`](Self::with_password) and
    /// [`with_database`](Self::with_database). The connection to the primary uses TLS if the URL of
    /// a sentinel does, unless `with_primary_tls` sets otherwise. Name all sentinels: a single
    /// reply is enough. The URLs are checked when the store connects.
    ///
    /// If the connection is lost, or leads to a replica, the store asks the sentinels again while
    /// commands arrive: immediately, and then with a back-off, at most five times in the first
    /// second and three times in each later second. The announcement of a failover by a sentinel
    /// has the same effect.
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

    /// Creates a configuration for the cluster to which these nodes belong.
    ///
    /// The reply of a single node is enough and names all other nodes, so name a few. All nodes
    /// share the user, the password and the TLS settings: those of the first URL, or of
    /// [`with_user`](Self::with_user) and the similar methods. The URLs are checked when the store
    /// connects.
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

    /// Sets the name of the user at the servers that hold sessions, in place of the user in the
    /// URL. The default is the user `default` of Redis.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the password at the servers that hold sessions, in place of the password in the URL.
    /// The password is sent as given, without decoding of %-codes. By default the store uses the
    /// password of the URL, if any.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets a provider of the user and the password at the servers that hold sessions. The provider
    /// takes precedence over the URL, [`with_user`](Self::with_user) and
    /// [`with_password`](Self::with_password).
    ///
    /// The store asks the provider for each new connection, and authenticates open connections
    /// again when the provider has new credentials.
    #[must_use]
    pub fn with_credentials(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.credentials = Some(Arc::new(provider));
        self
    }

    /// Sets the number of the database, in place of the number in the URL. The default is 0. Most
    /// clusters have only database 0; clusters of Valkey 9 may have more.
    #[must_use]
    pub fn with_database(mut self, database: u32) -> Self {
        self.database = Some(database);
        self
    }

    /// Sets the certificate authorities that the store trusts, in PEM format, in place of the
    /// authorities that the system trusts. Used with `rediss://`, and read when the store connects.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_root_certificate(mut self, certificate_pem: impl Into<Vec<u8>>) -> Self {
        self.tls.root_certificates = Some(certificate_pem.into());
        self
    }

    /// Sets the certificate with which the store authenticates itself to servers, and the private
    /// key, in PEM format. By default the store sends no certificate. Used with `rediss://`, and
    /// read when the store connects.
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

    /// Sets the complete TLS configuration of the client, in place of the certificates of the other
    /// methods. Used with `rediss://`.
    ///
    /// rustls asks the resolvers and verifiers of the configuration for each new connection, so
    /// they can change certificates while the process runs. The configuration also brings the
    /// cryptography.
    ///
    /// # Security
    ///
    /// The verifier of this configuration alone decides which servers the store trusts.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls_config(mut self, config: impl Into<Arc<rustls::ClientConfig>>) -> Self {
        self.tls.config = Some(config.into());
        self
    }

    /// Sets the host name or IP address that the certificates of all servers must name. Used with
    /// `rediss://`. By default each certificate must name the host to which the store connects: the
    /// host of the URL, or the host that a cluster or a sentinel reports.
    ///
    /// Clusters and sentinels often report the IP address of a server, while the certificate has a
    /// host name.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls_server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// Sets whether connections to the primary that sentinels report use TLS. The default is `true`
    /// if the URL of a sentinel begins with `rediss://`, and otherwise `false`. Without sentinels
    /// this setting has no effect.
    #[cfg(all(feature = "sentinel", feature = "tls"))]
    #[must_use]
    pub fn with_primary_tls(mut self, is_on: bool) -> Self {
        if let Place::Sentinel { tls, .. } = &mut self.place {
            *tls = Some(is_on);
        }
        self
    }

    /// Sets the prefix of all keys in Redis. The default is `session:`. Applications that share a
    /// database must use different prefixes, unless they share their sessions.
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

    /// Sets the name of the connections of this store in the list of a server ([`CLIENT
    /// LIST`](https://redis.io/docs/latest/commands/client-setname/)). The default is
    /// `session-redis`.
    ///
    /// A server that does not know or permit `CLIENT SETNAME` lists the connections without a name.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the name is empty or longer than
    /// [`MAX_CLIENT_NAME`](Self::MAX_CLIENT_NAME) bytes, or has a character that Redis refuses.
    /// Redis permits printable ASCII without spaces, `!` to `~`.
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

    /// Sets the time limit for setting up a connection. The default is 1 second.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = checked("connect timeout", timeout)?;
        Ok(self)
    }

    /// Sets the time limit for a command, including the wait for a connection. The default is 500
    /// milliseconds. A command that may change data also ends with its share of the [time of the
    /// operation](Self::with_operation_timeout).
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_response_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.response_timeout = checked("response timeout", timeout)?;
        Ok(self)
    }

    /// Sets the time limit for an operation on the store, including its repetition. The default is
    /// 1 second.
    ///
    /// An operation that only reads may use the whole time. If the reply to a change is lost, the
    /// session protocol repeats the change once, so each of the two attempts may use half of the
    /// time, less a pause. The pause between the attempts is random: at most a twentieth of the
    /// time and at most 50 milliseconds. By default each of the two attempts of a commit may take
    /// 475 milliseconds.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the time is zero or longer than a minute.
    pub fn with_operation_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.operation_timeout = checked("operation timeout", timeout)?;
        Ok(self)
    }

    /// Sets the number of consecutive failures that open the circuit breaker. While the breaker is
    /// open, the store sends one command at a time, and all others fail immediately, until Redis
    /// replies. The default is 5.
    ///
    /// A command fails if its reply does not come in time, or if no connection can be set up, for
    /// any reason. An error that Redis sends is a reply. A lost connection does not count either
    /// way. If the breaker is open, a command has timed out, and the connection has received
    /// nothing for twice the response timeout, the store replaces the connection.
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

    /// Sets how many commands may wait for Redis concurrently. Further commands fail immediately,
    /// so that a stalled Redis does not fill the memory of the process. The default is 4,096: at
    /// 10,000 commands per second, the commands of a stall of 400 milliseconds.
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

    /// Makes each operation that ends a session wait until so many replicas have confirmed the end,
    /// so that the session stays ended after a failover to one of these replicas. The operations
    /// are a logout, a revocation from elsewhere, and the end of the former ID at a login or a
    /// renewal. By default the store waits for no replica.
    ///
    /// The time limit is counted in milliseconds, rounded up. If the time passes, the session has
    /// ended on the primary, but the operation fails with
    /// [`Unreplicated`](session_core::StoreErrorKind::Unreplicated), a 503, after one repetition.
    /// Operations that arrive during a wait are sent when the wait ends, and share the next wait.
    /// If a replica is missing, an operation therefore takes up to four times this time.
    ///
    /// The waits need a connection of their own, and the commands `WAIT` and `PUBLISH`, on the
    /// channel `{prefix}wait`. The store refuses this setting for a cluster, where each primary has
    /// its own replicas.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] if the number of replicas is not between 1 and 100, or if the time
    /// is zero or longer than a minute.
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

    /// Keeps a copy of each session that this process reads, so that the next read needs no request
    /// to Redis. Redis reports changes by other clients (RESP3, `CLIENT TRACKING`). If a server
    /// does not, the store logs one warning (`tracing`, target `session`) and reads all sessions
    /// from that server. By default the store keeps no copies.
    ///
    /// A client reads its own writes through any process. All other changes, including the end of a
    /// session, reach the other processes within the time of a message, or within
    /// [`with_staleness`](crate::NearCache::with_staleness) if the connection hangs.
    ///
    /// The near cache needs the command `CLIENT TRACKING`.
    #[cfg(feature = "near-cache")]
    #[must_use]
    pub fn with_near_cache(mut self, cache: crate::NearCache) -> Self {
        self.near_cache = Some(cache);
        self
    }

    /// Returns the tracking of connections for the near cache.
    #[cfg(feature = "near-cache")]
    pub(crate) fn tracking(&self) -> Tracking {
        let Some(cache) = self.near_cache else { return Tracking::default() };
        let copies = crate::near_cache::Copies::new(cache);
        Tracking::new(copies, self.key_prefix(), "sessions read from it are not cached")
    }

    #[cfg(not(feature = "near-cache"))]
    pub(crate) fn tracking(&self) -> Tracking {
        Tracking::default()
    }

    /// Returns the prefix of the keys of sessions.
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
