use redis::{ErrorKind, RedisError, RetryMethod, ServerErrorKind};
use session_core::{StoreError, StoreErrorKind};

use crate::{
    error::{ConnectError, store_error, timeout},
    metrics,
    server_error::{is_of_server, is_unknown_command},
    transport::circuit_breaker::Refused,
};

/// The reason why an operation failed.
#[derive(Clone)]
pub(crate) enum Failure {
    Redis(RedisError),
    /// The reply did not arrive before the deadline.
    Silence,
    /// The command was not sent, because there was no connection.
    Lost(ConnectError),
    /// The circuit breaker refused the command, so the command was not sent.
    Refused(Refused),
}

impl Failure {
    /// Returns the failure of a command that was not sent, because no connection was ready in time.
    pub(crate) fn not_connected() -> Self {
        Self::Lost(ConnectError::new(
            StoreErrorKind::Unavailable,
            "there was no connection in time",
        ))
    }

    /// Returns the `error.type` for the metrics.
    pub(crate) fn error_type(&self) -> &'static str {
        match self {
            Self::Redis(error) => metrics::error_type(error),
            Self::Silence => "timeout",
            Self::Lost(_) => "no_connection",
            Self::Refused(Refused::NoAnswers) => "circuit_open",
            Self::Refused(Refused::TooManyWait) => "too_many_waiting",
        }
    }

    pub(crate) fn is(&self, kind: ServerErrorKind) -> bool {
        matches!(self, Self::Redis(error) if is(error, kind))
    }

    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Silence)
    }

    /// Returns `true` if the server did not reply in time, or if there was no connection.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Redis(error) => error.is_io_error() && !error.is_connection_dropped(),
            Self::Silence | Self::Lost(_) => true,
            Self::Refused(_) => false,
        }
    }

    /// Returns `true` unless the failure is an error reply of the server. Other failures may
    /// concern the connection alone.
    pub(crate) fn is_of_the_line(&self) -> bool {
        !matches!(self, Self::Redis(error) if is_of_server(error))
    }

    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_io_error())
    }

    /// Returns `true` if the command was certainly not sent.
    #[cfg(feature = "cluster")]
    pub(crate) fn was_not_sent(&self) -> bool {
        match self {
            Self::Redis(_) | Self::Silence => false,
            Self::Lost(_) | Self::Refused(_) => true,
        }
    }

    /// Returns `true` if the user may not run the command, or if the server does not know the
    /// command.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.is(ServerErrorKind::NoPerm)
            || matches!(self, Self::Redis(error) if is_unknown_command(error))
    }

    /// Returns `true` if the command may succeed over a new connection.
    pub(crate) fn is_of_stale_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if is_of_stale_connection(error))
    }

    /// Returns `true` if the connection was lost, for instance because the system gave up a peer
    /// that acknowledged no bytes. A command that changes nothing may then be sent again.
    pub(crate) fn is_dead_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_timeout() || error.is_connection_dropped()
            && matches!(error.retry_method(), RetryMethod::Reconnect))
    }

    pub(crate) fn into_store_error(self) -> StoreError {
        match self {
            Self::Redis(error) => store_error(error),
            Self::Silence => timeout(),
            Self::Lost(lost) => lost.into_store_error(),
            Self::Refused(refused) => {
                StoreError::new(StoreErrorKind::Unavailable).with_source(refused)
            }
        }
    }
}

pub(crate) fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == ErrorKind::Server(kind)
}

/// Returns `true` if a new connection may cure the error. A new connection may lead to another
/// server, sends the password again, and discards bytes that are no valid reply. The server would
/// repeat any other refusal.
pub(crate) fn is_of_stale_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        | ErrorKind::Parse => true,
        ErrorKind::Extension => error.code() == Some("NOAUTH"),
        _ => false,
    }
}
