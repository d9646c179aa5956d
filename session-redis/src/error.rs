use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind};
use session_core::{StoreError, StoreErrorKind};

use crate::{
    credentials::NoCredentials,
    server_error::{SELECT_IN_CLUSTER, SELECT_REFUSED, is_unknown_command},
};

/// Maps an error of Redis to the error of the session protocol.
///
/// If Redis may or may not have executed the command, the kind is
/// [`Timeout`](StoreErrorKind::Timeout), by which the protocol learns that the outcome is unknown
/// and that a repetition is needed.
pub(crate) fn store_error(error: RedisError) -> StoreError {
    if error.kind() == ErrorKind::Server(ServerErrorKind::Moved) {
        let advice = "the server is a node of a cluster, and another node has this key: \
                      `RedisConfig::cluster` (feature `cluster`) is for that";
        return ConnectError::misconfigured(advice).with_source(error).into_store_error();
    }
    StoreError::new(meaning(&error)).with_source(error)
}

/// Returns the error of an operation that exceeded its time limit.
pub(crate) fn timeout() -> StoreError {
    StoreError::new(StoreErrorKind::Timeout)
}

/// Returns the error of a reply that Redis would not send.
pub(crate) fn unexpected() -> StoreError {
    StoreError::new(StoreErrorKind::Timeout).with_source("the server answers unlike Redis")
}

fn meaning(error: &RedisError) -> StoreErrorKind {
    match error.kind() {
        ErrorKind::Io if error.is_connection_refusal() => StoreErrorKind::Unavailable,
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported => StoreErrorKind::Misconfigured,
        ErrorKind::Server(server) => match server {
            ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot | ServerErrorKind::Moved => {
                StoreErrorKind::Misconfigured
            }
            ServerErrorKind::BusyLoading
            | ServerErrorKind::NoScript
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly => StoreErrorKind::Unavailable,
            _ if is_unknown_command(error) => StoreErrorKind::Misconfigured,
            _ => StoreErrorKind::Timeout,
        },
        ErrorKind::Extension => match error.code() {
            Some("OOM") => StoreErrorKind::Full,
            Some("WRONGTYPE") => StoreErrorKind::Corrupt,
            Some("NOAUTH" | "WRONGPASS") => StoreErrorKind::Misconfigured,
            Some("BUSY" | "MISCONF" | "NOREPLICAS") => StoreErrorKind::Unavailable,
            // For example an error of a proxy.
            _ => StoreErrorKind::Timeout,
        },
        // For example a timeout, a lost connection or an unreadable reply: the server may have
        // executed the command.
        _ => StoreErrorKind::Timeout,
    }
}

/// The reason why there is no connection to Redis, with advice. The text contains no URL and no
/// password.
#[derive(Clone, Debug)]
pub(crate) struct ConnectError {
    kind: StoreErrorKind,
    text: String,
    source: Option<RedisError>,
}

impl ConnectError {
    pub(crate) fn new(kind: StoreErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), source: None }
    }

    pub(crate) fn misconfigured(text: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Misconfigured, text)
    }

    /// Returns the error of a server that did not reply within `limit`.
    pub(crate) fn silent(address: &str, limit: Duration) -> Self {
        let text = format!("the server at {address} did not answer within {limit:?}: {SILENT}");
        Self::new(StoreErrorKind::Timeout, text)
    }

    pub(crate) fn with_source(mut self, source: RedisError) -> Self {
        self.source = Some(source);
        self
    }

    #[cfg(feature = "sentinel")]
    pub(crate) const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns the error of a command that waited for the connection and was therefore not
    /// executed: `Timeout` becomes `Unavailable`.
    pub(crate) fn nothing_sent(mut self) -> Self {
        if self.kind == StoreErrorKind::Timeout {
            self.kind = StoreErrorKind::Unavailable;
        }
        self
    }

    /// Explains an error that occurred while a connection was set up.
    pub(crate) fn explain(error: RedisError, address: &str) -> Self {
        use StoreErrorKind::{Misconfigured, Timeout, Unavailable};

        let (kind, text) = match error.kind() {
            ErrorKind::AuthenticationFailed => (Misconfigured, wrong_password(address)),
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => (
                Misconfigured,
                format!("what listens at {address} does not speak like Redis: check host and port"),
            ),
            ErrorKind::Io if error.is_connection_refusal() => (
                Unavailable,
                format!("nobody listens at {address}: is Redis running, and is this its address?"),
            ),
            ErrorKind::Io if error.is_timeout() => {
                (Timeout, format!("the server at {address} did not answer in time: {SILENT}"))
            }
            ErrorKind::Io if let Some(reason) = cause::<NoCredentials>(&error) => (
                Unavailable,
                format!("there are no credentials for the server at {address}: {reason}"),
            ),
            ErrorKind::Io => match tls_trouble(&error) {
                Some(trouble) => {
                    (Misconfigured, format!("no TLS with the server at {address}: {trouble}"))
                }
                None if error.is_connection_dropped() => (
                    Unavailable,
                    format!(
                        "the server at {address} closed the connection while it was set up: it may be \
                         starting, have too many clients, or speak TLS only (the scheme `rediss`)"
                    ),
                ),
                None => (Unavailable, format!("no connection to {address}: check host and port")),
            },
            ErrorKind::RESP3NotSupported => (Misconfigured, no_resp3(address)),
            _ if is_unknown_command(&error) => (Misconfigured, no_resp3(address)),
            _ if error.detail() == Some(SELECT_IN_CLUSTER) => (
                Misconfigured,
                format!(
                    "the server at {address} belongs to a cluster, which has no database but 0"
                ),
            ),
            _ if error.detail() == Some(SELECT_REFUSED) => (
                Misconfigured,
                format!(
                    "the server at {address} refuses the database: the number must be below its \
                     `databases`, and the user allowed to `SELECT`"
                ),
            ),
            _ => match error.code() {
                Some("NOAUTH") => (
                    Misconfigured,
                    format!("the server at {address} wants a password, and there is none"),
                ),
                Some("WRONGPASS") => (Misconfigured, wrong_password(address)),
                Some("DENIED") => (
                    Misconfigured,
                    format!(
                        "the server at {address} is in protected mode, which serves its own machine \
                         only: give it a password"
                    ),
                ),
                _ => (meaning(&error), format!("the server at {address} refuses the connection")),
            },
        };
        Self { kind, text, source: Some(error) }
    }

    pub(crate) fn into_store_error(self) -> StoreError {
        StoreError::new(self.kind).with_source(self)
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<ConnectError> for StoreError {
    fn from(error: ConnectError) -> Self {
        error.into_store_error()
    }
}

/// Returns advice for a server without RESP3. If the server does not know a command of the set-up,
/// that command is `HELLO`: the errors of all other commands are handled elsewhere.
fn no_resp3(address: &str) -> String {
    format!(
        "the server at {address} does not know the command `HELLO`, so it has no RESP3: leave \
         `protocol=resp3` out of the URL"
    )
}

const SILENT: &str = "is it overloaded, or does only one side speak TLS?";

fn wrong_password(address: &str) -> String {
    format!("the server at {address} refuses the password: check it, and the user's name")
}

/// Returns the error of type `E` in the chain of sources.
fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(mut error) = next {
        // redis-rs wraps a source in an `Arc`.
        if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            error = &**shared;
        }
        // `io::Error::source` skips the wrapped error itself.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found =
            error.downcast_ref::<E>().or_else(|| inner.and_then(|inner| inner.downcast_ref::<E>()));
        if found.is_some() {
            return found;
        }
        next = error.source();
    }
    None
}

/// Returns advice for an error of rustls about the certificate of the server or of this client.
/// Returns `None` for other errors.
#[cfg(feature = "tls")]
fn tls_trouble(error: &RedisError) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error as Tls};

    let tls = cause::<Tls>(error)?;
    Some(match tls {
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "its certificate is made out to another name: if that is the server's, \
                     `with_tls_server_name` takes it"
        }
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired",
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate comes from an authority that is not trusted: \
                     `with_root_certificate` names others than the system knows"
        }
        Tls::InvalidCertificate(_) => "its certificate is not accepted",
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => "it does not accept our certificate, or wants one: `with_client_certificate` takes it",
        Tls::InvalidMessage(_) => "it does not speak TLS at this port",
        _ => "the two do not agree",
    })
}

#[cfg(not(feature = "tls"))]
fn tls_trouble(_: &RedisError) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_carried_out_is_a_timeout() {
        for kind in [
            io::ErrorKind::TimedOut,
            io::ErrorKind::BrokenPipe,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::UnexpectedEof,
        ] {
            let error = store_error(io::Error::from(kind).into());
            assert_eq!(error.kind(), StoreErrorKind::Timeout, "{kind}");
        }
    }

    #[test]
    fn what_redis_did_not_say_so_itself_may_have_been_carried_out() {
        for kind in [ErrorKind::UnexpectedReturnType, ErrorKind::Extension, ErrorKind::Parse] {
            let error = store_error(RedisError::from((kind, "upstream failure")));
            assert_eq!(error.kind(), StoreErrorKind::Timeout, "{kind:?}");
        }
    }

    #[test]
    fn a_refused_connection_carried_out_nothing() {
        let error = store_error(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
}
