use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::extract::OriginalUri;
use axum_core::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{Extensions, HeaderValue, Method, Request, StatusCode, header, request::Parts};
use session_core::{ConfigError, SessionError, SessionExtension, SessionRejection};
use tower_layer::Layer;
use tower_service::Service;

use crate::{ErrorFormat, SessionName, SessionSlot, named::Slot, next_path};

/// A layer that lets only signed-in users reach its routes.
///
/// ```text
///  SessionLayer ─▶ RequireSignIn ─┬─ signed in ──────────────────▶ handler
///                                 ├─ store failed ───────────────▶ 503
///                                 ├─ login page, accepts HTML ───▶ 303 to the login page
///                                 └─ otherwise ──────────────────▶ 401, or 403 for an old login
/// ```
///
/// Call `route_layer` with the guard after the routes that it protects, and `layer` with
/// [`SessionLayer`] after the guard. The login page stays outside of the guard. With `layer` in place
/// of `route_layer`, the guard also answers for paths without a route. On a route without a
/// [`SessionLayer`], each response is a 500.
///
/// The header `Accept` names the formats of a client, see [`ErrorFormat`]. The body of a 401 or 403 is text.
/// For JSON it is `{"error":"signed out"}`, `{"error":"login too old"}` or `{"error":"acting as a user"}`.
/// [`SessionLayer::with_error_page`](crate::SessionLayer::with_error_page) draws another. Every refusal has
/// `Cache-Control: no-store`: a cached one would outlive the login.
///
/// The guard checks the login only. The application checks roles and permissions.
///
/// # "Your session has ended"
///
/// A refusal leaves the cookie as it is. If the session has expired or was revoked, the browser sends
/// the old ID to the login page too, and [`Session::had_unknown_id`](crate::Session::had_unknown_id) returns `true` there. The
/// address stays free of such a note, because anyone can write an address.
///
/// # Security
///
/// An outage of the store is a 503 and never a redirect ([I7]). A CORS layer belongs outside of the
/// guard, because browsers send preflight requests without a cookie.
///
/// # Examples
///
/// The guide [`guards`](crate::guide::guards) shows the login page as well.
///
/// ```
/// use axum::{Router, routing::{get, post}};
/// use session_axum::{ConfigError, MemoryStore, RequireSignIn, SessionLayer, SignedIn};
/// use std::time::Duration;
///
/// async fn invoices(SignedIn(user): SignedIn<u64>) -> String {
///     format!("the invoices of user {user}")
/// }
///
/// async fn change_password(SignedIn(_user): SignedIn<u64>) {}
///
/// fn app() -> Result<Router, ConfigError> {
///     let guard = RequireSignIn::redirect_to("/login")?;
///     let pages = Router::new().route("/invoices", get(invoices)).route_layer(guard.clone());
///     let sensitive = Router::new()
///         .route("/password", post(change_password))
///         .route_layer(guard.fresh_within(Duration::from_secs(5 * 60)));
///     Ok(Router::new()
///         .route("/login", get(async || "the login page"))
///         .merge(pages)
///         .merge(sensitive)
///         .layer(SessionLayer::new(MemoryStore::default())))
/// }
/// # app().unwrap();
/// ```
///
/// [`SessionLayer`]: crate::SessionLayer
/// [I7]: session_core::guarantees#i7-an-outage-is-not-a-logout
#[derive(Clone, Debug, Default)]
#[must_use = "a guard protects only the routes to which it is added"]
pub struct RequireSignIn {
    login_page: Option<Arc<str>>,
    max_age: Option<Duration>,
    slot: Slot,
}

impl RequireSignIn {
    /// Creates a guard that answers 401, for an API.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a guard that redirects clients that accept HTML to a login page, by a 303.
    ///
    /// For a GET or HEAD, the redirect carries the path and query of the request in the parameter
    /// `next`, which the login page reads as a [`NextPath`](crate::NextPath). In a nested `Router`,
    /// `next` is the whole path. A path that `NextPath` would refuse is left out.
    ///
    /// A request for the login page itself is a 401: a redirect would loop.
    ///
    /// # Errors
    ///
    /// Returns a [`ConfigError`] unless the login page is a path of this site, such as `/login` or
    /// `/login?lang=en`, without a fragment.
    pub fn redirect_to(login_page: &str) -> Result<Self, ConfigError> {
        if !next_path::is_of_this_site(login_page) || login_page.contains('#') {
            let text = format!("the login page {login_page:?} is not a path of this site");
            return Err(ConfigError::new(text));
        }
        Ok(Self { login_page: Some(login_page.into()), ..Self::default() })
    }

    /// Demands that the user signed in at most `max_age` ago, as
    /// [`Session::require_fresh`](crate::Session::require_fresh) does:
    /// for a change of the password or address (OWASP ASVS 5.0, 7.5.1 and 7.5.3). The default is a
    /// login of any age. Zero refuses nearly every request.
    ///
    /// After an older login, the response is a redirect to the login page, or a 403. The login page
    /// must show its form to signed-in users too: a redirect back would loop. A user who
    /// [acts as](crate::Session::act_as) another gets a 403 always.
    pub fn fresh_within(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Demands that a user signed in to the session of a [named layer](crate::SessionLayer::named).
    /// The default is the layer without a name.
    ///
    /// Handlers behind the guard ask for this user by the same name, as
    /// [`SignedIn<u64, Admin>`](crate::SignedIn). Without this name, `SignedIn` is refused: the handler
    /// would act for a user that the guard has not checked. If a request passes several guards, the
    /// innermost counts. A guard without a name permits `SignedIn` of any name.
    ///
    /// [`Session`](crate::Session), [`SessionOf`](crate::SessionOf) and
    /// [`SessionOrOutage`](crate::SessionOrOutage) are never refused: by them a handler reads the
    /// user of another session.
    pub fn named<N: SessionName>(mut self) -> Self {
        self.slot = Slot::of::<N>();
        self
    }

    /// Returns the response to a request that must not pass.
    async fn refusal(&self, parts: &Parts) -> Option<Response> {
        let session = match self.slot.open(parts).await {
            Ok(session) => session,
            Err(rejection) => return Some(rejection.into_response()),
        };
        let error = match (session.owner(), self.max_age) {
            (None, _) => SessionError::SignedOut,
            (Some(_), Some(max_age)) => session.require_fresh(max_age).err()?,
            (Some(_), None) => return None,
        };
        let json = match error {
            SessionError::SignedOut => r#"{"error":"signed out"}"#,
            SessionError::Acting => r#"{"error":"acting as a user"}"#,
            _ => r#"{"error":"login too old"}"#,
        };
        // A login would end the impersonation, and the actor would come back as the own user.
        let can_sign_in = !matches!(error, SessionError::Acting);
        let format = ErrorFormat::of(&parts.headers);
        let location = self.login_location(parts);
        let location = location.filter(|_| can_sign_in && format == ErrorFormat::Html);
        let mut response = if let Some(location) = location {
            (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response()
        } else {
            // The response is made in this branch only, because an error that becomes a response
            // is counted.
            let mut response = error.into_response();
            if format == ErrorFormat::Json {
                // The extensions stay: outer layers find the error there.
                *response.body_mut() = Body::from(json);
                let content_type = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            }
            response
        };
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(header::CACHE_CONTROL, no_store);
        Some(response)
    }

    /// Returns the address of the login page for a request. Returns `None` if the guard has no
    /// login page, or if the request asks for that page.
    fn login_location(&self, parts: &Parts) -> Option<String> {
        let login_page = self.login_page.as_deref()?;
        let (login_path, separator) = match login_page.split_once('?') {
            Some((path, _)) => (path, '&'),
            None => (login_page, '?'),
        };
        // A nested router removes its prefix from the request's URI.
        let original = parts.extensions.get::<OriginalUri>().map(|OriginalUri(uri)| uri);
        let uri = original.unwrap_or(&parts.uri);
        if uri.path() == login_path {
            return None;
        }
        let is_page = parts.method == Method::GET || parts.method == Method::HEAD;
        let next = uri.path_and_query().filter(|_| is_page);
        Some(match next.and_then(|next| next_path::encoded(next.as_str())) {
            Some(next) => format!("{login_page}{separator}next={next}"),
            None => login_page.to_owned(),
        })
    }
}

/// The extension of a request that says whose user the last guard has checked.
#[derive(Clone)]
pub(crate) struct PassedGuard {
    slot: Slot,
    session: SessionExtension,
}

impl PassedGuard {
    /// Rejects `SignedIn` unless it names the session of the innermost guard. A guard without a name
    /// permits every name, because a handler gives a name on purpose.
    pub(crate) fn check<N: SessionSlot>(extensions: &Extensions) -> Result<(), SessionRejection> {
        let Some(Self { slot, session }) = extensions.get() else { return Ok(()) };
        let (asked, name) = (N::slot(), slot.name());
        let is_fitting = match asked.name() == name {
            // Another layer may stand between the guard and the handler.
            true => asked.get(extensions).is_none_or(|asked| asked.is_same(session)),
            false => name.is_none(),
        };
        if is_fitting { Ok(()) } else { Err(SessionRejection::OtherGuard { name }) }
    }
}

impl<S> Layer<S> for RequireSignIn {
    type Service = RequireSignInService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RequireSignInService { inner, guard: self.clone() }
    }
}

/// The service that [`RequireSignIn`] makes.
#[derive(Clone, Debug)]
pub struct RequireSignInService<S> {
    inner: S,
    guard: RequireSignIn,
}

impl<S, B> Service<Request<B>> for RequireSignInService<S>
where
    S: Service<Request<B>, Response: IntoResponse, Future: Send> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that is ready goes with the request.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let guard = self.guard.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if let Some(refusal) = guard.refusal(&parts).await {
                return Ok(refusal);
            }
            let session = guard.slot.get(&parts.extensions).cloned();
            let passed = session.map(|session| PassedGuard { slot: guard.slot, session });
            passed.and_then(|passed| parts.extensions.insert(passed));
            inner.call(Request::from_parts(parts, body)).await.map(IntoResponse::into_response)
        })
    }
}
