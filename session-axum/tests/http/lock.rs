use std::{sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::post};
use insta::assert_snapshot;
use session_axum::{Session, SessionError};
use tokio::sync::Notify;

use crate::support::{COUNT, Site};

const LEASE: Duration = Duration::from_secs(10);

/// Lets a test do something while a handler holds the lock.
#[derive(Default)]
struct Gate {
    held: Notify,
    proceed: Notify,
}

/// A site with routes that lock: `/hold` until the gate is opened, `/ask` without waiting.
fn site() -> (Site, Arc<Gate>) {
    let gate = Arc::<Gate>::default();
    let inside = Arc::clone(&gate);
    let hold = async move |session: Session| {
        let _lock = session.lock(Duration::ZERO).await?;
        session.update(COUNT, |count| *count += 1)?;
        inside.held.notify_one();
        inside.proceed.notified().await;
        Ok::<_, SessionError>("done")
    };
    let ask = async |session: Session| {
        let _lock = session.lock(Duration::ZERO).await?;
        Ok::<_, SessionError>("mine")
    };
    let twice = async |session: Session| {
        let _lock = session.lock(Duration::ZERO).await?;
        drop(session.lock(LEASE).await?);
        Ok::<_, SessionError>("never")
    };
    let release = async |session: Session| {
        let lock = session.lock(Duration::ZERO).await?;
        session.update(COUNT, |count| *count += 1)?;
        lock.release().await?;
        Ok::<_, SessionError>("done")
    };
    let sensitive = async |session: Session| {
        session.require_fresh(Duration::from_secs(300))?;
        Ok::<_, SessionError>("changed")
    };
    let ending = async |session: Session| {
        session.end_by(session_axum::Timestamp::from_millis(1))?;
        Ok::<_, SessionError>("never")
    };
    let routes = Router::new()
        .route("/hold", post(hold))
        .route("/ask", post(ask))
        .route("/twice", post(twice))
        .route("/release", post(release))
        .route("/sensitive", post(sensitive))
        .route("/ending", post(ending));
    (Site::with_routes(routes), gate)
}

/// Tells whether the lock can be had, soon.
async fn is_free_soon(site: &Site, cookie: &str) -> bool {
    for _ in 0..100 {
        if site.send("POST /ask", cookie).await.status == StatusCode::OK {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn a_lock_that_another_holds_is_503_and_free_when_the_other_is_answered() {
    let (site, gate) = site();
    let cookie = site.begin().await;
    let holding = site.send("POST /hold", &cookie);
    let asking = async {
        gate.held.notified().await;
        let answer = site.send("POST /ask", &cookie).await;
        gate.proceed.notify_one();
        answer
    };
    let (held, asked) = tokio::join!(holding, asking);
    assert_eq!(held.status, StatusCode::OK);
    assert_snapshot!(asked.text(), @"
    503 Service Unavailable
    retry-after: 1
    vary: cookie
    another request is being worked on, try again in a moment
    ");
    assert_eq!(site.send("POST /ask", &cookie).await.body, "mine");
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
}

#[tokio::test]
async fn work_under_a_lost_lease_is_409_and_not_stored() {
    let (site, gate) = site();
    let cookie = site.begin().await;
    let holding = site.send("POST /hold", &cookie);
    let pausing = async {
        gate.held.notified().await;
        site.advance(LEASE);
        gate.proceed.notify_one();
    };
    let (held, ()) = tokio::join!(holding, pausing);
    assert_snapshot!(held.text(), @"
    409 Conflict
    vary: cookie
    ");
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_no_lock() {
    let (site, gate) = site();
    let cookie = site.begin().await;
    tokio::select! {
        _ = site.send("POST /hold", &cookie) => panic!("the gate is closed"),
        () = gate.held.notified() => {}
    }
    assert!(is_free_soon(&site, &cookie).await);
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn a_lock_without_changes_is_released_after_the_response() {
    let (site, _) = site();
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /ask", &cookie).await.body, "mine");
    assert!(is_free_soon(&site, &cookie).await);
}

#[tokio::test]
async fn a_release_commits() {
    let (site, _) = site();
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /release", &cookie).await.body, "done");
    assert_eq!(site.store.take_calls(), ["load", "load", "commit", "commit"]);
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
}

#[tokio::test]
async fn a_second_lock_in_one_request_is_500() {
    let (site, _) = site();
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /twice", &cookie).await.text(), @"
    500 Internal Server Error
    vary: cookie
    the session cannot be used
    ");
}

#[tokio::test]
async fn a_login_that_is_not_fresh_is_403() {
    let (site, _) = site();
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
async fn an_end_in_the_past_is_409_and_ends_the_session() {
    let (site, _) = site();
    let cookie = site.send("POST /login", "").await.cookie();
    let answer = site.send("POST /ending", &cookie).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(answer.removes_the_cookie());
    assert!(site.send("GET /read", &cookie).await.removes_the_cookie());
}
