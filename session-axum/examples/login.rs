//! A page on which people sign in, count their visits, and sign out.
//!
//! ```sh
//! cargo run -p session-axum --example login
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example login --features redis
//! ```
//!
//! With memory a restart of the program ends all sessions; with Redis they go on, and any number of
//! these programs can share them. `PORT` chooses another port than 3000.

use std::{env, error::Error, process::ExitCode, sync::Arc};

use axum::{
    Form, Router,
    http::{HeaderName, StatusCode, header},
    middleware::map_response,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use session_axum::{
    Key, MemoryStore, Session, SessionCookie, SessionError, SessionLayer, SessionRejection,
    SessionStore,
};
use tokio::net::TcpListener;

/// How often the visitor pressed the button.
const VISITS: Key<u64> = Key::new("visits");

/// A message for the next page, shown once.
const NOTICE: Key<String> = Key::new("notice");

/// The page. Only this handler says itself what to do while the store is out of reach; the others
/// leave that to the library, which answers 503.
async fn index(session: Result<Session, SessionRejection>) -> Result<Response, SessionError> {
    let Ok(session) = session else {
        let retry = [(header::RETRY_AFTER, "5")];
        return Ok((StatusCode::SERVICE_UNAVAILABLE, retry, outage_page()).into_response());
    };
    let visits = session.get(VISITS).unwrap_or_default();
    let notice = session.take(NOTICE)?;
    let page = match session.owner().as_ref().and_then(|owner| owner.as_str()) {
        Some(user) => member_page(user, visits, notice.as_deref()),
        None => visitor_page(visits, None),
    };
    Ok(page.into_response())
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
}

/// Signs in. A real application checks a password or a passkey here.
async fn login(session: Session, Form(form): Form<SignIn>) -> Result<Response, SessionError> {
    let user = form.user.trim();
    if let Err(problem) = check_name(user) {
        let visits = session.get(VISITS).unwrap_or_default();
        let page = visitor_page(visits, Some(problem));
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    // What one user left in the session is not for the next one.
    if session.owner().is_some_and(|owner| owner != user.into()) {
        session.destroy()?;
    }
    // The session keeps its values and gets a new ID: one that somebody planted or saw before the
    // login is worth nothing after it.
    session.authenticate(user)?;
    session.set(NOTICE, &"You are signed in, and your session has a new ID.".to_owned())?;
    Ok(Redirect::to("/").into_response())
}

/// Counts a visit. Of two at the same time, in whatever processes, both count.
async fn visit(session: Session) -> Result<Redirect, SessionError> {
    session.update(VISITS, |visits| *visits += 1)?;
    Ok(Redirect::to("/"))
}

/// Signs out: the session is gone from the store, and the cookie from the browser.
async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/"))
}

fn check_name(user: &str) -> Result<(), &'static str> {
    match user.chars().count() {
        0 => Err("Enter a name."),
        1..=64 => Ok(()),
        _ => Err("The name is too long: 64 characters at most."),
    }
}

fn app(store: impl SessionStore) -> Router {
    // For plain HTTP on localhost. In production leave the cookie as it is by default, which only
    // works over HTTPS: `__Host-session`, with `Secure`.
    let cookie = SessionCookie::insecure_for_development();

    // The cookie is `SameSite=Lax`, so a browser does not send it along with a POST from another site,
    // and everything that changes something is a POST: that is the defence against forged requests.
    Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/visit", post(visit))
        .route("/logout", post(logout))
        .layer(SessionLayer::new(store).with_cookie(cookie))
        .route("/style.css", get(style))
        .layer(map_response(secure))
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(cause) = error.source() {
                eprintln!("because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let port = env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let port: u16 = port.parse().map_err(|_| format!("PORT is {port:?}, not a port"))?;
    let app = app(store().await?);
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("port {port} cannot be used: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

/// Redis if `REDIS_URL` says where it is, the memory of this process otherwise.
async fn store() -> Result<Arc<dyn SessionStore>, Box<dyn Error>> {
    match env::var("REDIS_URL") {
        Ok(url) => redis(url).await,
        Err(_) => Ok(Arc::new(MemoryStore::default())),
    }
}

#[cfg(feature = "redis")]
async fn redis(url: String) -> Result<Arc<dyn SessionStore>, Box<dyn Error>> {
    Ok(Arc::new(session_axum::RedisStore::connect(url).await?))
}

#[cfg(not(feature = "redis"))]
async fn redis(_: String) -> Result<Arc<dyn SessionStore>, Box<dyn Error>> {
    Err("REDIS_URL is set, but this program was built without Redis. Run \
         `cargo run -p session-axum --example login --features redis`, or unset REDIS_URL."
        .into())
}

// From here on nothing is about sessions: what the page looks like.

fn member_page(user: &str, visits: u64, notice: Option<&str>) -> Markup {
    page(html! {
        @if let Some(notice) = notice {
            p.notice role="status" { (notice) }
        }
        h1 { "Hello, " strong id="user" { (user) } }
        p { "The server holds your session; the browser holds only its ID." }
        (visit_form(visits))
        form.quiet method="post" action="/logout" {
            button.secondary { "Sign out" }
        }
    })
}

fn visitor_page(visits: u64, problem: Option<&str>) -> Markup {
    page(html! {
        h1 { "Sign in" }
        p { "Any name will do. What you count before you sign in stays yours." }
        form method="post" action="/login" {
            label for="user" { "Name" }
            input id="user" name="user" type="text" required maxlength="64" autocomplete="username"
                autocapitalize="none" spellcheck="false" aria-invalid=[problem.map(|_| "true")]
                aria-describedby=[problem.map(|_| "problem")];
            @if let Some(problem) = problem {
                p.problem id="problem" role="alert" { (problem) }
            }
            button { "Sign in" }
        }
        (visit_form(visits))
    })
}

fn outage_page() -> Markup {
    page(html! {
        h1 { "Back in a moment" }
        p { "Sessions cannot be reached right now. Nobody was signed out by that: "
            "load this page again in a few seconds." }
        p { a.button href="/" { "Try again" } }
    })
}

fn visit_form(visits: u64) -> Markup {
    html! {
        form.visits method="post" action="/visit" {
            p { output id="visits" { (visits) } @if visits == 1 { " visit" } @else { " visits" } }
            button.secondary { "Visit" }
        }
    }
}

fn page(content: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Sessions" }
                link rel="icon" href=(ICON);
                link rel="stylesheet" href="/style.css";
            }
            body { main { (content) } }
        }
    }
}

async fn style() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, include_str!("login/style.css"))
}

/// Adds the headers that a page with personal content should have.
async fn secure(mut response: Response) -> Response {
    for (name, value) in SECURE_HEADERS {
        let value = header::HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

const SECURE_HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
];

const ICON: &str = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
    <rect width='16' height='16' rx='4' fill='%232f6f5e'/>\
    <circle cx='8' cy='6.2' r='2.6' fill='white'/>\
    <path d='M3.2 13.4a4.8 4.2 0 0 1 9.6 0z' fill='white'/></svg>";
