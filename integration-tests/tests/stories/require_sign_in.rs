//! The guard of a router, over real HTTP: the way to the login page and back.

use axum::{
    Router,
    extract::{Form, Query},
    response::Redirect,
    routing::{get, post},
};
use integration_tests::Answer;
use reqwest::StatusCode;
use serde_json::Value;
use session_axum::{NextPath, RequireSignIn, Session, SessionError};

use crate::support::{TestStore, Visitor, leads_to, on_each_store, serve_router};

async fn login_page(session: Session, Query(query): Query<Value>) -> String {
    let next = NextPath::new(query["next"].as_str().unwrap_or_default());
    format!("{} {}", session.had_unknown_id(), next.as_str())
}

async fn login(session: Session, Form(form): Form<Value>) -> Result<Redirect, SessionError> {
    session.authenticate(7)?;
    Ok(Redirect::to(NextPath::new(form["next"].as_str().unwrap_or_default()).as_str()))
}

async fn visitor(store: &TestStore) -> Visitor {
    let pages = Router::new()
        .route("/invoices", get(async || "the invoices"))
        .route_layer(RequireSignIn::redirect_to("/login").unwrap());
    let app = Router::new()
        .route("/login", get(login_page).post(login))
        .route(
            "/revoke",
            post(async |session: Session| {
                session.sessions().revoke_all(7).await.map(|count| count.to_string())
            }),
        )
        .merge(pages)
        .layer(store.layer().await);
    Visitor::new(serve_router(app).await)
}

async fn sign_in(visitor: &Visitor, next: &str) -> Answer {
    visitor.post("/login", &[("next", next)]).await
}

#[tokio::test]
async fn a_visitor_signs_in_and_returns_to_the_page() {
    on_each_store(async |store| {
        let visitor = visitor(store).await;
        let to_login = visitor.get("/invoices?page=2", "text/html").await;
        assert_eq!(leads_to(&to_login), "/login?next=/invoices%3Fpage%3D2");
        let form = visitor.get(leads_to(&to_login), "text/html").await;
        assert_eq!(form.body, "false /invoices?page=2");
        assert_eq!(leads_to(&sign_in(&visitor, "/invoices?page=2").await), "/invoices?page=2");
        assert_eq!(visitor.get("/invoices?page=2", "text/html").await.ok().body, "the invoices");
        for evil in
            ["https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example"]
        {
            assert_eq!(leads_to(&sign_in(&visitor, evil).await), "/", "{evil}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_whose_session_was_revoked_is_told_so_after_the_redirect() {
    on_each_store(async |store| {
        let visitor = visitor(store).await;
        sign_in(&visitor, "/").await;
        assert_eq!(visitor.post("/revoke", &[]).await.ok().body, "1");
        let to_login = visitor.get("/invoices", "text/html").await;
        assert_eq!(visitor.get(leads_to(&to_login), "text/html").await.body, "true /invoices");
    })
    .await;
}

#[tokio::test]
async fn a_program_gets_a_status() {
    on_each_store(async |store| {
        let visitor = visitor(store).await;
        let refused = visitor.get("/invoices", "application/json").await;
        assert_eq!((refused.status.as_u16(), &*refused.body), (401, r#"{"error":"signed out"}"#));
    })
    .await;
}

#[tokio::test]
async fn an_outage_is_no_redirect() {
    let store = TestStore::on_redis().await;
    let visitor = visitor(&store).await;
    sign_in(&visitor, "/").await;
    store.redis().stop().await;
    for accept in ["text/html", "application/json"] {
        let answer = visitor.get("/invoices", accept).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{accept}");
        assert_eq!(answer.set_cookie(), None);
    }
}
