//! Flash messages across redirects, between two servers.

use axum::{
    Router,
    http::StatusCode,
    response::Redirect,
    routing::{get, post},
};
use session_axum::{FlashLevel, Session, SessionError};

use crate::support::{Jar, Site};

async fn sign_in(session: Session) -> Result<Redirect, SessionError> {
    session.authenticate("ada")?;
    session.flash(FlashLevel::Success, "Welcome.")?;
    Ok(Redirect::to("/page"))
}

async fn save(session: Session) -> Result<Redirect, SessionError> {
    session.flash(FlashLevel::Success, "Saved.")?;
    session.flash(FlashLevel::Warning, "No address.")?;
    Ok(Redirect::to("/page"))
}

async fn sign_out(session: Session) -> Result<Redirect, SessionError> {
    session.destroy()?;
    session.flash(FlashLevel::Info, "Signed out.")?;
    Ok(Redirect::to("/page"))
}

async fn page(session: Session) -> Result<String, SessionError> {
    let flashes = session.take_flashes().await?;
    let lines = flashes.iter().map(|flash| format!("{}: {}\n", flash.level(), flash.text()));
    Ok(lines.collect())
}

fn routes() -> Router {
    Router::new()
        .route("/sign-in", post(sign_in))
        .route("/save", post(save))
        .route("/sign-out", post(sign_out))
        .route("/page", get(page))
}

#[tokio::test]
async fn page_after_a_redirect_shows_the_flashes_once() {
    let one = Site::with_routes(routes());
    let other = one.another_server(routes());
    let mut browser = Jar::default();
    for (form, shown) in [
        ("POST /save", "success: Saved.\nwarning: No address.\n"),
        ("POST /sign-in", "success: Welcome.\n"),
        ("POST /save", "success: Saved.\nwarning: No address.\n"),
        ("POST /sign-out", "info: Signed out.\n"),
    ] {
        let redirect = one.send(form, &browser.cookie()).await;
        assert_eq!(redirect.status, StatusCode::SEE_OTHER, "{form}");
        browser.apply(&redirect);
        for expected in [shown, ""] {
            let page = other.send("GET /page", &browser.cookie()).await;
            assert_eq!(page.body, expected, "{form}");
            browser.apply(&page);
        }
    }
}

#[tokio::test]
async fn flash_before_a_login_is_shown_after_it() {
    let site = Site::with_routes(routes());
    let mut browser = Jar::default();
    browser.apply(&site.send("POST /save", "").await);
    browser.apply(&site.send("POST /sign-in", &browser.cookie()).await);
    let page = site.send("GET /page", &browser.cookie()).await;
    assert_eq!(page.body, "success: Saved.\nwarning: No address.\nsuccess: Welcome.\n");
}
