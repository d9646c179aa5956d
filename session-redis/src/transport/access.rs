use std::{sync::Arc, time::Duration};

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};

#[cfg(feature = "tls")]
use crate::tls::TlsClient;
use crate::{
    RedisConfig,
    config::Place,
    credentials::{Credentials, CredentialsProvider},
    error::ConnectError,
    transport::client_name::ClientName,
};

/// The settings that the connections to all servers share.
#[derive(Clone)]
pub(crate) struct Access {
    config: RedisConfig,
    /// Shared by all servers, because the same proxy may stand before each server.
    client_name: ClientName,
    /// Created once, because the certificates that the system trusts are read from disk. `None` if
    /// TLS is not used.
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
}

impl Access {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, ConnectError> {
        #[cfg(feature = "tls")]
        let tls = if config.place.uses_tls() {
            Some(config.tls.client()?)
        } else if config.tls.are_given() {
            return Err(ConnectError::misconfigured(
                "there are settings of TLS, and no server is spoken to by TLS: \
                 the scheme for that is `rediss`",
            ));
        } else {
            None
        };
        Ok(Self {
            config: config.clone(),
            client_name: ClientName::new(&config.client_name),
            #[cfg(feature = "tls")]
            tls,
        })
    }

    /// Returns the server at a URL. User, password and database of the configuration override those
    /// of the URL.
    pub(crate) fn endpoint_at(&self, url: &str) -> Result<Endpoint, ConnectError> {
        let info = parse(url)?;
        let settings = self.settings(info.redis_settings().clone());
        self.store_endpoint(info.set_redis_settings(settings))
    }

    pub(crate) fn settings(&self, mut settings: RedisConnectionInfo) -> RedisConnectionInfo {
        if let Some(user) = &self.config.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.config.password {
            settings = settings.set_password(password);
        }
        if let Some(database) = self.config.database {
            settings = settings.set_db(database.into());
        }
        settings
    }

    fn tcp_settings(&self) -> TcpSettings {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
        let settings = TcpSettings::default()
            // Without this setting, Nagle's algorithm may hold a command back until the server has
            // acknowledged the previous command: for up to 40 ms.
            .set_nodelay(true)
            .set_keepalive(keepalive);
        // A peer that acknowledges no bytes for this time is considered lost.
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let settings = settings.set_user_timeout(self.config.response_timeout);
        settings
    }

    /// Returns a server that holds sessions. The provider of credentials, if configured, overrides
    /// user and password.
    pub(crate) fn store_endpoint(&self, info: ConnectionInfo) -> Result<Endpoint, ConnectError> {
        let mut endpoint = self.endpoint(info)?;
        if let Some(provider) = &self.config.credentials {
            endpoint.credentials = Some(Arc::clone(provider));
        }
        Ok(endpoint)
    }

    /// Returns the server with this address and these settings.
    pub(crate) fn endpoint(&self, info: ConnectionInfo) -> Result<Endpoint, ConnectError> {
        let info = info.set_tcp_settings(self.tcp_settings());
        #[cfg(feature = "tls")]
        let tls = self.tls.clone().filter(|_| matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
        let settings = info.redis_settings();
        let credentials = settings.password().map(|password| match settings.username() {
            Some(user) => Credentials::new(user, password),
            None => Credentials::from_password(password),
        });
        let settings = RedisConnectionInfo::default()
            .set_db(settings.db())
            .set_protocol(settings.protocol())
            .set_skip_set_lib_name();
        Ok(Endpoint {
            client_name: self.client_name.clone(),
            credentials: credentials.map(|credentials| Arc::new(credentials) as _),
            info: info.set_redis_settings(settings),
            #[cfg(feature = "tls")]
            tls,
        })
    }
}

/// The address of a server, and the settings of connections to the server.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// Contains neither user nor password.
    info: ConnectionInfo,
    credentials: Option<Arc<dyn CredentialsProvider>>,
    client_name: ClientName,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
}

impl Endpoint {
    pub(crate) fn addr(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    pub(crate) fn settings(&self) -> &RedisConnectionInfo {
        self.info.redis_settings()
    }

    pub(crate) fn tcp_settings(&self) -> &TcpSettings {
        self.info.tcp_settings()
    }

    pub(crate) fn credentials(&self) -> Option<&Arc<dyn CredentialsProvider>> {
        self.credentials.as_ref()
    }

    pub(crate) fn client_name(&self) -> &ClientName {
        &self.client_name
    }

    #[cfg(feature = "tls")]
    pub(crate) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    pub(crate) fn with_protocol(mut self, protocol: ProtocolVersion) -> Self {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.info = self.info.set_redis_settings(settings);
        self
    }
}

impl Place {
    #[cfg(feature = "tls")]
    fn uses_tls(&self) -> bool {
        match self {
            Self::Server(url) => is_tls(url),
            #[cfg(feature = "sentinel")]
            Self::Sentinel { sentinels, tls, .. } => {
                *tls == Some(true) || sentinels.iter().any(|url| is_tls(url))
            }
            #[cfg(feature = "cluster")]
            Self::Cluster(nodes) => nodes.iter().any(|url| is_tls(url)),
        }
    }
}

#[cfg(feature = "tls")]
fn is_tls(url: &str) -> bool {
    url.starts_with("rediss://") || url.starts_with("valkeys://")
}

/// Parses a URL. The error never quotes the URL, because the URL may contain a password.
pub(crate) fn parse(url: &str) -> Result<ConnectionInfo, ConnectError> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let advice = match scheme {
        Some("rediss" | "valkeys") if cfg!(not(feature = "tls")) => {
            "its scheme, `rediss`, needs the feature `tls-ring` of session-redis, `redis-tls-ring` of session-axum"
        }
        Some("redis" | "rediss" | "valkey" | "valkeys") => {
            "after the scheme there must be `[user:password@]host[:port][/database]`, with %-codes for \
             what is no letter or digit in user and password"
        }
        Some("unix" | "redis+unix" | "valkey+unix") => {
            "after the scheme there must be `/path/to/socket[?db=database&user=user&pass=password]`"
        }
        _ => "its scheme must be `redis`, `rediss` or `unix`, followed by `://`",
    };
    let unusable = || {
        // The cause is not kept as the source, because its text may quote the URL.
        ConnectError::misconfigured(format!("the URL of Redis cannot be used: {advice}"))
    };
    let plain = match scheme {
        Some("rediss" | "valkeys") if cfg!(not(feature = "tls")) => return Err(unusable()),
        // redis-rs parses these schemes only if its own TLS is enabled.
        Some("rediss" | "valkeys") => url.replacen("s://", "://", 1),
        _ => return url.into_connection_info().map_err(|_| unusable()),
    };
    if url.contains('#') {
        return Err(ConnectError::misconfigured(
            "the URL of Redis ends in a fragment, such as `#insecure`: every certificate is checked, \
             and `with_root_certificate` takes one of your own",
        ));
    }
    let info = plain.into_connection_info().map_err(|_| unusable())?;
    let ConnectionAddr::Tcp(host, port) = info.addr().clone() else { return Err(unusable()) };
    Ok(info.set_addr(ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }))
}

/// The idle time before the system probes the peer (TCP keepalive). The probes keep the connection
/// known to load balancers and firewalls, which forget idle connections after four minutes or more.
const KEEPALIVE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        parse(url).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn commands_are_not_held_back_to_be_sent_together() {
        let config = RedisConfig::new("redis://host");
        let endpoint = Access::new(&config).unwrap().endpoint_at("redis://host").unwrap();
        assert!(endpoint.tcp_settings().nodelay());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_it() {
        insta::assert_snapshot!(
            refusal("hunter2"),
            @"the URL of Redis cannot be used: its scheme must be `redis`, `rediss` or `unix`, followed by `://`"
        );
        insta::assert_snapshot!(
            refusal("redis://user:hunter2@localhost/no-number"),
            @"the URL of Redis cannot be used: after the scheme there must be `[user:password@]host[:port][/database]`, with %-codes for what is no letter or digit in user and password"
        );
        #[cfg(not(feature = "tls"))]
        insta::assert_snapshot!(
            refusal("rediss://:hunter2@localhost"),
            @"the URL of Redis cannot be used: its scheme, `rediss`, needs the feature `tls-ring` of session-redis, `redis-tls-ring` of session-axum"
        );
    }
}
