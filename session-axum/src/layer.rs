use std::{fmt, sync::Arc};

use axum_core::response::Response;
use session_core::{SessionError, Sessions};
use tower_layer::Layer;

use crate::{
    BearerToken, ErrorFormat, SessionCookie, SessionName, SessionService, Transport,
    error_page::ErrorPage,
    named::Slot,
    settings::{Config, Settings},
};

/// A layer that gives each request its session.
///
/// The layer itself does no I/O. The session is loaded when a handler asks for [`Session`], and the
/// handler's changes are committed before the head of the response leaves. A route without an
/// extractor of the session costs almost the same as without the layer.
///
/// # Failures
///
/// A response with a status of 500 and above, or 408, stores nothing that was not committed before,
/// so that a timeout or a panic inside of the layer stores no half of a request. The same holds for
/// the response of a [`SessionError`], with which `?` leaves a handler, and for any other response
/// that an application gives such an error by [`with_response`](crate::SessionError::with_response).
/// All other responses commit the changes, a 404 too. So a handler that answers 401 after a call of
/// [`authenticate`](crate::Session::authenticate), because a second factor is wrong, signs the user in:
/// check everything first, or call [`discard`](crate::Session::discard).
///
/// [`SessionError`]: crate::SessionError
///
/// If the commit fails, an error replaces the handler's response ([I6]). The headers of inner layers
/// stay, except those that describe the lost response: its content, its target, its age in caches.
/// [`with_error_page`](Self::with_error_page) draws its page. The extensions hold the error as an
/// `Arc<SessionError>`.
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
/// # Several layers
///
/// The same layer, added twice to a stack, is one: the inner one passes requests on. Layers are the
/// same if they have the same [`Sessions`] and the same settings. A layer with a
/// [name](Self::named) has its own session, beside the one without a name. Of two different layers
/// of the same name, or without one, the inner layer gives the session to its handlers.
///
/// Each layer commits its own session, the inner layer first. If the commit of the outer layer fails,
/// the changes of the inner one are stored already.
///
/// # Other layers
///
/// The layer fits inside and outside of every layer for HTTP. The response is that of Axum, for an
/// inner service with any body. A layer that uses the session, such as
/// [`RequireSignIn`](crate::RequireSignIn), belongs inside. The guide
/// [`layers`](crate::guide::layers) shows a whole stack.
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
    ///
    /// # Security
    ///
    /// Two applications on one store need a cookie name each, or a
    /// [realm](Sessions::in_realm) each: otherwise an ID of one opens its session in the other, and user
    /// 1 of the shop may be user 1 of the back office. On one host, two applications need a cookie name
    /// each in any case: browsers keep one jar for all ports and paths of a host, and of two cookies with one
    /// name the newer replaces the older.
    #[must_use]
    pub fn new(sessions: impl Into<Sessions>) -> Self {
        let config = Config {
            sessions: sessions.into(),
            transport: Transport::default(),
            slot: Slot::default(),
            commits_server_errors: false,
            error_page: None,
        };
        Self { settings: Settings::new(config) }
    }

    /// Sets how clients hold their session ID. The default is the cookie
    /// [`SessionCookie::default`].
    ///
    /// # Examples
    ///
    /// ```
    /// use session_axum::{BearerToken, MemoryStore, SessionCookie, SessionLayer, Sessions, Transport};
    ///
    /// let sessions = Sessions::new(MemoryStore::default());
    /// let layer = SessionLayer::new(sessions);
    /// let pages = layer.clone();
    /// let api = layer.clone().with_transport(BearerToken::default());
    /// let both = layer.with_transport(Transport::CookieOrBearer(
    ///     SessionCookie::default(),
    ///     BearerToken::default(),
    /// ));
    /// # drop((pages, api, both));
    /// ```
    #[must_use]
    pub fn with_transport(self, transport: impl Into<Transport>) -> Self {
        self.with(|config| config.transport = transport.into())
    }

    /// Sets the cookie as the [transport](Self::with_transport).
    #[must_use]
    pub fn with_cookie(self, cookie: SessionCookie) -> Self {
        self.with_transport(cookie)
    }

    /// Names the layer: its session is beside that of another layer, as [`SessionOf`].
    ///
    /// The order of the layers makes no difference. The name is a part of the cookie's name and of the
    /// header that reports a bearer token: the name `admin` changes `__Host-session` to
    /// `__Host-admin-session`, and `session-token` to `admin-session-token`. An ID of the layer is
    /// unknown in a layer of another name, also if both share a store.
    ///
    /// [`RequireSignIn::named`](crate::RequireSignIn::named) guards routes by the named session.
    /// [`SignedIn<T, N>`](crate::SignedIn) and [`SessionOrOutage<N>`](crate::SessionOrOutage) are the
    /// other extractors of it.
    ///
    /// [`SessionOf`]: crate::SessionOf
    ///
    /// # Security
    ///
    /// The layers of one store share its owners: `revoke_all(7)` revokes the sessions of user 7 in
    /// all of them. If administrators have numbers of their own, give their layer its own store.
    ///
    /// # Examples
    ///
    /// An administrator's session beside that of the shop:
    ///
    /// ```
    /// use axum::{Router, routing::get};
    /// use session_axum::{MemoryStore, Session, SessionLayer, SessionName, SessionOf};
    ///
    /// struct Admin;
    ///
    /// impl SessionName for Admin {
    ///     const NAME: &'static str = "admin";
    /// }
    ///
    /// async fn page(session: Session, admin: SessionOf<Admin>) -> String {
    ///     let (user, admin) = (session.owner_as::<u64>(), admin.owner_as::<u64>());
    ///     format!("signed in as {user:?}, and as administrator {admin:?}")
    /// }
    ///
    /// let app: Router = Router::new()
    ///     .route("/", get(page))
    ///     .layer(SessionLayer::new(MemoryStore::default()))
    ///     .layer(SessionLayer::new(MemoryStore::default()).named::<Admin>());
    /// # drop(app);
    /// ```
    #[must_use]
    pub fn named<N: SessionName>(self) -> Self {
        self.with(|config| config.slot = Slot::of::<N>())
    }

    /// Sets whether a response with a status of 500 and above, or 408, commits the changes of its
    /// handler. The default is `false`. The response of a [`SessionError`](crate::SessionError) never
    /// commits changes.
    #[must_use]
    pub fn with_server_errors_committed(self, commit: bool) -> Self {
        self.with(|config| config.commits_server_errors = commit)
    }

    /// Sets the function that draws the page of an error, in place of a line of text.
    ///
    /// The layer calls it for each response of a [`SessionError`](crate::SessionError): of a handler, an
    /// extractor, a guard, or a failed commit. The status and the headers of the response stay, such
    /// as `Retry-After` and the cookie. The page gives the body and its `Content-Type`, and may add headers.
    /// A response that the application has made by
    /// [`with_response`](crate::SessionError::with_response) stays as it is. Any other body that a layer
    /// inside gives to such a response is replaced.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Json, response::{Html, IntoResponse}};
    /// use session_axum::{ErrorFormat, MemoryStore, SessionError, SessionLayer};
    ///
    /// let layer = SessionLayer::new(MemoryStore::default()).with_error_page(|error, format| {
    ///     let text = match error {
    ///         SessionError::SignedOut => "Sign in first.",
    ///         SessionError::Ended => "Your session has ended.",
    ///         error if error.is_retryable() => "Back in a moment.",
    ///         _ => "This did not work.",
    ///     };
    ///     match format {
    ///         ErrorFormat::Html => Html(format!("<!doctype html><h1>{text}</h1>")).into_response(),
    ///         _ => Json(text).into_response(),
    ///     }
    /// });
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn with_error_page(
        self,
        page: impl Fn(&SessionError, ErrorFormat) -> Response + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.error_page = Some(ErrorPage::new(page)))
    }

    fn with(&self, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.settings.config.clone();
        set(&mut config);
        Self { settings: Settings::new(config) }
    }

    /// The sessions of the layer, in the realm of its cookie or else of its bearer token: for work outside of a request: an administrator's
    /// [`revoke_all`](Sessions::revoke_all), counters, [events](Sessions::events).
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        self.settings.channel(false).sessions()
    }

    /// The transport of the layer. A [name](Self::named) of the layer is a part of the names of the
    /// cookie and of the response header. For another layer, use the transport with which this one was
    /// made: a layer with a name adds the name again.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.settings.transport
    }

    /// The cookie of the layer, if the [transport](Self::transport) has one.
    #[must_use]
    pub fn cookie(&self) -> Option<&SessionCookie> {
        self.transport().cookie()
    }

    /// The bearer token of the layer, if the [transport](Self::transport) has one.
    #[must_use]
    pub fn bearer_token(&self) -> Option<&BearerToken> {
        self.transport().bearer_token()
    }
}

#[cfg(feature = "testing")]
impl SessionLayer {
    pub(crate) fn channel(&self, is_bearer_chosen: bool) -> &crate::transport::Channel {
        self.settings.channel(is_bearer_chosen)
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
            .field("transport", self.transport())
            .finish()
    }
}
