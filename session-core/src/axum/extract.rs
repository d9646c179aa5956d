use std::{fmt, pin::Pin, sync::Arc};

use axum_core::extract::FromRequestParts;
use http::{HeaderMap, request::Parts};

use super::SessionRejection;
use crate::{Session, StoreError};

/// The session of one request, opened by the first extractor that asks for it.
///
/// A layer implements it, with [`Sessions::try_open_local`](crate::Sessions::try_open_local) and
/// [`Sessions::open`](crate::Sessions::open), and puts it into the request as a
/// [`SessionExtension`]. All calls for one request must return the same session, or the same error:
/// the handler and the layer, which finishes the session, must see one truth.
pub trait SessionSource: Send + Sync + 'static {
    /// Returns the session if it is open already, or can be opened without I/O. Returns `None` if
    /// it has to be opened with [`open`](Self::open).
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

    /// Opens the session of the request, given the request's headers.
    ///
    /// # Errors
    ///
    /// Returns the error of the store: an outage is never "no session" ([I7]).
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

/// Opens the session when the first extractor of the request asks for it.
///
/// In an outage of the store the response is a 503. A handler that takes
/// `Result<Session, SessionRejection>` answers every rejection itself.
impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let extension = parts.extensions.get::<SessionExtension>();
        let extension = extension.ok_or(SessionRejection::MissingLayer)?;
        extension.open(&parts.headers).await.map_err(SessionRejection::Store)
    }
}
