//! The session ID in a bearer token, and attacks on the two transports.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use insta::assert_snapshot;
use session_axum::{
    BearerToken, RequireSignIn, Session, SessionCookie, SessionError, SessionLayer, SignedIn,
    StoreErrorKind, Transport,
};
use session_core::testing::Verb;
use tower_http::cors::CorsLayer;

use crate::support::{Answer, COUNT, Site, StoreControl, answer, id};

const TOKEN: HeaderName = HeaderName::from_static("session-token");

fn site(transport: impl Into<Transport>) -> Site {
    let routes = Router::new()
        .route("/me", get(async |SignedIn(user): SignedIn<String>| user))
        .route("/renew", post(async |session: Session| session.renew()))
        .route("/public", post(public));
    Site::with_layer(routes, |layer| layer.with_transport(transport))
}

async fn public(session: Session) -> Result<impl IntoResponse, SessionError> {
    session.set(COUNT, 1)?;
    Ok([(header::CACHE_CONTROL, "public, max-age=60")])
}

fn bearer() -> Site {
    site(BearerToken::default())
}

fn both() -> Site {
    site(Transport::CookieOrBearer(SessionCookie::default(), BearerToken::default()))
}

async fn send(site: &Site, route: &str, authorization: &[&str]) -> Answer {
    let lines = authorization.iter().map(|line| (header::AUTHORIZATION, line.as_bytes()));
    site.send_headers(route, lines).await
}

async fn send_with_cookie(site: &Site, route: &str, authorization: &str, cookie: &str) -> Answer {
    let headers = [(header::COOKIE, cookie), (header::AUTHORIZATION, authorization)];
    site.send_headers(route, headers.map(|(name, value)| (name, value.as_bytes()))).await
}

/// Begins a session, and returns the `Authorization` that opens it.
async fn begin(site: &Site) -> String {
    let answer = send(site, "POST /count", &["Bearer"]).await;
    site.store.take_calls();
    credentials(&answer)
}

fn credentials(answer: &Answer) -> String {
    format!("Bearer {}", answer.header(TOKEN).expect("the response reports an ID"))
}

#[tokio::test]
async fn first_write_reports_the_id_and_sets_no_cookie() {
    let site = bearer();
    for none in [&[][..], &["Bearer"]] {
        let answer = send(&site, "POST /count", none).await;
        insta::allow_duplicates! {
            let own = answer.header(TOKEN).unwrap().to_owned();
            assert_snapshot!(answer.text().replace(&own, "(an ID)"), @"
            200 OK
            session-token: (an ID)
            cache-control: no-store
            vary: authorization
            1
            ");
        }
        assert!(answer.headers[TOKEN].is_sensitive());
    }
}

#[tokio::test]
async fn later_requests_report_nothing() {
    let site = bearer();
    let token = begin(&site).await;
    assert_snapshot!(send(&site, "POST /count", &[&token]).await.text(), @"
    200 OK
    vary: authorization
    2
    ");
    assert_snapshot!(send(&site, "GET /read", &[&token]).await.text(), @"
    200 OK
    vary: authorization
    2
    ");
    assert_eq!(send(&site, "GET /plain", &[&token]).await.text(), "200 OK\nplain");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Commit, Verb::Load]);
}

#[tokio::test]
async fn login_reports_another_id_and_the_old_one_opens_nothing() {
    let site = bearer();
    let before = begin(&site).await;
    let after = credentials(&send(&site, "POST /login", &[&before]).await);
    assert_ne!(after, before);
    assert_eq!(send(&site, "GET /me", &[&after]).await.body, "ada");
    assert_eq!(send(&site, "GET /read", &[&before]).await.body, "0");
}

#[tokio::test]
async fn end_is_reported_by_an_empty_header() {
    let site = bearer();
    let token = begin(&site).await;
    assert_snapshot!(send(&site, "POST /logout", &[&token]).await.text(), @"
    200 OK
    session-token: 
    cache-control: no-store
    vary: authorization
    goodbye
    ");
    assert_eq!(send(&site, "GET /read", &[&token]).await.body, "0");
    assert_eq!(send(&site, "POST /logout", &[&token]).await.header(TOKEN), None);
}

#[tokio::test]
async fn unauthorized_response_has_a_challenge() {
    let site = bearer();
    let challenge = async |authorization: &[&str]| {
        let answer = send(&site, "GET /me", authorization).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        answer.header(header::WWW_AUTHENTICATE).unwrap().to_owned()
    };
    let dead = format!("Bearer {}", id(99));
    assert_snapshot!(challenge(&[]).await, @"Bearer");
    assert_snapshot!(challenge(&["Bearer"]).await, @"Bearer");
    assert_snapshot!(challenge(&["Basic aWQ6aWQ="]).await, @"Bearer");
    assert_snapshot!(challenge(&[&dead]).await, @r#"Bearer error="invalid_token""#);
    assert_snapshot!(challenge(&["Bearer malformed"]).await, @r#"Bearer error="invalid_token""#);
    // A visitor's session is valid, and nobody is signed in.
    assert_snapshot!(challenge(&[&begin(&site).await]).await, @"Bearer");
}

#[tokio::test]
async fn challenge_of_the_handler_stays() {
    let challenge = [(header::WWW_AUTHENTICATE, "Digest")];
    let refuse = get(async move |_: Session| (StatusCode::UNAUTHORIZED, challenge));
    let site = Site::with_layer(Router::new().route("/refuse", refuse), |layer| {
        layer.with_transport(BearerToken::default())
    });
    let answer = send(&site, "GET /refuse", &[]).await;
    assert_eq!(answer.header(header::WWW_AUTHENTICATE), Some("Digest"));
}

#[tokio::test]
async fn response_with_an_id_is_never_cached() {
    let answer = send(&bearer(), "POST /public", &[]).await;
    assert!(answer.header(TOKEN).is_some());
    assert_eq!(answer.header(header::CACHE_CONTROL), Some("no-store"));
}

#[tokio::test]
async fn response_of_a_shared_route_varies_by_both_headers() {
    let site = both();
    for authorization in [&[][..], &["Bearer"]] {
        let answer = send(&site, "GET /read", authorization).await;
        let vary: Vec<_> = answer.headers.get_all(header::VARY).iter().collect();
        assert_eq!(vary, ["authorization", "cookie"]);
    }
}

#[tokio::test]
async fn header_of_the_response_has_the_chosen_name() {
    let site = site(BearerToken::default().with_response_header("X-Auth-Token").unwrap());
    let answer = send(&site, "POST /count", &[]).await;
    assert!(answer.header(HeaderName::from_static("x-auth-token")).is_some());
    assert_eq!(answer.header(TOKEN), None);
}

/// A client that never received the renewed ID keeps its session.
#[tokio::test]
async fn renewal_whose_response_is_lost_keeps_the_session() {
    let site = bearer();
    let former = begin(&site).await;
    let lost = credentials(&send(&site, "POST /renew", &[&former]).await);
    site.advance(Duration::from_secs(60));
    let again = send(&site, "GET /read", &[&former]).await;
    assert_eq!((&*again.body, credentials(&again)), ("1", lost.clone()));
    assert_eq!(again.header(header::CACHE_CONTROL), Some("no-store"));
    assert_eq!(send(&site, "GET /read", &[&lost]).await.header(TOKEN), None);
    // The grace is over.
    site.advance(Duration::from_secs(31));
    let late = send(&site, "GET /read", &[&former]).await;
    assert_eq!((&*late.body, late.header(TOKEN)), ("0", None));
}

#[tokio::test]
async fn outage_is_no_logout() {
    let site = bearer();
    let token = begin(&site).await;
    site.store.fail_all(StoreErrorKind::Unavailable);
    for route in ["GET /me", "POST /logout"] {
        let answer = send(&site, route, &[&token]).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header(header::CACHE_CONTROL), Some("no-store"));
        assert_eq!(answer.header(header::VARY), Some("authorization"));
        let told = (answer.header(TOKEN), answer.header(header::WWW_AUTHENTICATE));
        assert_eq!((told, answer.set_cookie()), ((None, None), None));
    }
}

#[tokio::test]
async fn id_of_a_cookie_opens_nothing_as_a_bearer_token() {
    let site = both();
    let cookie = site.send("POST /login", "").await.cookie();
    let (_, id) = cookie.split_once('=').unwrap();
    let stolen = format!("Bearer {id}");
    assert_eq!(send(&site, "GET /me", &[&stolen]).await.status, StatusCode::UNAUTHORIZED);
    let attempts = ["POST /count", "POST /login", "POST /renew", "POST /logout"];
    for route in attempts {
        let answer = send(&site, route, &[&stolen]).await;
        assert_eq!((answer.status, answer.set_cookie()), (StatusCode::OK, None), "{route}");
        assert_ne!(answer.header(TOKEN), Some(id), "{route}");
    }
    assert_eq!(site.send("GET /me", &cookie).await.body, "ada", "the session is as before");
}

#[tokio::test]
async fn bearer_token_opens_nothing_as_a_cookie() {
    let site = both();
    let token = credentials(&send(&site, "POST /login", &["Bearer"]).await);
    let id = token.strip_prefix("Bearer ").unwrap();
    let planted = format!("__Host-session={id}");
    assert_eq!(site.send("GET /me", &planted).await.status, StatusCode::UNAUTHORIZED);
    for route in ["POST /count", "POST /login", "POST /renew", "POST /logout"] {
        let answer = site.send(route, &planted).await;
        assert_eq!((answer.status, answer.header(TOKEN)), (StatusCode::OK, None), "{route}");
        assert!(!answer.set_cookie().unwrap_or_default().contains(id), "{route}");
    }
    assert_eq!(send(&site, "GET /me", &[&token]).await.body, "ada", "the session is as before");
}

/// The token counts, in whatever state it is, and the cookie of the request does not change.
#[tokio::test]
async fn bearer_token_wins_over_the_cookie() {
    let site = both();
    let cookie = site.send("POST /login", "").await.cookie();
    let token = begin(&site).await;
    let answer = send_with_cookie(&site, "POST /count", &token, &cookie).await;
    assert_eq!((&*answer.body, answer.set_cookie()), ("2", None));
    let dead = format!("Bearer {}", id(99));
    for token in [&*dead, "Bearer", "Bearer malformed", "Bearer\t", "bearer,"] {
        let me = send_with_cookie(&site, "GET /me", token, &cookie).await;
        assert_eq!(me.status, StatusCode::UNAUTHORIZED, "{token}");
        for route in ["POST /count", "POST /logout"] {
            let answer = send_with_cookie(&site, route, token, &cookie).await;
            assert_eq!((answer.status, answer.set_cookie()), (StatusCode::OK, None), "{token}");
        }
    }
    assert_eq!(site.send("GET /me", &cookie).await.body, "ada");
}

/// A proxy in front of the site asks for a password, and passes its header on.
#[tokio::test]
async fn credentials_of_a_proxy_open_nothing() {
    const PROXY: &str = "Basic c3RhZmY6c2VjcmV0";
    let site = both();
    let cookie = site.send("POST /login", "").await.cookie();
    assert_eq!(send_with_cookie(&site, "GET /me", PROXY, &cookie).await.body, "ada");
    let site = bearer();
    let token = credentials(&send(&site, "POST /login", &[]).await);
    assert_eq!(send(&site, "GET /me", &[&token]).await.body, "ada");
    for lines in [&[PROXY][..], &[PROXY, &token], &[&token, PROXY], &[&token, &token]] {
        let answer = send(&site, "GET /me", lines).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{lines:?}");
    }
}

#[tokio::test]
async fn token_has_one_spelling() {
    let site = bearer();
    let token = begin(&site).await;
    let id = token.strip_prefix("Bearer ").unwrap();
    for same in [format!("bearer {id}"), format!("BEARER   {id}"), format!("  Bearer {id} \t")] {
        assert_eq!(send(&site, "GET /read", &[&same]).await.body, "1", "{same:?}");
    }
    site.store.take_calls();
    for other in [
        format!("Bearer\t{id}"),
        format!("Bearer \"{id}\""),
        format!("Bearer {id}="),
        format!("Bearer {id} {id}"),
        format!("Bearer {id}, Bearer {id}"),
        format!("Bearer token={id}"),
        format!("Bearer {}", id.to_lowercase()),
        format!("Bearer {}", id.repeat(1_600)),
        format!("Bearer{id}"),
        format!("Token {id}"),
        format!("Bearer {id}\u{e4}"),
        id.to_owned(),
    ] {
        assert_eq!(send(&site, "GET /read", &[&other]).await.body, "0", "{other:?}");
    }
    let calls = site.store.take_calls();
    assert!(calls.len() <= 1, "only the other ID in lower case may be looked up: {calls:?}");
}

/// A page of another host: the browser asks first, and shows the page only the exposed headers.
#[tokio::test]
async fn cors_layer_lets_a_page_of_another_host_read_the_id() {
    let token = BearerToken::default();
    let cors = CorsLayer::new()
        .allow_origin(HeaderValue::from_static("https://app.example"))
        .allow_methods([Method::POST])
        .allow_headers([header::AUTHORIZATION])
        .expose_headers([token.response_header().clone()]);
    let store = StoreControl::default();
    let router = Router::new()
        .route("/count", post(async |session: Session| session.set(COUNT, 1)))
        .route_layer(RequireSignIn::new())
        .route("/login", post(async |session: Session| session.authenticate("ada")))
        .layer(SessionLayer::new(store.store()).with_transport(token))
        .layer(cors);
    let preflight = Request::options("/count")
        .header(header::ORIGIN, "https://app.example")
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
        .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
    let allowed = answer(router.clone(), preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(allowed.status, StatusCode::OK);
    let names = allowed.header(header::ACCESS_CONTROL_ALLOW_HEADERS);
    assert_eq!(names, Some("authorization"));
    assert!(store.take_calls().is_empty());
    let login = Request::post("/login").header(header::ORIGIN, "https://app.example");
    let login = answer(router, login.body(Body::empty()).unwrap()).await;
    assert!(login.header(TOKEN).is_some());
    assert_eq!(login.header(header::ACCESS_CONTROL_EXPOSE_HEADERS), Some("session-token"));
}
