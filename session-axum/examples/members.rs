//! A site for members: pages behind a sign-in, a page that asks for the password again, and support
//! staff who act as a member.
//!
//! ```sh
//! cargo run -p session-axum --example members
//! REDIS_URL=redis://127.0.0.1 cargo run -p session-axum --example members --features redis
//! ```
//!
//! `ada` is of the support staff, `grace` is a member. The password of both is `secret`.

mod members {
    pub(super) mod accounts;
    pub(super) mod pages;
    #[cfg(test)]
    #[cfg(feature = "testing")]
    mod tests;
}

use std::{env, error::Error, sync::Arc, time::Duration};

use axum::{
    Form, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use maud::Markup;
use members::{
    accounts::{Accounts, Member, Support},
    pages,
};
use serde::Deserialize;
use session_axum::{
    Backend, ConfigError, ErrorFormat, FlashLevel, MemoryStore, NextPath, RequireSignIn, Session,
    SessionCookie, SessionError, SessionLayer,
};
use tokio::net::TcpListener;
use tower_http::csrf::CsrfLayer;

/// The time for which a password counts on the sensitive pages.
const FRESH: Duration = Duration::from_secs(60);

/// The longest time for which support acts as a member.
const ACTING: Duration = Duration::from_secs(30 * 60);

async fn home(me: Member, State(accounts): State<Accounts>) -> Result<Markup, SessionError> {
    Ok(pages::home(&me, &me.session.take_flashes().await?, &accounts))
}

/// A sensitive page: an abandoned browser must not show it.
async fn recovery_codes(me: Member) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "no-store")], pages::recovery_codes(&me))
}

#[derive(Deserialize)]
struct Visit {
    #[serde(default)] // `/`, for an address without it
    next: NextPath,
}

async fn login_page(session: Session, Query(visit): Query<Visit>) -> Markup {
    let note = session.had_unknown_id().then_some("Your session has ended.");
    pages::password(None, &visit.next, note)
}

#[derive(Deserialize)]
struct SignIn {
    #[serde(default)] // for the page that asks for the password alone
    name: String,
    password: String,
    #[serde(default)]
    next: NextPath,
}

async fn login(
    session: Session,
    State(accounts): State<Accounts>,
    Form(form): Form<SignIn>,
) -> Result<Response, SessionError> {
    let Some(account) = accounts.check(&form.name, &form.password) else {
        let page = pages::password(None, &form.next, Some("The name or the password is wrong."));
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    session.authenticate(account.id)?;
    session.flash(FlashLevel::Success, "You are signed in.")?;
    Ok(Redirect::to(form.next.as_str()).into_response())
}

async fn confirm_page(me: Member, Query(visit): Query<Visit>) -> Markup {
    pages::password(Some(&me), &visit.next, None)
}

/// Checks the password again. The session gets a new ID and counts as fresh. Its end stays.
async fn confirm(
    me: Member,
    State(accounts): State<Accounts>,
    Form(form): Form<SignIn>,
) -> Result<Response, SessionError> {
    let Some(account) = accounts.check(me.account.name, &form.password) else {
        let page = pages::password(Some(&me), &form.next, Some("The password is wrong."));
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    };
    me.session.reauthenticate(account.id)?;
    Ok(Redirect::to(form.next.as_str()).into_response())
}

async fn logout(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    Ok(Redirect::to("/login"))
}

#[derive(Deserialize)]
struct ActAs {
    id: u64,
}

async fn act_as(
    Support(me): Support,
    State(accounts): State<Accounts>,
    Form(form): Form<ActAs>,
) -> Result<Response, SessionError> {
    let Some(member) = accounts.by_id(form.id) else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    me.session.act_as(member.id, ACTING)?;
    Ok(Redirect::to("/").into_response())
}

async fn stop_acting(session: Session) -> Result<Redirect, SessionError> {
    session.stop_acting()?;
    session.flash(FlashLevel::Info, "You are back in your own account.")?;
    Ok(Redirect::to("/"))
}

/// The page of an error of the session, in place of a line of text.
fn error_page(error: &SessionError, format: ErrorFormat) -> Response {
    let text = match error {
        SessionError::SignedOut => "Sign in first.",
        SessionError::NotFresh => "Enter your password again.",
        SessionError::Acting => "Only the member can do this.",
        SessionError::Ended => "Your session has ended, and nothing was saved.",
        error if error.is_retryable() => "Back in a moment. Nobody was signed out.",
        _ => "This did not work.",
    };
    pages::error(text, format)
}

pub(crate) fn app(sessions: SessionLayer) -> Result<Router, ConfigError> {
    let sensitive = Router::new()
        .route("/recovery-codes", get(recovery_codes))
        .route("/act-as", post(act_as))
        .route_layer(RequireSignIn::redirect_to("/confirm")?.fresh_within(FRESH));
    // This guard is outside of the other one: visitors sign in before they confirm.
    let pages = Router::new()
        .route("/", get(home))
        .route("/confirm", get(confirm_page).post(confirm))
        .merge(sensitive)
        .route_layer(RequireSignIn::redirect_to("/login")?);
    Ok(Router::new()
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/stop-acting", post(stop_acting))
        .merge(pages)
        .with_state(Accounts::default())
        .layer(sessions.with_error_page(error_page))
        .layer(CsrfLayer::new()))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store: Arc<dyn Backend> = match env::var("REDIS_URL") {
        #[cfg(feature = "redis")]
        Ok(url) => Arc::new(session_axum::RedisStore::connect(url).await?),
        #[cfg(not(feature = "redis"))]
        Ok(_) => return Err("REDIS_URL is set, but the feature `redis` is off".into()),
        Err(_) => Arc::new(MemoryStore::default()),
    };
    // For plain HTTP on localhost. In production keep the default, which works over HTTPS only.
    let cookie = SessionCookie::insecure_for_development();
    let app = app(SessionLayer::new(store).with_cookie(cookie))?;
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
