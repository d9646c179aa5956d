use std::fmt;

use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

/// What goes wrong when a handler uses its session, as a response.
///
/// A handler that returns `Result<_, SessionError>` may use `?` on all that a session does. The
/// response names no internals:
///
/// | cause | status |
/// | --- | --- |
/// | the store failed, or too many requests change the session at once | 503 with `Retry-After` |
/// | another request held the lock all the time | 503 with `Retry-After` |
/// | the session was ended while the request was under way | 409 |
/// | the lock was lost before the commit | 409 |
/// | a login exceeds the limit of sessions | 409 |
/// | nobody signed in, or not recently enough | 403 |
/// | a limit, a value that cannot be encoded, a change after the response began, a second lock | 500 |
#[derive(Debug)]
pub struct SessionError(session_core::SessionError);

impl SessionError {
    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> &session_core::SessionError {
        &self.0
    }

    /// Tells whether the same request may succeed a little later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.is_retryable()
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SessionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl From<session_core::SessionError> for SessionError {
    fn from(error: session_core::SessionError) -> Self {
        Self(error)
    }
}

impl From<session_core::StoreError> for SessionError {
    fn from(error: session_core::StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        failure(&self.0)
    }
}

/// Why a handler does not get a session.
///
/// A handler that asks for `Result<Session, SessionRejection>` answers this itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionRejection {
    /// The store failed. 503 with `Retry-After`. It is never taken for "nobody is signed in", and the
    /// cookie stays (I7).
    Store(SessionError),
    /// The route has no [`SessionLayer`](crate::SessionLayer). 500.
    MissingLayer,
}

impl fmt::Display for SessionRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::MissingLayer => f.write_str(MISSING_LAYER),
        }
    }
}

impl std::error::Error for SessionRejection {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::MissingLayer => None,
        }
    }
}

impl IntoResponse for SessionRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Store(error) => error.into_response(),
            Self::MissingLayer => {
                tracing::error!(target: "session", "{MISSING_LAYER}");
                (StatusCode::INTERNAL_SERVER_ERROR, MISSING_LAYER).into_response()
            }
        }
    }
}

/// The response to a failure, with a text for people.
fn failure(error: &session_core::SessionError) -> Response {
    use session_core::SessionError as Cause;
    let status = status(error);
    let text = match error {
        Cause::Locked => "another request is being worked on, try again in a moment",
        Cause::LeaseLost => "the request took too long, load the page again",
        Cause::NotFresh => "sign in again to do this",
        Cause::TooManySessions { .. } => "signed in too often, sign out elsewhere first",
        _ if status == StatusCode::SERVICE_UNAVAILABLE => {
            "sessions are unavailable, try again in a moment"
        }
        _ if status == StatusCode::CONFLICT => "the session has ended, load the page again",
        _ => "the session cannot be used",
    };
    let mut response = (status, text).into_response();
    mark_failure(error, &mut response);
    response
}

/// The response to a failure, in place of another one, in whatever body the service has.
pub(crate) fn failure_of_commit<B: Default>(
    error: &session_core::SessionError,
) -> http::Response<B> {
    let mut response = http::Response::new(B::default());
    *response.status_mut() = status(error);
    mark_failure(error, &mut response);
    response
}

fn mark_failure<B>(error: &session_core::SessionError, response: &mut http::Response<B>) {
    let status = response.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = HeaderValue::from_static(RETRY_AFTER_SECONDS);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    let is_expected = matches!(status, StatusCode::CONFLICT | StatusCode::FORBIDDEN)
        || matches!(error, session_core::SessionError::Locked);
    if is_expected {
        tracing::debug!(target: "session", %error, "request refused for its session");
    } else {
        // A codec's own text may quote the value.
        let source = match error {
            session_core::SessionError::Store(error) => std::error::Error::source(error),
            _ => None,
        };
        let source = source.map(ToString::to_string);
        tracing::error!(target: "session", %error, source, "request failed for its session");
    }
}

fn status(error: &session_core::SessionError) -> StatusCode {
    use session_core::{SessionError as Cause, StoreErrorKind};
    match error {
        Cause::Store(error) if error.kind() == StoreErrorKind::TooLarge => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Cause::Store(_) | Cause::Contended | Cause::Unconfirmed | Cause::Locked => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        // Not 503: what it did elsewhere is not to be done again by a client that repeats it.
        Cause::Ended | Cause::LeaseLost | Cause::TooManySessions { .. } => StatusCode::CONFLICT,
        Cause::NotFresh => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const MISSING_LAYER: &str =
    "no session on this route: add `.layer(SessionLayer::new(store))` to its router";

const RETRY_AFTER_SECONDS: &str = "1";
