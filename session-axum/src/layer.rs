use std::{fmt, sync::Arc};

use session_core::{BackgroundTask, Sessions};
use tower_layer::Layer;

use crate::{SessionCookie, SessionService, request_session::Settings};

/// Gives the requests to a service their sessions.
///
/// The layer itself does no I/O: a session is loaded when a handler asks for [`Session`], and what the
/// handler changed is committed before the response's head leaves. If that fails, the handler's
/// response is replaced by an error (I6). A route that asks for no session pays next to nothing.
///
/// [`Session`]: crate::Session
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use session_axum::{Lifetime, MemoryStore, SessionLayer, Sessions};
///
/// let app: Router = Router::new()
///     .route("/", get(async || "hello"))
///     .layer(SessionLayer::new(MemoryStore::default()));
///
/// // With rules of its own:
/// let sessions = Sessions::new(MemoryStore::default()).with_lifetime(Lifetime::aal3());
/// let layer = SessionLayer::new(sessions);
/// # drop((app, layer));
/// ```
#[derive(Clone)]
pub struct SessionLayer {
    settings: Arc<Settings>,
}

impl SessionLayer {
    /// Makes a layer for a store, or for [`Sessions`] with rules of their own.
    ///
    /// What requests leave behind, the release of a lock that was dropped, runs on the Tokio runtime in
    /// which that happens, unless [`Sessions::with_spawner`] says otherwise.
    #[must_use]
    pub fn new(sessions: impl Into<Sessions>) -> Self {
        let sessions = Arc::new(sessions.into().with_default_spawner(spawn_on_tokio));
        Self { settings: Arc::new(Settings { sessions, cookie: SessionCookie::default() }) }
    }

    /// Sets the cookie. The default is [`SessionCookie::default`].
    #[must_use]
    pub fn with_cookie(mut self, cookie: SessionCookie) -> Self {
        let sessions = Arc::clone(self.sessions());
        self.settings = Arc::new(Settings { sessions, cookie });
        self
    }

    /// The sessions that the layer gives out, for what is not about one request: counters, an
    /// integration of one's own.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.settings.sessions
    }
}

/// Outside of a runtime the task is dropped: a lock ends by itself.
fn spawn_on_tokio(task: BackgroundTask) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(task);
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
