//! The guard of a router, over real HTTP: the way to the login page and back.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{Form, Query},
    response::Redirect,
    routing::{get, post},
};
use integration_tests::{Answer, RedisServer};
use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;
use session_axum::{NextPath, RequireSignIn, Session, SessionCookie, SessionError, SessionLayer};

use crate::support::{patient_store, serve_router};

async fn login_page(session: Session, Query(query): Query<Value>) -> String {
    let next = NextPath::new(query["next"].as_str().unwrap_or_default());
    format!("{} {}", session.had_unknown_id(), next.as_str())
}

async fn login(session: Session, Form(form): Form<Value>) -> Result<Redirect, SessionError> {
    session.authenticate(7)?;
    Ok(Redirect::to(NextPath::new(form["next"].as_str().unwrap_or_default()).as_str()))
}

async fn site(redis: &RedisServer) -> SocketAddr {
    let layer = SessionLayer::new(patient_store(redis).await)
        .with_cookie(SessionCookie::insecure_for_development());
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
        .layer(layer);
    serve_router(app).await
}

/// A browser that shows each redirect.
struct Visitor {
    http: Client,
    base: String,
}

impl Visitor {
    fn new(addr: SocketAddr) -> Self {
        let http = Client::builder()
            .no_proxy()
            .cookie_store(true)
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, base: format!("http://{addr}") }
    }

    async fn get(&self, path: &str, accept: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.base)).header("accept", accept);
        Answer::read(request.send().await.unwrap()).await
    }

    async fn sign_in(&self, next: &str) -> Answer {
        let request = self.http.post(format!("{}/login", self.base)).form(&[("next", next)]);
        Answer::read(request.send().await.unwrap()).await
    }

    async fn post(&self, path: &str) -> Answer {
        Answer::read(self.http.post(format!("{}{path}", self.base)).send().await.unwrap()).await
    }
}

fn leads_to(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    answer.headers["location"].to_str().unwrap()
}

#[tokio::test]
async fn a_visitor_signs_in_and_returns_to_the_page() {
    let redis = RedisServer::start().await;
    let visitor = Visitor::new(site(&redis).await);
    let to_login = visitor.get("/invoices?page=2", "text/html").await;
    assert_eq!(leads_to(&to_login), "/login?next=/invoices%3Fpage%3D2");
    let form = visitor.get(leads_to(&to_login), "text/html").await;
    assert_eq!(form.body, "false /invoices?page=2");
    assert_eq!(leads_to(&visitor.sign_in("/invoices?page=2").await), "/invoices?page=2");
    assert_eq!(visitor.get("/invoices?page=2", "text/html").await.ok().body, "the invoices");
    for evil in ["https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example"] {
        assert_eq!(leads_to(&visitor.sign_in(evil).await), "/", "{evil}");
    }
}

#[tokio::test]
async fn a_user_whose_session_was_revoked_is_told_so_after_the_redirect() {
    let redis = RedisServer::start().await;
    let visitor = Visitor::new(site(&redis).await);
    visitor.sign_in("/").await;
    assert_eq!(visitor.post("/revoke").await.ok().body, "1");
    let to_login = visitor.get("/invoices", "text/html").await;
    assert_eq!(visitor.get(leads_to(&to_login), "text/html").await.body, "true /invoices");
}

#[tokio::test]
async fn a_program_gets_a_status_and_an_outage_is_no_redirect() {
    let redis = RedisServer::start().await;
    let visitor = Visitor::new(site(&redis).await);
    let refused = visitor.get("/invoices", "application/json").await;
    assert_eq!((refused.status.as_u16(), &*refused.body), (401, r#"{"error":"signed out"}"#));
    visitor.sign_in("/").await;
    redis.stop().await;
    for accept in ["text/html", "application/json"] {
        let answer = visitor.get("/invoices", accept).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{accept}");
        assert_eq!(answer.set_cookie(), None);
    }
}
