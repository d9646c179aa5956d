use std::{ops::Deref, sync::Arc};

use axum_core::extract::FromRequestParts;
use http::request::Parts;

use crate::{SessionRejection, request_session::Slot};

/// The session of the request, for handlers and other extractors.
///
/// It is loaded when the first of them asks for it, once per request. All that a session can do is
/// said at [`session_core::Session`], to which this dereferences.
///
/// In an outage of the store the request is answered by 503. A page that is shown then too asks for a
/// [`PublicSession`](crate::PublicSession); `Result<Session, SessionRejection>` lets a handler see every
/// rejection.
///
/// # Examples
///
/// ```
/// use session_axum::{Key, Session, SessionError};
///
/// const VISITS: Key<u64> = Key::new("visits");
///
/// async fn visit(session: Session) -> Result<String, SessionError> {
///     let visits = session.update(VISITS, |visits| *visits += 1)?;
///     Ok(format!("visit {visits}"))
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(visit));
/// ```
#[derive(Clone, Debug)]
pub struct Session(session_core::Session);

impl Session {
    pub(crate) fn new(session: session_core::Session) -> Self {
        Self(session)
    }
}

impl Deref for Session {
    type Target = session_core::Session;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Session {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let slot = parts.extensions.get::<Arc<Slot>>().ok_or(SessionRejection::MissingLayer)?;
        let session = slot
            .open(&parts.headers)
            .await
            .map_err(|error| SessionRejection::Store(error.into()))?;
        Ok(Self::new(session.clone()))
    }
}
