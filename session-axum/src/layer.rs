use std::{fmt, sync::Arc};

use session_core::Sessions;
use tower_layer::Layer;

use crate::{SessionCookie, SessionService, request_session::Settings};

/// A layer that gives each request its session.
///
/// The layer itself does no I/O. The session is loaded when a handler asks for [`Session`], and the
/// handler's changes are committed before the head of the response leaves. If the commit fails, an
/// error replaces the handler's response ([I6]). A route that asks for no session costs next to
/// nothing.
///
/// If the request is dropped before its response is complete, because the client has gone away or a
/// timeout outside of the layer has fired, its changes are given up. A task that still holds the
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
        Self { settings: Arc::new(Settings { sessions, cookie }) }
    }

    /// Sets the cookie. The default is [`SessionCookie::default`].
    #[must_use]
    pub fn with_cookie(mut self, cookie: SessionCookie) -> Self {
        let sessions = self.sessions().clone();
        self.settings = Arc::new(Settings { sessions, cookie });
        self
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
