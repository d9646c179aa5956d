use std::{error::Error as _, fmt, marker::PhantomData};

use axum_core::extract::FromRequestParts;
use http::request::Parts;
use session_core::{Codec, Key, Owner, Session, SessionError, SessionRejection, StoreError};

use crate::{SessionSlot, Unnamed};

/// The session of the request, or the outage of its store: for a page that is shown in both cases.
///
/// While the store works, this is the [`Session`]. During an outage the handler runs as well, and
/// [`outage`](Self::outage) returns the error. Reads then return `None`, and
/// [`require`](Self::require), the only way to write or to sign in, is an error: a 503. The
/// response leaves the client's cookie as it is, and always has `Cache-Control: no-store`, so that
/// caches do not show the response after the outage.
///
/// An outage is not "nobody is signed in" ([I7]). Where the difference matters, check
/// [`outage`](Self::outage), or take [`Session`] itself. For a visitor without a cookie, the
/// session is new and not loaded, so that only a write meets the outage.
///
/// `SessionOrOutage<N>` is the session of a [named layer](crate::SessionLayer::named).
///
/// # Examples
///
/// ```
/// use session_axum::{Key, SessionError, SessionOrOutage};
///
/// const NAME: Key<String> = Key::new("name");
/// const LIKES: Key<u64> = Key::new("likes");
///
/// async fn home(session: SessionOrOutage) -> String {
///     match (session.outage(), session.get(NAME)) {
///         (Some(_), _) => "Hello. Signing in is not possible at the moment.".to_owned(),
///         (None, Some(name)) => format!("Hello, {name}."),
///         (None, None) => "Hello. Sign in?".to_owned(),
///     }
/// }
///
/// async fn like(session: SessionOrOutage) -> Result<String, SessionError> {
///     let likes = session.require()?.update(LIKES, |likes| *likes += 1)?; // 503 in an outage
///     Ok(likes.to_string())
/// }
/// # use axum::routing::get;
/// # let _: axum::Router = axum::Router::new().route("/", get(home).post(like));
/// ```
///
/// [I7]: session_core::guarantees#i7-an-outage-is-not-a-logout
pub struct SessionOrOutage<N: SessionSlot = Unnamed> {
    outcome: Result<Session, StoreError>,
    name: PhantomData<fn() -> N>,
}

impl<N: SessionSlot> SessionOrOutage<N> {
    /// The error of the store, if it could not load the session.
    #[must_use]
    pub fn outage(&self) -> Option<&StoreError> {
        self.outcome.as_ref().err()
    }

    /// The session. Returns `None` in an outage.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        self.outcome.as_ref().ok()
    }

    /// Returns the session, for a handler that writes, signs in or signs out.
    ///
    /// # Errors
    ///
    /// Returns the error of the store in an outage: a 503.
    pub fn require(&self) -> Result<&Session, SessionError> {
        self.outcome.as_ref().map_err(|outage| outage.clone().into())
    }

    /// Reads a value, as [`Session::get`] does. Returns `None` in an outage.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        self.session()?.get(key)
    }

    /// Returns `true` if there is a value of this name. Returns `false` in an outage.
    #[must_use]
    pub fn contains<T, C>(&self, key: Key<'_, T, C>) -> bool {
        self.session().is_some_and(|session| session.contains(key))
    }

    /// The user to whom the session belongs. Returns `None` in an outage.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.session()?.owner()
    }
}

impl<N: SessionSlot, S: Send + Sync> FromRequestParts<S> for SessionOrOutage<N> {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let outcome = match N::slot().open(parts).await {
            Ok(session) => Ok(session),
            Err(SessionRejection::Store(error)) => {
                let source = error.source().map(ToString::to_string);
                tracing::warn!(target: "session", %error, source, "request goes on without its session");
                Err(error)
            }
            Err(rejection) => return Err(rejection),
        };
        Ok(Self { outcome, name: PhantomData })
    }
}

impl<N: SessionSlot> Clone for SessionOrOutage<N> {
    fn clone(&self) -> Self {
        Self { outcome: self.outcome.clone(), name: PhantomData }
    }
}

impl<N: SessionSlot> fmt::Debug for SessionOrOutage<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionOrOutage").field(&self.outcome).finish()
    }
}
