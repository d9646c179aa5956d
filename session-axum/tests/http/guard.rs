//! The guard of a router.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Query,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    middleware::{Next, from_fn},
    response::{Redirect, Response},
    routing::{any, get, post},
};
use insta::{allow_duplicates, assert_snapshot};
use session_axum::{
    NextPath, RequireSignIn, Session, SessionError, SessionRejection, SignedIn, StoreErrorKind,
};
use session_core::testing::Verb;
use tower::{Layer as _, service_fn};
use url::Url;

use crate::support::{COUNT, Site, answer};

/// As browsers send it.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const FRESH: Duration = Duration::from_secs(300);

#[derive(serde::Deserialize)]
struct Login {
    #[serde(default)]
    next: NextPath,
}

async fn login_page(session: Session, Query(login): Query<Login>) -> String {
    let note = if session.had_unknown_id() { "ended, " } else { "" };
    format!("{note}next {}", login.next)
}

async fn sign_in(session: Session, Query(login): Query<Login>) -> Result<Redirect, SessionError> {
    session.authenticate("ada")?;
    Ok(Redirect::to(login.next.as_str()))
}

async fn page(SignedIn(user): SignedIn<String>) -> String {
    user
}

fn site(guard: RequireSignIn) -> Site {
    let account = Router::new().route("/mail", any(page)).route_layer(guard.clone());
    let routes = Router::new()
        .route("/page", any(page))
        .route_layer(guard)
        .nest("/account", account)
        .route("/enter", get(login_page).post(sign_in));
    Site::with_routes(routes)
}

fn to_login() -> RequireSignIn {
    RequireSignIn::redirect_to("/enter").unwrap()
}

#[tokio::test]
async fn signed_in_user_passes() {
    for guard in [RequireSignIn::new(), to_login(), to_login().fresh_within(FRESH)] {
        let site = site(guard);
        let cookie = site.send("POST /login", "").await.cookie();
        site.store.take_calls();
        let answer = site.send("GET /page", &cookie).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "ada"));
        assert_eq!(answer.header(header::CACHE_CONTROL), None, "the guard leaves it alone");
        assert_eq!(site.store.take_calls(), [Verb::Load], "one load for guard and handler");
    }
}

#[tokio::test]
async fn visitor_of_an_api_is_401_as_the_client_accepts() {
    let site = site(RequireSignIn::new());
    let visitor = site.begin().await;
    for cookie in ["", &visitor] {
        for accept in ["*/*", "text/plain", BROWSER, "application/json, text/html"] {
            let text = site.send_accepting("GET /page", cookie, accept).await.text();
            allow_duplicates! {
                assert_snapshot!(text, @"
                401 Unauthorized
                cache-control: no-store
                vary: cookie
                sign in first
                ");
            }
        }
        for accept in ["application/json", "text/plain;q=0.5, Application/JSON;q=0.9"] {
            let answer = site.send_accepting("POST /page", cookie, accept).await;
            assert_eq!(answer.header(header::CONTENT_TYPE), Some("application/json"));
            allow_duplicates! {
                assert_snapshot!(answer.text(), @r#"
                401 Unauthorized
                cache-control: no-store
                vary: cookie
                {"error":"signed out"}
                "#);
            }
        }
    }
}

#[tokio::test]
async fn browser_is_redirected_with_the_page_to_return_to() {
    let site = site(to_login());
    assert_snapshot!(site.send_accepting("GET /page?a=1&b=%2F%25#", "", BROWSER).await.text(), @"
    303 See Other
    location: /enter?next=/page%3Fa%3D1%26b%3D%252F%2525
    cache-control: no-store
    vary: cookie
    ");
    let location = async |route: &str| {
        let answer = site.send_accepting(route, "", BROWSER).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{route}");
        answer.header(header::LOCATION).unwrap().to_owned()
    };
    assert_eq!(location("HEAD /page").await, "/enter?next=/page");
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert_eq!(location(&format!("{method} /page?a=1")).await, "/enter", "{method}");
    }
    assert_eq!(location("GET /account/mail?a").await, "/enter?next=/account/mail%3Fa");
    // HTTP/2 and proxies send the whole URI.
    assert_eq!(location("GET http://evil.example/page").await, "/enter?next=/page");
    for path in ["/page?a=\\", &format!("/page?{}", "a".repeat(2_000))] {
        assert_eq!(location(&format!("GET {path}")).await, "/enter", "{path}");
    }
}

#[tokio::test]
async fn program_is_not_redirected() {
    let site = site(to_login());
    for accept in ["*/*", "application/json", "text/plain", "text/html5, xtext/html"] {
        let answer = site.send_accepting("GET /page", "", accept).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{accept}");
        assert_eq!(answer.header(header::LOCATION), None, "{accept}");
    }
}

#[tokio::test]
async fn login_returns_to_the_page() {
    let site = site(to_login());
    let base = Url::parse("https://shop.example").unwrap();
    for page in ["/page", "/page?a=1&b=%2F%25&next=//evil.example", "/account/mail?%26=%3D"] {
        let refused = site.send_accepting(&format!("GET {page}"), "", BROWSER).await;
        let login = base.join(refused.header(header::LOCATION).unwrap()).unwrap();
        let (path, query) = (login.path(), login.query().unwrap());
        let shown = site.send(&format!("GET {path}?{query}"), "").await;
        assert_eq!(shown.body, format!("next {page}"));
        let entered = site.send(&format!("POST {path}?{query}"), "").await;
        assert_eq!(entered.header(header::LOCATION), Some(page));
        assert_eq!(site.send(&format!("GET {page}"), &entered.cookie()).await.body, "ada");
    }
}

#[tokio::test]
async fn login_page_keeps_its_own_query() {
    let site = site(RequireSignIn::redirect_to("/enter?lang=en").unwrap());
    let location = async |route: &str| {
        let answer = site.send_accepting(route, "", BROWSER).await;
        answer.header(header::LOCATION).unwrap().to_owned()
    };
    assert_eq!(location("GET /page").await, "/enter?lang=en&next=/page");
    assert_eq!(location("POST /page").await, "/enter?lang=en");
}

#[tokio::test]
async fn guarded_login_page_is_no_endless_redirect() {
    let guard = RequireSignIn::redirect_to("/page?lang=en").unwrap();
    let answer = site(guard).send_accepting("GET /page?next=/page", "", BROWSER).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn old_login_is_sent_to_the_login_page_or_is_403() {
    let site = site(to_login().fresh_within(FRESH));
    let cookie = site.send("POST /login", "").await.cookie();
    assert_eq!(site.send("GET /page", &cookie).await.body, "ada");
    site.advance(FRESH + Duration::from_secs(1));
    assert_snapshot!(site.send_accepting("GET /page", &cookie, BROWSER).await.text(), @"
    303 See Other
    location: /enter?next=/page
    cache-control: no-store
    vary: cookie
    ");
    assert_snapshot!(site.send("GET /page", &cookie).await.text(), @"
    403 Forbidden
    cache-control: no-store
    vary: cookie
    sign in again to do this
    ");
    assert_snapshot!(site.send_accepting("GET /page", &cookie, "application/json").await.text(), @r#"
    403 Forbidden
    cache-control: no-store
    vary: cookie
    {"error":"login too old"}
    "#);
    // Nobody is signed in at all.
    assert_eq!(site.send("GET /page", "").await.status, StatusCode::UNAUTHORIZED);
}

/// After a login, support staff would come back to the password page as themselves.
#[tokio::test]
async fn user_who_acts_as_another_is_never_sent_to_the_login_page() {
    let support = post(async |session: Session| session.act_as("grace", FRESH));
    let guard = to_login().fresh_within(FRESH);
    let pages = Router::new().route("/page", any(page)).route_layer(guard);
    let site = Site::with_routes(pages.route("/support", support));
    let cookie = site.send("POST /login", "").await.cookie();
    let cookie = site.send("POST /support", &cookie).await.cookie();
    assert_snapshot!(site.send_accepting("GET /page", &cookie, BROWSER).await.text(), @"
    403 Forbidden
    cache-control: no-store
    vary: cookie
    only the user can do this
    ");
    assert_snapshot!(site.send_accepting("GET /page", &cookie, "application/json").await.text(), @r#"
    403 Forbidden
    cache-control: no-store
    vary: cookie
    {"error":"acting as a user"}
    "#);
}

/// An outer layer may count the request, or answer with a page of its own.
#[tokio::test]
async fn old_login_is_the_same_error_in_each_form() {
    async fn count(session: Session, request: Request<Body>, next: Next) -> Response {
        session.update(COUNT, |count| *count += 1).unwrap();
        let mut response = next.run(request).await;
        if response.extensions().get::<Arc<SessionError>>().is_some() {
            response.headers_mut().insert("x-error", HeaderValue::from_static("of the session"));
        }
        response
    }
    let routes = Router::new()
        .route("/page", any(page))
        .route_layer(RequireSignIn::new().fresh_within(FRESH))
        .route_layer(from_fn(count));
    let site = Site::with_routes(routes);
    let cookie = site.send("POST /login", "").await.cookie();
    site.advance(FRESH + Duration::from_secs(1));
    for accept in ["text/plain", "application/json"] {
        let refused = site.send_accepting("GET /page", &cookie, accept).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{accept}");
        assert!(refused.header(header::CONTENT_TYPE).unwrap().starts_with(accept), "{accept}");
        let error = refused.header(HeaderName::from_static("x-error"));
        assert_eq!(error, Some("of the session"), "{accept}");
        assert_eq!(site.send("GET /read", &cookie).await.body, "0", "{accept}: stores nothing");
    }
}

#[tokio::test]
async fn note_that_the_session_ended_survives_the_redirect() {
    let site = site(to_login());
    let cookie = site.send("POST /login", "").await.cookie();
    site.advance(Duration::from_secs(365 * 24 * 3600));
    let refused = site.send_accepting("GET /page", &cookie, BROWSER).await;
    assert_eq!(refused.status, StatusCode::SEE_OTHER);
    assert_eq!(refused.set_cookie(), None, "the browser keeps the cookie");
    let login = refused.header(header::LOCATION).unwrap();
    assert_eq!(site.send(&format!("GET {login}"), &cookie).await.body, "ended, next /page");
    assert_eq!(site.send(&format!("GET {login}"), "").await.body, "next /page");
}

#[tokio::test]
async fn outage_is_503_and_no_redirect() {
    let site = site(to_login());
    let cookie = site.send("POST /login", "").await.cookie();
    site.store.fail_all(StoreErrorKind::Unavailable);
    for accept in [BROWSER, "application/json"] {
        let answer = site.send_accepting("GET /page", &cookie, accept).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((answer.set_cookie(), answer.header(header::LOCATION)), (None, None));
    }
    site.store.recover();
    assert_eq!(site.send_accepting("GET /page", &cookie, BROWSER).await.body, "ada");
}

#[tokio::test]
async fn refused_request_reaches_no_handler() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let routes = Router::new().route("/run", get(handler)).route_layer(RequireSignIn::new());
    let site = Site::with_routes(routes);
    site.send("GET /run", "").await;
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let cookie = site.send("POST /login", "").await.cookie();
    site.send("GET /run", &cookie).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn guard_without_the_layer_is_500() {
    let router: Router =
        Router::new().route("/page", get(async || "never")).route_layer(to_login());
    let request =
        || Request::get("/page").header(header::ACCEPT, BROWSER).body(Body::empty()).unwrap();
    let found = answer(router, request()).await;
    assert_eq!(found.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(found.body, SessionRejection::MissingLayer.to_string());
    // A service without Axum can have a guard too.
    let service = service_fn(async |_: Request<Body>| {
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(Body::from("never")))
    });
    let found = answer(RequireSignIn::new().layer(service), request()).await;
    assert_eq!(found.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn login_page_of_another_site_is_refused() {
    for page in
        ["", "login", "//evil.example/login", "https://evil.example", "/\\a", "/a#b", "/a b"]
    {
        let error = RequireSignIn::redirect_to(page).unwrap_err().to_string();
        assert!(error.ends_with("is not a path of this site"), "{error}");
    }
}
