//! A response of 500 and above stores nothing that was not committed before, over real HTTP.

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use integration_tests::Browser;
use session_axum::{Key, Session, SessionError};

use crate::support::{on_each_store, serve_router};

const STEP: Key<u64> = Key::new("step");

async fn fail(session: Session) -> Result<StatusCode, SessionError> {
    session.set(STEP, 2)?;
    Ok(StatusCode::BAD_GATEWAY)
}

async fn commit_and_fail(session: Session) -> Result<StatusCode, SessionError> {
    session.set(STEP, 3)?;
    session.commit().await?;
    session.set(STEP, 4)?;
    session.authenticate("mallory")?;
    Ok(StatusCode::INTERNAL_SERVER_ERROR)
}

#[tokio::test]
async fn a_failed_request_stores_only_its_own_commits() {
    on_each_store(async |store| {
        let app = Router::new()
            .route("/begin", post(async |session: Session| session.set(STEP, 1)))
            .route("/fail", post(fail))
            .route("/commit-and-fail", post(commit_and_fail))
            .route(
                "/not-found",
                post(async |session: Session| {
                    session.set(STEP, 5)?;
                    Ok::<_, SessionError>(StatusCode::NOT_FOUND)
                }),
            )
            .route(
                "/step",
                get(async |session: Session| {
                    format!("{:?} {:?}", session.get(STEP), session.owner_as::<String>())
                }),
            )
            .layer(store.layer().await);
        let browser = Browser::new(serve_router(app).await);
        assert_eq!(browser.post("/fail").await.set_cookie(), None, "no session begins");
        browser.post("/begin").await.ok();
        for (path, status, step) in [
            ("/fail", 502, "Some(1) None"),
            ("/commit-and-fail", 500, "Some(3) None"),
            ("/not-found", 404, "Some(5) None"),
        ] {
            assert_eq!(browser.post(path).await.status.as_u16(), status, "{path}");
            assert_eq!(browser.get("/step").await.ok().body, step, "{path}");
        }
    })
    .await;
}
