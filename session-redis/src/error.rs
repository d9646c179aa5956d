use redis::{ErrorKind, RedisError, ServerErrorKind};
use session_core::{StoreError, StoreErrorKind};

/// Says what an error of Redis means to the protocol.
///
/// Whatever leaves it open whether the command was carried out is a
/// [`Timeout`](StoreErrorKind::Timeout): that is how the protocol learns that it must ask again.
pub(crate) fn store_error(error: RedisError) -> StoreError {
    StoreError::new(meaning(&error)).with_source(error)
}

/// The error of an operation that exceeded its time.
pub(crate) fn timeout() -> StoreError {
    StoreError::new(StoreErrorKind::Timeout)
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
            // Up to Redis 6.2 an error inside a script is wrapped in another one.
            _ if says(error, "OOM command not allowed") => StoreErrorKind::Full,
            _ if says(error, "WRONGTYPE") => StoreErrorKind::Corrupt,
            _ if says(error, "unknown command") => StoreErrorKind::Misconfigured,
            _ => StoreErrorKind::Timeout,
        },
        ErrorKind::Extension => match error.code() {
            Some("OOM") => StoreErrorKind::Full,
            Some("WRONGTYPE") => StoreErrorKind::Corrupt,
            Some("NOAUTH" | "WRONGPASS") => StoreErrorKind::Misconfigured,
            Some("BUSY" | "MISCONF" | "NOREPLICAS") => StoreErrorKind::Unavailable,
            // A proxy's own words, for example.
            _ => StoreErrorKind::Timeout,
        },
        // Timed out, cut off, or not understood: the command may have arrived.
        _ => StoreErrorKind::Timeout,
    }
}

fn says(error: &RedisError, text: &str) -> bool {
    error.detail().is_some_and(|detail| detail.contains(text))
}

#[cfg(test)]
mod tests {
    use std::io;

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
