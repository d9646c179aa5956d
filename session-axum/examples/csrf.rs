//! A guest book whose forms another site cannot send: `CsrfLayer` in front of all routes, and a
//! token in the form.
//!
//! ```sh
//! cargo run -p session-axum --example csrf
//! curl -c jar -b jar http://127.0.0.1:3000/    # the form, with the token
//! curl -b jar -d note=hello -d token=TOKEN http://127.0.0.1:3000/notes
//! curl -b jar -d note=hello http://127.0.0.1:3000/notes    # 403: no token
//! curl -b jar -d user=ada -H 'Sec-Fetch-Site: cross-site' http://127.0.0.1:3000/login    # 403
//! ```
//!
//! The guide `csrf` of the crate explains when the layer alone suffices.

use std::error::Error;

use axum::{
    Form, Router,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use session_axum::{Backend, Key, MemoryStore, Session, SessionCookie, SessionError, SessionLayer};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpListener;
use tower_http::csrf::{ConfigError, CsrfLayer};

const NOTES: Key<Vec<String>> = Key::new("notes");

/// The secret in the forms of a session.
const FORM_TOKEN: Key<String> = Key::new("form-token");

/// A front end on another host, whose scripts send forms too.
pub(crate) const FRONT_END: &str = "http://localhost:5173";

async fn page(session: Session) -> Result<Markup, SessionError> {
    // Stored before it is shown: pages that the user opens concurrently have the same token.
    let token = session.get_or_insert(FORM_TOKEN, random_token).await?;
    Ok(html! {
        (DOCTYPE)
        title { "Guest book" }
        @for note in session.get(NOTES).unwrap_or_default() { p { (note) } }
        form method="post" action="/notes" {
            input type="hidden" name="token" value=(token);
            input name="note" aria-label="Note" required;
            button { "Write" }
        }
        form method="post" action="/login" {
            input name="user" aria-label="Name" required;
            button { "Sign in" }
        }
    })
}

#[derive(Deserialize)]
struct Note {
    note: String,
    /// Missing in a form that does not know the token.
    #[serde(default)]
    token: String,
}

async fn write(session: Session, Form(form): Form<Note>) -> Result<Response, SessionError> {
    if !is_form_token(&session, &form.token) {
        let text = "This form is out of date. Load the page again.\n";
        return Ok((StatusCode::FORBIDDEN, text).into_response());
    }
    session.update(NOTES, move |notes| notes.push(form.note.clone()))?;
    Ok(Redirect::to("/").into_response())
}

/// Returns `true` if the form came from a page of this session. The comparison takes the same time
/// for every wrong token.
fn is_form_token(session: &Session, token: &str) -> bool {
    let stored = session.get(FORM_TOKEN);
    stored.is_some_and(|stored| stored.as_bytes().ct_eq(token.as_bytes()).into())
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

/// Signs in. A real application checks a password or a passkey here.
async fn login(session: Session, Form(form): Form<SignIn>) -> Result<Redirect, SessionError> {
    session.authenticate(form.user)?;
    // A token that somebody saw before the login is worthless after it, like the session ID.
    session.remove(FORM_TOKEN)?;
    Ok(Redirect::to("/"))
}

fn random_token() -> String {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn app(store: impl Backend) -> Result<Router, ConfigError> {
    // For plain HTTP on localhost. In production keep the default.
    let cookie = SessionCookie::insecure_for_development();
    Ok(Router::new()
        .route("/", get(page))
        .route("/notes", post(write))
        .route("/login", post(login))
        .layer(SessionLayer::new(store).with_cookie(cookie))
        // Outside of the sessions: a refused request loads none.
        .layer(CsrfLayer::new().add_trusted_origin(FRONT_END)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app(MemoryStore::default())?).await?)
}
