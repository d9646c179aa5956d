//! The cookie of a browser whose responses arrive in another order than its requests were sent: a
//! response removes the cookie only if its own request ended the session.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::post};
use session_axum::{Session, SessionError};
use tokio::sync::Notify;

use crate::support::{Answer, COUNT, Jar, Site};

const HOUR: Duration = Duration::from_secs(3600);

/// The route of a slow tab: opens its session, and answers when the test permits.
#[derive(Default)]
struct SlowTab {
    has_opened: Notify,
    may_answer: Notify,
}

fn site() -> (Site, Arc<SlowTab>) {
    let tab = Arc::<SlowTab>::default();
    let (reading, writing) = (Arc::clone(&tab), Arc::clone(&tab));
    let routes = Router::new()
        .route(
            "/slow-read",
            post(async move |session: Session| {
                let count = session.get(COUNT).unwrap_or_default();
                reading.has_opened.notify_one();
                reading.may_answer.notified().await;
                count.to_string()
            }),
        )
        .route(
            "/slow-write",
            post(async move |session: Session| {
                let count = session.update(COUNT, |count| *count += 1)?;
                writing.has_opened.notify_one();
                writing.may_answer.notified().await;
                Ok::<_, SessionError>(count.to_string())
            }),
        );
    (Site::with_routes(routes), tab)
}

/// Sends a slow request, and others before its response. Returns the slow response and the result
/// of the others.
async fn overtake<T>(
    site: &Site,
    tab: &SlowTab,
    slow: (&str, &str),
    others: impl Future<Output = T>,
) -> (Answer, T) {
    let others = async {
        tab.has_opened.notified().await;
        let result = others.await;
        tab.may_answer.notify_one();
        result
    };
    tokio::join!(site.send(slow.0, slow.1), others)
}

/// Returns `true` if the jar's cookie opens the session of the login.
async fn is_signed_in(site: &Site, jar: &Jar) -> bool {
    site.send("GET /owner", &jar.cookie()).await.body == "ada"
}

#[tokio::test]
async fn slow_tab_of_an_expired_session_keeps_a_newer_login() {
    let (site, tab) = site();
    let expired = site.begin().await;
    site.advance(HOUR);
    let login = site.send("POST /login", &expired);
    let (slow, login) = overtake(&site, &tab, ("POST /slow-read", &expired), login).await;

    let mut jar = Jar::default();
    jar.apply(&login);
    jar.apply(&slow);
    assert_eq!(slow.body, "0");
    assert!(is_signed_in(&site, &jar).await);
}

#[tokio::test]
async fn slow_tab_after_a_logout_keeps_a_newer_login() {
    let (site, tab) = site();
    let mut jar = Jar::default();
    jar.apply(&site.send("POST /login", "").await);
    let dead = jar.cookie();
    jar.apply(&site.send("POST /logout", &dead).await);
    assert_eq!(jar.cookie(), "");

    // The tab was opened before the browser received the removal.
    let login = site.send("POST /login", "");
    let (slow, login) = overtake(&site, &tab, ("POST /slow-read", &dead), login).await;
    jar.apply(&login);
    jar.apply(&slow);
    assert!(is_signed_in(&site, &jar).await);
}

#[tokio::test]
async fn slow_write_during_a_logout_keeps_a_newer_login() {
    let (site, tab) = site();
    let mut jar = Jar::default();
    jar.apply(&site.send("POST /login", "").await);
    let before = jar.cookie();
    let others = async {
        let logout = site.send("POST /logout", &before).await;
        (logout, site.send("POST /login", "").await)
    };
    let (slow, (logout, login)) =
        overtake(&site, &tab, ("POST /slow-write", &before), others).await;

    jar.apply(&logout);
    jar.apply(&login);
    jar.apply(&slow);
    assert_eq!((slow.status.as_u16(), slow.set_cookie()), (409, None));
    assert!(is_signed_in(&site, &jar).await);
}

#[tokio::test]
async fn slow_tab_during_a_login_keeps_the_login() {
    let (site, tab) = site();
    let before = site.begin().await;
    for route in ["POST /slow-read", "POST /slow-write"] {
        let login = site.send("POST /login", &before);
        let (slow, login) = overtake(&site, &tab, (route, &before), login).await;
        let mut jar = Jar::default();
        jar.apply(&login);
        jar.apply(&slow);
        assert!(is_signed_in(&site, &jar).await, "{route}");
    }
}
