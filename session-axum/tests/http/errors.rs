//! Errors of sessions in a handler: their statuses, and an application's own error type around
//! them.

use std::time::Duration;

use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::post,
};
use insta::assert_snapshot;
use session_axum::{Key, Session, SessionError, Timestamp};

use crate::support::{COUNT, Site};

/// The usual error type of an application.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("there is no such page")]
    NoSuchPage,
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        match self {
            Self::NoSuchPage => StatusCode::NOT_FOUND.into_response(),
            Self::Session(error @ SessionError::NotFresh) => {
                error.with_response(Redirect::to("/login"))
            }
            Self::Session(error @ SessionError::Taken) => {
                error.with_response((StatusCode::CONFLICT, Json("used already")))
            }
            Self::Session(error) => error.into_response(),
        }
    }
}

/// The other usual error type: a box, as of `anyhow`.
struct BoxedError(Box<dyn std::error::Error + Send + Sync>);

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for BoxedError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for BoxedError {
    fn into_response(self) -> Response {
        match self.0.downcast::<SessionError>() {
            Ok(error) => error.into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

const FRESH: Duration = Duration::from_secs(300);

#[tokio::test]
async fn own_error_type_takes_session_errors() {
    let change = async |session: Session| -> Result<&'static str, AppError> {
        session.require_fresh(FRESH)?;
        session.set(COUNT, 1)?;
        if session.sessions().list("ada").await?.is_empty() {
            return Err(AppError::NoSuchPage);
        }
        session.commit().await?;
        Ok("changed")
    };
    let big = async |session: Session| -> Result<(), AppError> {
        Ok(session.set(Key::<String>::new("big"), "x".repeat(65 * 1024))?)
    };
    let site =
        Site::with_routes(Router::new().route("/change", post(change)).route("/big", post(big)));
    // The error can be matched: a page in place of the 403.
    assert_eq!(site.send("POST /change", "").await.status, StatusCode::SEE_OTHER);
    let cookie = site.send("POST /login", "").await.cookie();
    assert_eq!(site.send("POST /change", &cookie).await.body, "changed");
    assert_eq!(site.send("POST /big", &cookie).await.body, "the session cannot be used");
}

/// The handler has not run to its end: no response may commit its changes.
#[tokio::test]
async fn own_response_to_a_session_error_stores_nothing() {
    let not_fresh = async |session: Session| -> Result<(), AppError> {
        session.set(COUNT, 7)?;
        Ok(session.require_fresh(Duration::ZERO)?)
    };
    let taken = async |session: Session| -> Result<(), AppError> {
        session.set(COUNT, 7)?;
        Err(SessionError::Taken.into())
    };
    let site = Site::with_routes(
        Router::new().route("/not-fresh", post(not_fresh)).route("/taken", post(taken)),
    );
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /not-fresh", &cookie).await.text(), @"
    303 See Other
    location: /login
    vary: cookie
    ");
    assert_snapshot!(site.send("POST /taken", &cookie).await.text(), @r#"
    409 Conflict
    vary: cookie
    "used already"
    "#);
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn boxed_session_error_keeps_its_status() {
    let change = async |session: Session| -> Result<&'static str, BoxedError> {
        session.require_fresh(FRESH)?;
        Ok("changed")
    };
    let site = Site::with_routes(Router::new().route("/change", post(change)));
    assert_eq!(site.send("POST /change", "").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn login_that_is_not_fresh_is_403() {
    let sensitive = async |session: Session| {
        session.require_fresh(FRESH)?;
        Ok::<_, SessionError>("changed")
    };
    let site = Site::with_routes(Router::new().route("/sensitive", post(sensitive)));
    let stale = |text: String| {
        insta::allow_duplicates! {
            assert_snapshot!(text, @"
            403 Forbidden
            vary: cookie
            sign in again to do this
            ");
        }
    };
    stale(site.send("POST /sensitive", "").await.text());
    let cookie = site.send("POST /login", "").await.cookie();
    assert_eq!(site.send("POST /sensitive", &cookie).await.body, "changed");
    site.advance(Duration::from_secs(301));
    stale(site.send("POST /sensitive", &cookie).await.text());
}

#[tokio::test]
async fn end_in_the_past_is_409_and_ends_the_session() {
    let ending = async |session: Session| session.end_by(Timestamp::from_secs(1));
    let site = Site::with_routes(Router::new().route("/ending", post(ending)));
    let cookie = site.send("POST /login", "").await.cookie();
    assert_eq!(site.send("POST /ending", &cookie).await.status, StatusCode::CONFLICT);
    assert_eq!(site.send("GET /owner", &cookie).await.body, "");
}

#[tokio::test]
async fn refused_update_and_used_token_are_409() {
    const TOKEN: Key<String> = Key::new("token");
    let add = async |session: Session| -> Result<(), SessionError> {
        session.try_update(COUNT, |count, _| {
            if *count == 1 {
                return Err("one is enough");
            }
            *count += 1;
            Ok(())
        })?;
        Ok(())
    };
    let redeem = async |session: Session| -> Result<String, SessionError> {
        session.take_once(TOKEN).await?.ok_or(SessionError::Taken)
    };
    let site =
        Site::with_routes(Router::new().route("/add", post(add)).route("/redeem", post(redeem)));
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /add", &cookie).await.text(), @"
    409 Conflict
    vary: cookie
    the change is not possible any more, load the page again
    ");
    assert_snapshot!(site.send("POST /redeem", &cookie).await.text(), @"
    409 Conflict
    vary: cookie
    this was used already
    ");
}
