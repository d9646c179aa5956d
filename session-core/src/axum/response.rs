use std::{error::Error, sync::Arc};

use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::{SessionError, StoreError, StoreErrorKind, metrics::on_error_response};

/// Responds without internals. The cause of a store error goes to `tracing`, target `session`.
///
/// | error | status |
/// | --- | --- |
/// | the store failed, `Contended`, `Unconfirmed`, `Locked` | 503 with `Retry-After` |
/// | `Ended`, `LeaseLost`, `TooManySessions`, `Refused`, `Taken` | 409 |
/// | `SignedOut` | 401 with `Cache-Control: no-store` |
/// | `NotFresh`, `CannotAct`, `Acting` | 403 |
/// | `TooLarge`, `Decode`, `Encode`, `EmptyOwner`, `EmptyLink`, `Closed`, `AlreadyLocked` | 500 |
/// | the session is too large for the store | 500 |
///
/// The extensions of the response hold the error as an `Arc<SessionError>`, for an outer layer that
/// makes a page of the error. See [`with_response`](Self::with_response) for a response of the
/// application's own.
impl IntoResponse for SessionError {
    fn into_response(self) -> Response {
        let status = status(&self);
        let text = match &self {
            Self::Locked => "another request is being worked on, try again in a moment",
            Self::LeaseLost => "the request took too long, load the page again",
            Self::NotFresh => "sign in again to do this",
            Self::SignedOut => "sign in first",
            Self::CannotAct => "sign in to do this",
            Self::Acting => "only the user can do this",
            Self::TooManySessions { .. } => "signed in too often, sign out elsewhere first",
            Self::Refused { .. } => "the change is not possible any more, load the page again",
            Self::Taken => "this was used already",
            _ if status == StatusCode::SERVICE_UNAVAILABLE => {
                "sessions are unavailable, try again in a moment"
            }
            _ if status == StatusCode::CONFLICT => "the session has ended, load the page again",
            _ => "the session cannot be used",
        };
        let mut response = (status, text).into_response();
        // HTTP has no scheme for `WWW-Authenticate` that means a cookie.
        let header = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, RETRY_AFTER_SECONDS)),
            StatusCode::UNAUTHORIZED => Some((header::CACHE_CONTROL, "no-store")),
            _ => None,
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(DefaultBody);
        self.with_response(response)
    }
}

impl SessionError {
    /// Answers the error by a response of the application's own, such as a redirect or a page.
    ///
    /// The layer in `session-axum` recognizes the response as that of a failed handler: whatever its
    /// status, it commits no change. The cause goes to `tracing` as with the response by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum_core::response::{IntoResponse, Response};
    /// use http::StatusCode;
    /// use session_core::SessionError;
    ///
    /// fn answer(error: SessionError) -> Response {
    ///     let to_login = (StatusCode::SEE_OTHER, [("location", "/login")]);
    ///     match error {
    ///         SessionError::NotFresh => error.with_response(to_login),
    ///         error => error.into_response(),
    ///     }
    /// }
    /// ```
    pub fn with_response(self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        log(&self, status(&self));
        on_error_response(response.status(), &self);
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Marks a response whose body is the text of this crate, in place of which a layer may draw another.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct DefaultBody;

/// The reason why an extractor fails to return a session or its owner.
///
/// A handler with an argument `Result<Session, SessionRejection>` answers the rejection itself.
///
/// The type also has the reasons of the extractors in `session-axum`, so that an application matches
/// one type. It is in this crate because the extractor of [`Session`](crate::Session) must be (orphan rule).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionRejection {
    /// The store failed: 503 with `Retry-After`. The request never looks signed out, and the cookie
    /// stays ([I7]).
    ///
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    #[error(transparent)]
    Store(#[from] StoreError),

    /// The route lacks a layer that gives its requests a session: 500.
    ///
    /// A router's `layer` covers only the routes and layers added before it.
    #[error(
        "no session on this route: call `.layer(SessionLayer::new(store))` on its router, after its \
         routes and after the layers that use the session"
    )]
    MissingLayer,

    /// The route lacks the layer of a name: 500.
    #[error(
        "no session `{name}` on this route: call `.layer(SessionLayer::new(store).named::<..>())` on \
         its router, after its routes and after the layers that use the session"
    )]
    MissingNamedLayer {
        /// The name of the layer.
        name: &'static str,
    },

    /// The innermost guard of the route demands a user of one session, and the handler asks for the
    /// user of another: 500. Returned by `SignedIn` of `session-axum`.
    #[error(
        "the guard of this route demands a user of {}, and the handler asks for the user of another \
         session: give `SignedIn` the name of the guard's session, put the guard inside of the same \
         layer, or read the other user by `Session::owner_as`",
        session_of(*name)
    )]
    OtherGuard {
        /// The name of the guard's session, if it has one.
        name: Option<&'static str>,
    },

    /// Nobody is signed in: 401 with `Cache-Control: no-store`. Returned by `SignedIn` of
    /// `session-axum`.
    #[error("sign in first")]
    SignedOut,

    /// The owner of the session does not parse as the type of `SignedIn`: 500. The application signs
    /// users in by another type than it asks for.
    #[error("the owner of the session is not of the type `{expected}`")]
    OwnerType {
        /// The name of the type.
        expected: &'static str,
    },
}

impl IntoResponse for SessionRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Store(error) => SessionError::Store(error).into_response(),
            Self::MissingLayer | Self::MissingNamedLayer { .. } | Self::OtherGuard { .. } => {
                tracing::error!(target: "session", "{self}");
                (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
            }
            Self::SignedOut => SessionError::SignedOut.into_response(),
            Self::OwnerType { .. } => {
                tracing::error!(target: "session", "{self}");
                (StatusCode::INTERNAL_SERVER_ERROR, "the session cannot be used").into_response()
            }
        }
    }
}

fn session_of(name: Option<&str>) -> String {
    match name {
        Some(name) => format!("the session `{name}`"),
        None => "a session without a name".to_owned(),
    }
}

fn status(error: &SessionError) -> StatusCode {
    match error {
        SessionError::Store(error) if error.kind() == StoreErrorKind::TooLarge => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        SessionError::Store(_)
        | SessionError::Contended
        | SessionError::Unconfirmed
        | SessionError::Locked => StatusCode::SERVICE_UNAVAILABLE,
        // Not 503: on a 503 a client would repeat the request, with its work outside of the
        // session.
        SessionError::Ended
        | SessionError::LeaseLost
        | SessionError::TooManySessions { .. }
        | SessionError::Refused { .. }
        | SessionError::Taken => StatusCode::CONFLICT,
        SessionError::SignedOut => StatusCode::UNAUTHORIZED,
        SessionError::NotFresh | SessionError::CannotAct | SessionError::Acting => {
            StatusCode::FORBIDDEN
        }
        SessionError::AlreadyLocked
        | SessionError::Closed
        | SessionError::EmptyOwner
        | SessionError::EmptyLink
        | SessionError::TooLarge { .. }
        | SessionError::Decode { .. }
        | SessionError::Encode { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn log(error: &SessionError, status: StatusCode) {
    let is_expected = status.is_client_error() || matches!(error, SessionError::Locked);
    if is_expected {
        tracing::debug!(target: "session", %error, "request refused for its session");
        return;
    }
    // The text of a codec may quote the value.
    let source = match error {
        SessionError::Store(error) => error.source().map(ToString::to_string),
        _ => None,
    };
    tracing::error!(target: "session", %error, source, "request failed for its session");
}

const RETRY_AFTER_SECONDS: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_status() {
        let store = |kind| SessionError::Store(StoreError::new(kind));
        let (name, source) = (String::from("cart"), || "private".into());
        let cases = [
            (store(StoreErrorKind::Unavailable), 503),
            (store(StoreErrorKind::Timeout), 503),
            (store(StoreErrorKind::Unreplicated), 503),
            (store(StoreErrorKind::Full), 503),
            (store(StoreErrorKind::Corrupt), 503),
            (store(StoreErrorKind::Misconfigured), 503),
            (store(StoreErrorKind::TooLarge), 500),
            (SessionError::Contended, 503),
            (SessionError::Unconfirmed, 503),
            (SessionError::Locked, 503),
            (SessionError::Ended, 409),
            (SessionError::LeaseLost, 409),
            (SessionError::TooManySessions { limit: 1 }, 409),
            (SessionError::Refused { name: name.clone(), source: source() }, 409),
            (SessionError::Taken, 409),
            (SessionError::NotFresh, 403),
            (SessionError::SignedOut, 401),
            (SessionError::CannotAct, 403),
            (SessionError::Acting, 403),
            (SessionError::AlreadyLocked, 500),
            (SessionError::Closed, 500),
            (SessionError::EmptyOwner, 500),
            (SessionError::EmptyLink, 500),
            (SessionError::TooLarge { what: "the value", limit: 1 }, 500),
            (SessionError::Decode { name: name.clone(), source: source() }, 500),
            (SessionError::Encode { name, source: source() }, 500),
        ];
        for (error, status) in cases {
            let text = error.to_string();
            let response = error.into_response();
            assert_eq!(response.status(), status, "{text}");
            let retry_after = response.headers().get(header::RETRY_AFTER);
            assert_eq!(retry_after.is_some(), status == 503, "{text}");
        }
    }
}
