//! An API for a mobile application and for a front end on another host, whose clients hold the
//! session ID in a bearer token. Browsers on the same host use the cookie, by the same routes.
//!
//! ```sh
//! cargo run -p session-axum --example bearer
//! curl -i -d user=ada -H 'Authorization: Bearer' http://127.0.0.1:3000/login    # session-token: ID
//! curl -H 'Authorization: Bearer ID' http://127.0.0.1:3000/me
//! curl -i -d '' -H 'Authorization: Bearer ID' http://127.0.0.1:3000/logout
//! ```
//!
//! The guide `bearer` of the crate shows the client.

use std::error::Error;

use axum::{
    Form, Router,
    http::{HeaderValue, Method, header},
    routing::{get, post},
};
use serde::Deserialize;
use session_axum::{
    Backend, BearerToken, MemoryStore, Session, SessionCookie, SessionError, SessionLayer,
    SignedIn, Transport,
};
use tokio::net::TcpListener;
use tower_http::{
    cors::CorsLayer,
    csrf::{ConfigError, CsrfLayer},
};

/// A front end on another host, whose scripts use the API.
const FRONT_END: &str = "http://localhost:5173";

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

/// Signs in. A real application checks a password or a passkey here.
async fn login(session: Session, Form(form): Form<SignIn>) -> Result<(), SessionError> {
    session.authenticate(form.user)
}

async fn logout(session: Session) -> Result<(), SessionError> {
    session.destroy()
}

async fn me(SignedIn(user): SignedIn<String>) -> String {
    format!("{user}\n")
}

fn app(store: impl Backend) -> Result<Router, ConfigError> {
    let token = BearerToken::default();
    let cors = CorsLayer::new()
        .allow_origin(HeaderValue::from_static(FRONT_END))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([token.response_header().clone()]);
    // For plain HTTP on localhost. In production keep the default.
    let cookie = SessionCookie::insecure_for_development();
    let layer = SessionLayer::new(store).with_transport(Transport::CookieOrBearer(cookie, token));
    // A request without a token uses the cookie, so that a form of another site could sign a browser
    // in to another account.
    let csrf = CsrfLayer::new().add_trusted_origin(FRONT_END)?;
    Ok(Router::new()
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/me", get(me))
        .layer(layer)
        .layer(csrf)
        .layer(cors))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(MemoryStore::default())?).await?)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request, response::Response};
    use tower::ServiceExt as _;

    use super::*;

    /// Sends a request of the front end's client.
    async fn send(app: &Router, request: &str, token: &str) -> Response {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ORIGIN, FRONT_END)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Body::from("user=ada")).expect("a request");
        app.clone().oneshot(request).await.expect("an answer")
    }

    #[tokio::test]
    async fn client_signs_in_and_out_by_its_token() {
        let app = app(MemoryStore::default()).expect("an origin");
        let login = send(&app, "POST /login", "").await;
        let exposed = &login.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS];
        let token = login.headers()[exposed.to_str().expect("a name")].to_str().expect("an ID");
        assert!(login.headers().get(header::SET_COOKIE).is_none());
        assert_eq!(send(&app, "GET /me", token).await.status(), 200);
        let logout = send(&app, "POST /logout", token).await;
        assert_eq!(logout.headers()["session-token"], "");
        assert_eq!(send(&app, "GET /me", token).await.status(), 401);
    }

    #[tokio::test]
    async fn form_of_another_site_signs_nobody_in() {
        let request = Request::post("/login")
            .header(header::ORIGIN, "https://evil.example")
            .header(header::HOST, "localhost:3000")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from("user=mallory"))
            .expect("a request");
        let app = app(MemoryStore::default()).expect("an origin");
        let answer = app.oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), 403);
        assert!(answer.headers().get(header::SET_COOKIE).is_none());
    }
}
