use std::time::Duration;

#[cfg(feature = "tls")]
use redis::ConnectionAddr;
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use session_core::StoreErrorKind;

use crate::{RedisConfig, error::ConnectError};

/// How the servers that hold sessions are spoken to, wherever they are.
pub(crate) struct Access<'c> {
    config: &'c RedisConfig,
}

impl<'c> Access<'c> {
    pub(crate) fn new(config: &'c RedisConfig) -> Self {
        Self { config }
    }

    /// The server at a URL, with what the configuration says in place of what the URL says.
    pub(crate) fn client_at(&self, url: &str) -> Result<Client, ConnectError> {
        let info = parse(url)?;
        let settings = self.settings(info.redis_settings().clone());
        self.client(info.set_redis_settings(settings))
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
            // Otherwise a command that is sent while another waits for its answer may be held back until
            // the other side has confirmed that one: for up to 40 ms.
            .set_nodelay(true)
            .set_keepalive(keepalive);
        // A peer that confirms nothing for so long is gone.
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        let settings = settings.set_user_timeout(self.config.response_timeout);
        settings
    }

    /// A server whose place and settings are known.
    pub(crate) fn client(&self, info: ConnectionInfo) -> Result<Client, ConnectError> {
        let info = info.set_tcp_settings(self.tcp_settings());
        #[cfg(feature = "tls")]
        if let Some(certificates) = self.config.certificates() {
            if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
                return Err(ConnectError::misconfigured(format!(
                    "there are certificates for {}, which is not spoken to by TLS: \
                     the scheme for that is `rediss`",
                    info.addr()
                )));
            }
            return Client::build_with_tls(info, certificates.clone()).map_err(|error| {
                ConnectError::misconfigured(
                    "the certificates cannot be read: they are to be in PEM format, the key too",
                )
                .with_source(error)
            });
        }
        let address = info.addr().to_string();
        Client::open(info).map_err(|error| ConnectError::explain(error, &address))
    }
}

/// Reads a URL. What is wrong with one is said without quoting it: it may hold a password.
pub(crate) fn parse(url: &str) -> Result<ConnectionInfo, ConnectError> {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    let advice = match scheme {
        Some("rediss" | "valkeys") if cfg!(not(feature = "tls")) => {
            "its scheme, `rediss`, needs the feature `tls` of session-redis, `redis-tls` of session-axum"
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
    url.into_connection_info().map_err(|_| {
        // Not kept as the source: its text may quote the URL.
        ConnectError::new(
            StoreErrorKind::Misconfigured,
            format!("the URL of Redis cannot be used: {advice}"),
        )
    })
}

/// How long a connection is idle until the system asks whether its peer is there: before load balancers
/// and firewalls forget it, which takes four minutes or more.
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
        let client = Access::new(&config).client_at("redis://host").unwrap();
        assert!(client.get_connection_info().tcp_settings().nodelay());
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
            @"the URL of Redis cannot be used: its scheme, `rediss`, needs the feature `tls` of session-redis, `redis-tls` of session-axum"
        );
    }
}
