//! A user proves the identity again, over HTTP and two servers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use integration_tests::Browser;
use reqwest::StatusCode;
use session_axum::{
    Lifetime, ManualClock, Session, SessionCookie, SessionError, SessionLayer, Sessions, SignedIn,
    SystemClock,
};
use session_core::Clock as _;

use crate::support::{TestStore, on_each_store, serve_router};

const MINUTE: Duration = Duration::from_secs(60);

/// The lifetime of the login differs from the default, so that a reset is visible.
async fn login(session: Session) -> Result<(), SessionError> {
    session.authenticate(7)?;
    session.set_lifetime(Lifetime::new(45 * MINUTE, 90 * MINUTE).unwrap())
}

/// The identity provider's session ends before the lifetime of the login.
async fn login_by_provider(session: Session) -> Result<(), SessionError> {
    login(session.clone()).await?;
    session.end_by(session.authenticated_at().unwrap() + 30 * MINUTE)
}

struct Site {
    servers: [SocketAddr; 2],
    clock: Arc<ManualClock>,
}

impl Site {
    async fn new(store: &TestStore) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let server = async || {
            let sessions = Sessions::builder(store.open().await).with_clock(Arc::clone(&clock));
            let layer = SessionLayer::new(sessions.build().unwrap())
                .with_cookie(SessionCookie::insecure_for_development());
            let app = Router::new()
                .route("/login", post(login))
                .route("/login-by-provider", post(login_by_provider))
                .route("/confirm", post(async |session: Session| session.reauthenticate(7)))
                .route("/me", get(async |SignedIn(user): SignedIn<u64>| user.to_string()))
                .route("/sensitive", get(async |session: Session| session.require_fresh(MINUTE)));
            serve_router(app.layer(layer)).await
        };
        Self { servers: [server().await, server().await], clock }
    }

    /// Returns a browser that has signed in, in front of both servers.
    async fn signed_in(&self, path: &str) -> [Browser; 2] {
        let browser = Browser::new(self.servers[0]);
        browser.post(path).await.ok();
        self.servers.map(|server| browser.at(server))
    }

    fn wait(&self, minutes: u32) {
        self.clock.advance(minutes * MINUTE);
    }
}

async fn status(browser: &Browser, path: &str) -> StatusCode {
    browser.get(path).await.status
}

#[tokio::test]
async fn proof_makes_the_login_fresh_and_closes_the_old_id() {
    on_each_store(async |store| {
        let site = Site::new(store).await;
        let [here, there] = site.signed_in("/login").await;
        site.wait(10);
        assert_eq!(status(&there, "/sensitive").await, StatusCode::FORBIDDEN);
        let stolen = there.fork();
        assert_eq!(status(&stolen, "/me").await, StatusCode::OK);

        here.post("/confirm").await.ok();
        for browser in [&here, &there] {
            assert_eq!(status(browser, "/sensitive").await, StatusCode::OK);
            let stolen = stolen.at(browser.addr());
            assert_eq!(status(&stolen, "/me").await, StatusCode::UNAUTHORIZED);
            assert_eq!(status(&stolen, "/sensitive").await, StatusCode::FORBIDDEN);
        }
        let refused = stolen.post("/confirm").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "the old ID proves nothing");
        site.wait(2);
        assert_eq!(status(&there, "/sensitive").await, StatusCode::FORBIDDEN);
    })
    .await;
}

#[tokio::test]
async fn proofs_move_no_deadline_of_the_login() {
    on_each_store(async |store| {
        for (path, minutes) in [("/login", 90), ("/login-by-provider", 30)] {
            let site = Site::new(store).await;
            let [here, there] = site.signed_in(path).await;
            for _ in 1..minutes / 10 {
                site.wait(10);
                here.post("/confirm").await.ok();
            }
            site.wait(9);
            assert_eq!(status(&there, "/me").await, StatusCode::OK, "{path}");
            site.wait(2);
            assert_eq!(status(&there, "/me").await, StatusCode::UNAUTHORIZED, "{path}");
        }
    })
    .await;
}
