//! The signed-in user as an extractor, over real HTTP, through an outage of Redis.

use axum::{
    Router,
    routing::{get, post},
};
use integration_tests::Browser;
use reqwest::StatusCode;
use session_axum::{Session, SignedIn};

use crate::support::{TestStore, on_each_store, serve_router};

async fn home(user: Option<SignedIn<u64>>) -> String {
    user.map_or("a visitor".to_owned(), |SignedIn(user)| format!("user {user}"))
}

async fn browser(store: &TestStore) -> Browser {
    let app = Router::new()
        .route("/login", post(async |session: Session| session.authenticate(7)))
        .route(
            "/revoke",
            post(async |session: Session| {
                session.sessions().revoke_all(7).await.map(|count| count.to_string())
            }),
        )
        .route("/home", get(home))
        .route("/me", get(async |SignedIn(user): SignedIn<u64>| format!("user {user}")))
        .route("/as-byte", get(async |SignedIn(user): SignedIn<bool>| user.to_string()))
        .layer(store.layer().await);
    Browser::new(serve_router(app).await)
}

#[tokio::test]
async fn a_page_sees_who_is_signed_in_until_the_session_is_revoked() {
    on_each_store(async |store| {
        let browser = browser(store).await;
        assert_eq!(browser.get("/me").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(browser.get("/home").await.ok().body, "a visitor");
        browser.post("/login").await.ok();
        assert_eq!(browser.get("/me").await.ok().body, "user 7");
        assert_eq!(browser.get("/home").await.ok().body, "user 7");
        let mistake = browser.get("/as-byte").await;
        assert_eq!(
            mistake.status,
            StatusCode::INTERNAL_SERVER_ERROR,
            "another type than at the login"
        );
        assert_eq!(browser.fork().post("/revoke").await.ok().body, "1");
        assert_eq!(browser.get("/me").await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(browser.get("/home").await.ok().body, "a visitor");
    })
    .await;
}

#[tokio::test]
async fn an_outage_looks_like_no_visitor() {
    let store = TestStore::on_redis().await;
    let browser = browser(&store).await;
    browser.post("/login").await.ok();
    store.redis().stop().await;
    for path in ["/me", "/home"] {
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(
            (answer.set_cookie(), answer.headers["cache-control"].to_str().unwrap()),
            (None, "no-store")
        );
    }
}
