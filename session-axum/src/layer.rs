use std::{fmt, sync::Arc};

use session_core::Sessions;
use tower_layer::Layer;
#[cfg(feature = "testing")]
use {
    http::HeaderValue,
    session_core::{CookieChange, Owner, Session, SessionError},
};

use crate::{SessionCookie, SessionService, request_session::Settings};

/// A layer that gives each request its session.
///
/// The layer itself does no I/O. The session is loaded when a handler asks for [`Session`], and the
/// handler's changes are committed before the head of the response leaves. A route without an
/// extractor of the session costs almost the same as without the layer.
///
/// # Failures
///
/// A response with a status of 500 and above stores nothing that was not committed before, so that a
/// timeout or a panic inside of the layer stores no half of a request. All other responses commit
/// the changes, a 404 too.
///
/// If the commit fails, an error replaces the handler's response ([I6]). The headers of inner layers
/// stay, except those that describe the lost response: its content, its target, its age in caches.
/// The extensions hold the error as an `Arc<SessionError>`, for an error page.
///
/// If a [`commit`](session_core::Session::commit) of the handler fails, and the handler responds with
/// a status of 400 and above, then its response stays, and the changes are discarded.
///
/// # Cancellation
///
/// If the request is dropped before its response is complete, because the client has gone away or a
/// timeout outside of the layer has fired, the changes are given up. A task that still holds the
/// session cannot change it any more.
///
/// The same layer, added twice to a stack, is one: the inner clone passes requests on. Of two
/// different layers, the inner one gives the session to its handlers.
///
/// [`Session`]: crate::Session
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use session_axum::{ConfigError, Lifetime, MemoryStore, SessionLayer, Sessions};
///
/// # fn main() -> Result<(), ConfigError> {
/// let app: Router = Router::new()
///     .route("/", get(async || "hello"))
///     .layer(SessionLayer::new(MemoryStore::default()));
///
/// // With rules of its own:
/// let sessions =
///     Sessions::builder(MemoryStore::default()).with_lifetime(Lifetime::strict()).build()?;
/// let layer = SessionLayer::new(sessions);
/// # drop((app, layer));
/// # Ok(())
/// # }
/// ```
///
/// [I6]: session_core::guarantees#i6-acknowledged-means-stored
#[derive(Clone)]
pub struct SessionLayer {
    settings: Arc<Settings>,
}

impl SessionLayer {
    /// Creates a layer for a store, or for [`Sessions`] with rules of their own.
    #[must_use]
    pub fn new(sessions: impl Into<Sessions>) -> Self {
        let (sessions, cookie) = (sessions.into(), SessionCookie::default());
        let settings = Settings { sessions, cookie, commits_server_errors: false };
        Self { settings: Arc::new(settings) }
    }

    /// Sets the cookie. The default is [`SessionCookie::default`].
    #[must_use]
    pub fn with_cookie(self, cookie: SessionCookie) -> Self {
        self.with(|settings| settings.cookie = cookie)
    }

    /// Sets whether a response with a status of 500 and above commits the changes of its handler.
    /// The default is `false`.
    #[must_use]
    pub fn with_server_errors_committed(self, commit: bool) -> Self {
        self.with(|settings| settings.commits_server_errors = commit)
    }

    fn with(&self, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::clone(&self.settings);
        set(&mut settings);
        Self { settings: Arc::new(settings) }
    }

    /// The sessions of the layer, for work outside of a request: an administrator's
    /// [`revoke_all`](Sessions::revoke_all), counters, [events](Sessions::events).
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.settings.sessions
    }

    /// The cookie of the layer.
    #[must_use]
    pub fn cookie(&self) -> &SessionCookie {
        &self.settings.cookie
    }
}

/// Cookies for tests of an application's handlers.
#[cfg(feature = "testing")]
impl SessionLayer {
    /// Signs a user in to a new session in the layer's store, and returns the header `Cookie` of
    /// this user's requests.
    ///
    /// The section "Test your handlers" of the [crate's page](crate) shows a complete test.
    ///
    /// # Panics
    ///
    /// Panics if the store fails, if the owner is empty or longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES), and if the login exceeds the session
    /// limit.
    pub async fn signed_in_cookie(&self, owner: impl Into<Owner>) -> HeaderValue {
        self.session_cookie(|session| session.authenticate(owner)).await
    }

    /// Begins a session in the layer's store, and returns the header `Cookie` of its requests. The
    /// closure writes the values of the session, or signs a user in, as a handler does.
    ///
    /// # Panics
    ///
    /// Panics if the closure returns an error or changes nothing, and if the commit fails.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_axum::{Key, MemoryStore, SessionLayer};
    ///
    /// const CART: Key<Vec<String>> = Key::new("cart");
    ///
    /// # async fn test() {
    /// let layer = SessionLayer::new(MemoryStore::default());
    /// let cookie = layer
    ///     .session_cookie(|session| {
    ///         session.authenticate(7)?;
    ///         session.set(CART, vec!["tea".to_owned()])
    ///     })
    ///     .await;
    /// # drop(cookie);
    /// # }
    /// ```
    pub async fn session_cookie(
        &self,
        begin: impl FnOnce(&Session) -> Result<(), SessionError>,
    ) -> HeaderValue {
        let session =
            self.sessions().open([]).await.expect("a request without a cookie needs no I/O");
        begin(&session).expect("the closure succeeds");
        match session.finish().await.expect("the store takes the session") {
            CookieChange::Set { id, .. } => self.cookie().sent(&id),
            _ => panic!("a session without a change has no cookie"),
        }
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService::new(inner, Arc::clone(&self.settings))
    }
}

impl fmt::Debug for SessionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer")
            .field("sessions", self.sessions())
            .field("cookie", &self.settings.cookie)
            .finish()
    }
}
