use std::{error::Error as _, sync::Arc};

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use session_core::{Codec, Key, Owner, StoreError};

use crate::{Session, SessionError, SessionRejection, request_session::Slot};

/// The session of the request, for a page that is shown in an outage of the store too.
///
/// While the store works this is the [`Session`]. While it does not, the handler runs all the same, and
/// sees that by [`outage`](Self::outage): reading gives nothing, and whatever needs the session goes through
/// [`require`](Self::require), which is an error then, a 503. So nobody signs in and nothing is written
/// without being stored. The response leaves the client's cookie as it is and says
/// `Cache-Control: no-store`, whatever the handler said, so that no cache shows it when the outage is over.
///
/// An outage is not "nobody is signed in" (I7): where the difference matters, ask for [`outage`](Self::outage)
/// or [`require`](Self::require), or take [`Session`], which answers with 503 by itself. A visitor without a
/// cookie has nothing to load, and meets an outage only when something is written.
///
/// # Examples
///
/// ```
/// use session_axum::{Key, PublicSession, SessionError};
///
/// const NAME: Key<String> = Key::new("name");
/// const LIKES: Key<u64> = Key::new("likes");
///
/// async fn home(session: PublicSession) -> String {
///     match (session.outage(), session.get(NAME)) {
///         (Some(_), _) => "Hello. Signing in is not possible at the moment.".to_owned(),
///         (None, Some(name)) => format!("Hello, {name}."),
///         (None, None) => "Hello. Sign in?".to_owned(),
///     }
/// }
///
/// async fn like(session: PublicSession) -> Result<String, SessionError> {
///     let likes = session.require()?.update(LIKES, |likes| *likes += 1)?; // 503 in an outage
///     Ok(likes.to_string())
/// }
/// # use axum::routing::get;
/// # let _: axum::Router = axum::Router::new().route("/", get(home).post(like));
/// ```
#[derive(Clone, Debug)]
pub struct PublicSession(Result<Session, StoreError>);

impl PublicSession {
    /// What the store said instead of giving the session, if it is out.
    #[must_use]
    pub fn outage(&self) -> Option<&StoreError> {
        self.0.as_ref().err()
    }

    /// The session, if the store is not out.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.0.as_ref().ok()
    }

    /// The session for a handler that cannot do without: to write, to sign in or out.
    ///
    /// # Errors
    ///
    /// Returns the error of the store if it is out, as a response 503.
    pub fn require(&self) -> Result<&Session, SessionError> {
        self.0.as_ref().map_err(|outage| outage.clone().into())
    }

    /// Reads a value, as [`Session::get`](session_core::Session::get) does; nothing in an outage.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        self.session()?.get(key)
    }

    /// Tells whether there is a value of this name; not in an outage.
    #[must_use]
    pub fn contains<T, C>(&self, key: Key<'_, T, C>) -> bool {
        self.session().is_some_and(|session| session.contains(key))
    }

    /// Whose session it is, if somebody signed in; nobody's in an outage.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.session()?.owner()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PublicSession {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let slot = parts.extensions.get::<Arc<Slot>>().ok_or(SessionRejection::MissingLayer)?;
        match slot.open(&parts.headers).await {
            Ok(session) => Ok(Self(Ok(Session::new(session.clone())))),
            Err(error) => {
                let source = error.source().map(ToString::to_string);
                tracing::warn!(
                    target: "session", %error, source, "request goes on without its session"
                );
                Ok(Self(Err(error)))
            }
        }
    }
}
