use std::{any::Any, fmt, pin::Pin, sync::Arc};

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts};
use http::{HeaderMap, request::Parts};

use super::SessionRejection;
use crate::{Session, StoreError};

/// The session of one request, opened by the first extractor to use it.
///
/// A layer implements this trait, with
/// [`Sessions::try_open_local`](crate::Sessions::try_open_local) and
/// [`Sessions::open`](crate::Sessions::open). The layer inserts the source into the request as a
/// [`SessionExtension`]. All calls for one request must return the same session, or the same error,
/// so that the handler and the layer work on one session.
pub trait SessionSource: Any + Send + Sync {
    /// Returns the session if it is open already, or opens it without I/O. Returns `None` if the
    /// caller must use [`open`](Self::open).
    fn try_open(&self, headers: &HeaderMap) -> Option<Result<Session, StoreError>>;

    /// Opens the session.
    fn open<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Session, StoreError>> + Send + 'a>>;
}

/// The extension of a request that holds its [`SessionSource`], for extractors.
#[derive(Clone)]
pub struct SessionExtension(Arc<dyn SessionSource>);

impl SessionExtension {
    /// Creates the extension of one request.
    #[must_use]
    pub fn new(source: Arc<dyn SessionSource>) -> Self {
        Self(source)
    }

    /// Returns the source if it has this type, so that a layer can recognize a source of its own.
    #[must_use]
    pub fn downcast_ref<T: SessionSource>(&self) -> Option<&T> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// Returns `true` if both hold the session of the same layer and request.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Opens the session of the request, from the request's headers.
    ///
    /// # Errors
    ///
    /// Returns the error of the store: an outage never looks like a missing session ([I7]).
    ///
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    pub async fn open(&self, headers: &HeaderMap) -> Result<Session, StoreError> {
        match self.0.try_open(headers) {
            Some(outcome) => outcome,
            None => self.0.open(headers).await,
        }
    }
}

impl fmt::Debug for SessionExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionExtension(..)")
    }
}

/// Extracts the session. The first extractor of a request opens it.
///
/// In an outage of the store, the response is a 503. A handler with an argument
/// `Result<Session, SessionRejection>` answers the rejection itself.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let extension = parts.extensions.get::<SessionExtension>();
        let extension = extension.ok_or(SessionRejection::MissingLayer)?;
        extension.open(&parts.headers).await.map_err(SessionRejection::Store)
    }
}

/// Extracts the session, or `None` on a route without a layer. An outage is a 503 ([I7]).
///
/// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
impl<S: Send + Sync> OptionalFromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> Result<Option<Self>, Self::Rejection> {
        match <Self as FromRequestParts<S>>::from_request_parts(parts, state).await {
            Err(SessionRejection::MissingLayer) => Ok(None),
            outcome => outcome.map(Some),
        }
    }
}
