use redis::{ErrorKind, RedisError, RetryMethod, ServerErrorKind};
use session_core::{StoreError, StoreErrorKind};

use crate::{
    error::{ConnectError, store_error, timeout},
    metrics,
    server_error::{is_of_server, is_unknown_command},
    transport::circuit_breaker::Refused,
};

/// Why an operation has no answer.
#[derive(Clone)]
pub(crate) enum Failure {
    Redis(RedisError),
    /// It took too long.
    Silence,
    /// There was nobody to send it to.
    Lost(ConnectError),
    /// It was not sent.
    Refused(Refused),
}

impl Failure {
    /// Nothing was sent, because there was no connection in time.
    pub(crate) fn not_connected() -> Self {
        Self::Lost(ConnectError::new(
            StoreErrorKind::Unavailable,
            "there was no connection in time",
        ))
    }

    /// Returns the `error.type` of metrics.
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

    /// Returns `true` if the server did not answer in time, or there is no way to it.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Redis(error) => error.is_io_error() && !error.is_connection_dropped(),
            Self::Silence | Self::Lost(_) => true,
            Self::Refused(_) => false,
        }
    }

    /// Tells an error of the connection, which the server need not know of.
    pub(crate) fn is_of_the_line(&self) -> bool {
        !matches!(self, Self::Redis(error) if is_of_server(error))
    }

    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_io_error())
    }

    /// Whether there was nobody to send it to.
    #[cfg(feature = "cluster")]
    pub(crate) fn was_not_sent(&self) -> bool {
        match self {
            Self::Redis(_) | Self::Silence => false,
            Self::Lost(_) | Self::Refused(_) => true,
        }
    }

    /// Returns `true` if the user may not run the command, or the server has no such command.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.is(ServerErrorKind::NoPerm)
            || matches!(self, Self::Redis(error) if is_unknown_command(error))
    }

    /// Returns `true` if a new connection may lead to a server that does not fail this way.
    pub(crate) fn is_of_stale_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if is_of_stale_connection(error))
    }

    /// Returns `true` if the connection was lost, so that the command may be sent again if it changes
    /// nothing: also if the system gave up a peer that confirmed nothing.
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

/// A list of what a new connection can mend: the address may lead to another server by now, the
/// password is sent again, and bytes that are no answer are left behind. Whatever else a server refuses,
/// it would refuse again.
pub(crate) fn is_of_stale_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        | ErrorKind::Parse => true,
        ErrorKind::Extension => error.code() == Some("NOAUTH"),
        _ => false,
    }
}
