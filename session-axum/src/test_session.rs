use http::HeaderValue;
use session_core::{CookieChange, Owner, Session, SessionError, SessionId};

use crate::{BearerToken, SessionLayer, transport::Channel};

/// Cookies and bearer tokens for tests of an application's handlers.
impl SessionLayer {
    /// Signs a user in to a new session in the layer's store, and returns the header `Cookie` of
    /// this user's requests.
    ///
    /// The guide [`tests`](crate::guide::tests) shows a complete test.
    ///
    /// # Panics
    ///
    /// Panics if the layer lacks a cookie, if the store fails, if the owner is empty or longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES), and if the login exceeds the session
    /// limit.
    pub async fn signed_in_cookie(&self, owner: impl Into<Owner>) -> HeaderValue {
        self.session_cookie(|session| session.authenticate(owner)).await
    }

    /// Signs a user in to a new session in the layer's store, and returns the header `Authorization`
    /// of this user's requests.
    ///
    /// # Panics
    ///
    /// Panics if the layer lacks a bearer token. Also as [`signed_in_cookie`](Self::signed_in_cookie).
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, body::Body, http::{Request, header}, routing::get};
    /// use session_axum::{BearerToken, MemoryStore, SessionLayer, SignedIn};
    /// use tower::ServiceExt as _;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let layer = SessionLayer::new(MemoryStore::default()).with_transport(BearerToken::default());
    /// let request = Request::get("/").header(header::AUTHORIZATION, layer.signed_in_bearer(7).await);
    /// let app = Router::new()
    ///     .route("/", get(async |SignedIn(user): SignedIn<u64>| user.to_string()))
    ///     .layer(layer);
    /// let response = app.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    /// assert_eq!(response.status(), 200);
    /// # }
    /// ```
    pub async fn signed_in_bearer(&self, owner: impl Into<Owner>) -> HeaderValue {
        self.session_bearer(|session| session.authenticate(owner)).await
    }

    /// Begins a session in the layer's store, and returns the header `Cookie` of its requests. The
    /// closure writes the values of the session, or signs a user in, as a handler does.
    ///
    /// # Panics
    ///
    /// Panics if the layer lacks a cookie, if the closure returns an error or changes nothing, and if
    /// the commit fails.
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
        let cookie = self.cookie().unwrap_or_else(|| panic!("the layer lacks a cookie"));
        cookie.sent(&session_id(self.channel(false), begin).await)
    }

    /// Begins a session in the layer's store, and returns the header `Authorization` of its requests.
    ///
    /// # Panics
    ///
    /// Panics if the layer lacks a bearer token. Also as [`session_cookie`](Self::session_cookie).
    pub async fn session_bearer(
        &self,
        begin: impl FnOnce(&Session) -> Result<(), SessionError>,
    ) -> HeaderValue {
        assert!(self.bearer_token().is_some(), "the layer lacks a bearer token");
        BearerToken::sent(&session_id(self.channel(true), begin).await)
    }
}

async fn session_id(
    channel: &Channel,
    begin: impl FnOnce(&Session) -> Result<(), SessionError>,
) -> SessionId {
    let session = channel.sessions().open([]).await.expect("a request without an ID needs no I/O");
    begin(&session).expect("the closure succeeds");
    match session.finish().await.expect("the store takes the session") {
        CookieChange::Set { id, .. } => id,
        _ => panic!("a session without a change has no ID"),
    }
}
