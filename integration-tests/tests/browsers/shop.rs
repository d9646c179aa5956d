//! A small application, and pages of other sites that link to it.

use axum::{
    Router,
    http::{HeaderMap, header},
    response::{Html, IntoResponse, Redirect},
    routing::{get, post},
};
use session_axum::{Key, Session, SessionCookie, SessionError, SessionLayer, Sessions, SignedIn};

const VISITS: Key<u64> = Key::new("visits");

/// Returns the application: `/login` signs `ada` in, `/seen` shows the session of a request.
pub(crate) fn shop(sessions: impl Into<Sessions>, cookie: SessionCookie) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/private", get(private))
        .route("/seen", get(seen).post(seen))
        .route("/visit", get(visit))
        .layer(SessionLayer::new(sessions).with_cookie(cookie))
}

async fn index() -> Html<&'static str> {
    Html(
        "<!doctype html><title>Shop</title>\
         <form method=post action=/login><button id=login>Sign in</button></form>\
         <form method=post action=/logout><button id=logout>Sign out</button></form>",
    )
}

async fn login(session: Session) -> Result<Redirect, SessionError> {
    session.authenticate("ada")?;
    Ok(Redirect::to("/seen"))
}

async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/seen"))
}

/// Shows whether the request carried a cookie, and whom the session belongs to.
async fn seen(session: Session, headers: HeaderMap) -> Html<String> {
    let cookie = if headers.contains_key(header::COOKIE) { "a cookie" } else { "no cookie" };
    let user = session.owner_as::<String>().unwrap_or_else(|| "nobody".to_owned());
    Html(format!("<!doctype html><title>Seen</title><p>{cookie}, {user}"))
}

/// A private page without a script. Only its header keeps it out of caches.
async fn private(SignedIn(user): SignedIn<String>) -> impl IntoResponse {
    let page = format!(
        "<!doctype html><title>Private</title><p>Account of {user}\
         <form method=post action=/logout><button id=logout>Sign out</button></form>"
    );
    ([(header::CACHE_CONTROL, "no-store")], Html(page))
}

/// Counts the visits of a session.
async fn visit(session: Session) -> Result<Html<String>, SessionError> {
    session.update(VISITS, |visits| *visits += 1)?;
    let visits = session.get(VISITS).unwrap_or_default();
    Ok(Html(format!("<!doctype html><title>Widget</title><p>visit {visits}")))
}

/// Returns a site with one page.
pub(crate) fn page(body: String) -> Router {
    let page = Html(format!("<!doctype html><title>Another site</title>{body}"));
    Router::new().route("/", get(async || page))
}
