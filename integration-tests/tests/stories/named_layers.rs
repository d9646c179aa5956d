//! Two named sessions of one browser, over HTTP and two servers that share a store.

use axum::{
    Router,
    routing::{get, post},
};
use futures_util::future::join_all;
use integration_tests::Browser;
use reqwest::StatusCode;
use session_axum::{Key, RequireSignIn, Session, SessionError, SessionName, SessionOf, SignedIn};

use crate::support::{TestStore, on_each_store, serve_router};

const COUNT: Key<u64> = Key::new("count");

struct Admin;

impl SessionName for Admin {
    const NAME: &'static str = "admin";
}

/// Writes both sessions in one request.
async fn count(visitor: Session, admin: SessionOf<Admin>) -> Result<(), SessionError> {
    visitor.update(COUNT, |count| *count += 1)?;
    admin.update(COUNT, |count| *count += 1)?;
    Ok(())
}

async fn counts(visitor: Session, admin: SessionOf<Admin>) -> String {
    format!("{:?} {:?}", visitor.get(COUNT), admin.get(COUNT))
}

async fn who(visitor: Session, admin: SessionOf<Admin>) -> String {
    format!("{:?} {:?}", visitor.owner_as::<u64>(), admin.owner_as::<u64>())
}

async fn revoke(session: Session) -> Result<String, SessionError> {
    Ok(session.sessions().revoke_all(1).await?.to_string())
}

/// Returns a browser for each of two servers, with one jar.
async fn browsers(store: &TestStore) -> [Browser; 2] {
    let server = async |admin_is_outside: bool| {
        let accounts = get(async |SignedIn(user): SignedIn<u64, Admin>| user.to_string());
        let routes = Router::new()
            .route("/accounts", accounts)
            .route_layer(RequireSignIn::new().named::<Admin>())
            .route("/login", post(async |session: Session| session.authenticate(1)))
            .route("/logout", post(async |session: Session| session.destroy()))
            .route("/admin/login", post(async |admin: SessionOf<Admin>| admin.authenticate(1)))
            .route("/admin/logout", post(async |admin: SessionOf<Admin>| admin.destroy()))
            .route("/admin/renew", post(async |admin: SessionOf<Admin>| admin.renew()))
            .route("/revoke", post(revoke))
            .route("/count", post(count))
            .route("/counts", get(counts))
            .route("/who", get(who));
        let (visitor, admin) = (store.layer().await, store.layer().await.named::<Admin>());
        let routes = match admin_is_outside {
            true => routes.layer(visitor).layer(admin),
            false => routes.layer(admin).layer(visitor),
        };
        serve_router(routes).await
    };
    let browser = Browser::new(server(false).await);
    [browser.clone(), browser.at(server(true).await)]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_ends_and_the_other_stays() {
    on_each_store(async |store| {
        let [here, there] = browsers(store).await;
        here.post("/login").await.ok();
        assert_eq!(there.get("/accounts").await.status, StatusCode::UNAUTHORIZED);
        there.post("/admin/login").await.ok();
        assert_eq!(here.get("/accounts").await.ok().body, "1");
        assert_eq!(here.get("/who").await.ok().body, "Some(1) Some(1)");
        here.post("/admin/renew").await.ok();
        there.post("/admin/logout").await.ok();
        assert_eq!(here.get("/who").await.ok().body, "Some(1) None");
        here.post("/admin/login").await.ok();
        there.post("/logout").await.ok();
        assert_eq!(here.get("/who").await.ok().body, "None Some(1)");
    })
    .await;
}

/// The names share a store, and so one user has one list of sessions.
#[tokio::test(flavor = "multi_thread")]
async fn revocation_of_a_user_ends_the_sessions_of_both_names() {
    on_each_store(async |store| {
        let [here, there] = browsers(store).await;
        here.post("/login").await.ok();
        there.post("/admin/login").await.ok();
        assert_eq!(here.post("/revoke").await.ok().body, "2");
        assert_eq!(there.get("/who").await.ok().body, "None None");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_lose_no_write_of_either_session() {
    on_each_store(async |store| {
        let browsers = browsers(store).await;
        browsers[0].post("/login").await.ok();
        browsers[1].post("/admin/login").await.ok();
        let requests = (0..40).map(async |number: usize| {
            let path = if number % 10 == 5 { "/admin/renew" } else { "/count" };
            browsers[number % 2].post(path).await.ok();
        });
        join_all(requests).await;
        for browser in &browsers {
            assert_eq!(browser.get("/counts").await.ok().body, "Some(36) Some(36)");
        }
    })
    .await;
}
