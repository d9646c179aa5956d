//! An application's own page for the errors of sessions.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    middleware::map_response,
    response::{AppendHeaders, Html, IntoResponse as _, Response},
    routing::{get, post},
};
use insta::assert_snapshot;
use session_axum::{
    ErrorFormat, RequireSignIn, Session, SessionError, SessionLayer, StoreErrorKind,
};
use session_core::testing::Verb;

use crate::support::{Answer, COUNT, Site, StoreControl, answer};

async fn error_page(mut response: Response) -> Response {
    let Some(error) = response.extensions().get::<Arc<SessionError>>() else { return response };
    *response.body_mut() = Body::from(format!("<h1>{error}</h1>"));
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response
}

async fn count(session: Session) -> Result<(), SessionError> {
    session.update(COUNT, |count| *count += 1)?;
    Ok(())
}

async fn commit_and_count(session: Session) -> Result<(), SessionError> {
    count(session.clone()).await?;
    session.commit().await?;
    count(session).await
}

async fn require_login(session: Session) -> Result<(), SessionError> {
    session.require_fresh(Duration::MAX)
}

struct Shop {
    store: StoreControl,
    router: Router,
}

impl Shop {
    fn new() -> Self {
        let store = StoreControl::default();
        let router = Router::new()
            .route("/count", post(count))
            .route("/commit", post(commit_and_count))
            .route("/require-login", post(require_login))
            .route("/missing", post(StatusCode::NOT_FOUND))
            .layer(SessionLayer::new(store.store()))
            .layer(map_response(error_page));
        Self { store, router }
    }

    async fn post(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::post(path).header(header::COOKIE, cookie);
        answer(self.router.clone(), request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn outer_layer_makes_a_page_of_a_failed_commit() {
    let shop = Shop::new();
    shop.store.fail_all(StoreErrorKind::Full);
    let answer = shop.post("/count", "").await;
    assert_eq!(answer.header(header::CONTENT_TYPE), Some("text/html; charset=utf-8"));
    assert_snapshot!(answer.text(), @"
    503 Service Unavailable
    cache-control: no-store
    retry-after: 1
    vary: cookie
    <h1>the session store is full</h1>
    ");
}

/// A commit of the handler has begun the session, and the commit after the handler fails.
#[tokio::test]
async fn page_of_a_failed_commit_keeps_the_cookie() {
    let shop = Shop::new();
    shop.store.fail(&[Verb::Commit], StoreErrorKind::Full);
    let answer = shop.post("/commit", "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.body, "<h1>the session store is full</h1>");
    shop.store.recover();
    assert_eq!(shop.post("/count", &answer.cookie()).await.set_cookie(), None, "it opens");
}

#[tokio::test]
async fn outer_layer_makes_a_page_of_an_outage() {
    let shop = Shop::new();
    let cookie = shop.post("/count", "").await.cookie();
    shop.store.fail_all(StoreErrorKind::Unavailable);
    assert_snapshot!(shop.post("/count", &cookie).await.text(), @"
    503 Service Unavailable
    retry-after: 1
    vary: cookie
    cache-control: no-store
    <h1>the session store is unavailable</h1>
    ");
}

#[tokio::test]
async fn outer_layer_makes_a_page_of_a_handlers_error() {
    let shop = Shop::new();
    assert_snapshot!(shop.post("/require-login", "").await.text(), @"
    403 Forbidden
    vary: cookie
    <h1>the owner of the session has not signed in recently enough</h1>
    ");
    let other = shop.post("/missing", "").await;
    assert_eq!((other.status, &*other.body), (StatusCode::NOT_FOUND, ""));
}

fn drawn(error: &SessionError, format: ErrorFormat) -> Response {
    let text = format!("{format:?}: {error}");
    match format {
        ErrorFormat::Html => {
            (AppendHeaders([("link", "<a>"), ("link", "<b>")]), Html(text)).into_response()
        }
        _ => (StatusCode::OK, text).into_response(),
    }
}

/// A site whose layer draws the pages.
fn drawing() -> Site {
    let own_page = async |_: Session| SessionError::Taken.with_response("of the handler");
    let to_login = async |_: Session| {
        (StatusCode::SEE_OTHER, [(header::LOCATION, "/login")], SessionError::NotFresh)
    };
    let routes = Router::new()
        .route("/require-login", post(require_login))
        .route("/own-page", post(own_page))
        .route("/to-login", post(to_login))
        .route("/guarded", get(async || "for users").route_layer(RequireSignIn::new()))
        .route("/missing", post(StatusCode::NOT_FOUND));
    Site::with_layer(routes, |layer| layer.with_error_page(drawn))
}

#[tokio::test]
async fn layer_draws_the_page_of_each_error() {
    let site = drawing();
    let html = "text/html, */*";
    assert_snapshot!(site.send_accepting("POST /require-login", "", html).await.text(), @"
    403 Forbidden
    link: <a>
    link: <b>
    vary: cookie
    Html: the owner of the session has not signed in recently enough
    ");
    assert_snapshot!(site.send_accepting("GET /guarded", "", html).await.text(), @"
    401 Unauthorized
    link: <a>
    link: <b>
    cache-control: no-store
    vary: cookie
    Html: nobody is signed in
    ");
    let to_login = site.send_accepting("POST /to-login", "", html).await;
    assert_eq!(to_login.header(header::LOCATION), Some("/login"));
    assert_eq!(to_login.header(header::CONTENT_TYPE), Some("text/html; charset=utf-8"));
    let json = site.send_accepting("GET /guarded", "", "application/json").await;
    assert_snapshot!(json.text(), @"
    401 Unauthorized
    cache-control: no-store
    vary: cookie
    Json: nobody is signed in
    ");
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Commit], StoreErrorKind::Full);
    assert_snapshot!(site.send_accepting("POST /count", &cookie, html).await.text(), @"
    503 Service Unavailable
    link: <a>
    link: <b>
    cache-control: no-store
    retry-after: 1
    vary: cookie
    Html: the session store is full
    ");
    site.store.fail_all(StoreErrorKind::Unavailable);
    assert_snapshot!(site.send_accepting("GET /read", &cookie, html).await.text(), @"
    503 Service Unavailable
    link: <a>
    link: <b>
    cache-control: no-store
    retry-after: 1
    vary: cookie
    Html: the session store is unavailable
    ");
}

#[tokio::test]
async fn layer_draws_no_page_in_place_of_another_response() {
    let site = drawing();
    let own = site.send_accepting("POST /own-page", "", "text/html").await;
    assert_eq!((own.status, &*own.body), (StatusCode::OK, "of the handler"));
    let missing = site.send_accepting("POST /missing", "", "text/html").await;
    assert_eq!((missing.status, &*missing.body), (StatusCode::NOT_FOUND, ""));
}
