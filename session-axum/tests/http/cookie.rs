use std::time::Duration;

use axum::{
    Router,
    http::{HeaderName, StatusCode, header},
    routing::{get, post},
};
use insta::assert_snapshot;
use session_axum::{Key, Lifetime, Session, SessionError};
use session_core::testing::Verb;

use crate::support::{COUNT, Site, id};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn first_write_sets_the_cookie_and_forbids_caching() {
    let answer = Site::new().send("POST /count", "").await;
    assert_snapshot!(answer.text(), @"
    200 OK
    set-cookie: __Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Secure; Path=/
    cache-control: no-store
    vary: cookie
    1
    ");
}

/// RFC 9213, 2.2: a cache obeys a rule that is addressed to it before `Cache-Control`.
#[tokio::test]
async fn response_with_a_cookie_loses_the_rules_for_single_caches() {
    const RULE: &str = "cdn-cache-control";
    let count = async |session: Session| {
        session.update(COUNT, |count| *count += 1)?;
        Ok::<_, SessionError>([(RULE, "max-age=60")])
    };
    let site = Site::with_routes(Router::new().route("/cached", post(count)));
    let first = site.send("POST /cached", "").await;
    assert!(first.set_cookie().is_some());
    assert_eq!(first.header(HeaderName::from_static(RULE)), None);
    let second = site.send("POST /cached", &first.cookie()).await;
    assert_eq!(second.header(HeaderName::from_static(RULE)), Some("max-age=60"));
}

#[tokio::test]
async fn later_requests_set_no_cookie() {
    let site = Site::new();
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /count", &cookie).await.text(), @"
    200 OK
    vary: cookie
    2
    ");
    assert_snapshot!(site.send("GET /read", &cookie).await.text(), @"
    200 OK
    vary: cookie
    2
    ");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Commit, Verb::Load]);
}

#[tokio::test]
async fn reading_without_a_cookie_stores_and_sets_nothing() {
    let site = Site::new();
    assert_snapshot!(site.send("GET /read", "").await.text(), @"
    200 OK
    vary: cookie
    0
    ");
    assert!(site.store.take_calls().is_empty());
}

#[tokio::test]
async fn route_that_asks_for_no_session_is_left_alone() {
    let site = Site::new();
    let cookie = site.begin().await;
    for cookie in [&cookie, "", "__Host-session=dead"] {
        assert_eq!(site.send("GET /plain", cookie).await.text(), "200 OK\nplain");
    }
    assert!(site.store.take_calls().is_empty());
}

#[tokio::test]
async fn response_that_sets_the_cookie_is_never_public() {
    let public = || [(header::CACHE_CONTROL, "public, max-age=60")];
    let site = Site::with_routes(
        Router::new()
            .route(
                "/write",
                get(async move |session: Session| {
                    session.set(COUNT, 1)?;
                    Ok::<_, SessionError>((public(), "written"))
                }),
            )
            .route("/only-read", get(async move |_: Session| (public(), "read"))),
    );
    let written = site.send("GET /write", "").await;
    assert_eq!(written.header(header::CACHE_CONTROL), Some("no-store"));
    let read = site.send("GET /only-read", &written.cookie()).await;
    assert_eq!(read.header(header::CACHE_CONTROL), Some("public, max-age=60"));
    assert_eq!(read.header(header::VARY), Some("cookie"));
}

#[tokio::test]
async fn vary_and_cookies_of_the_handler_stay() {
    async fn vary(own: &'static str) -> Vec<String> {
        let own = [(header::VARY, own), (header::SET_COOKIE, "theme=dark")];
        let site = Site::with_routes(
            Router::new()
                .route("/own", get(async move |session: Session| (own, session.set(COUNT, 1)))),
        );
        let answer = site.send("GET /own", "").await;
        assert_eq!(all(&answer.headers, header::SET_COOKIE)[0], "theme=dark");
        assert_eq!(answer.headers.get_all(header::SET_COOKIE).iter().count(), 2);
        all(&answer.headers, header::VARY)
    }
    assert_eq!(vary("accept-encoding").await, ["accept-encoding", "cookie"]);
    assert_eq!(vary("Accept-Encoding, Cookie").await, ["Accept-Encoding, Cookie"]);
    assert_eq!(vary("*").await, ["*"]);
}

#[tokio::test]
async fn cookie_that_opens_nothing_stays() {
    let site = Site::new();
    let unknown = format!("__Host-session={}", id(99));
    let oversized = format!("__Host-session={}", "A".repeat(8192));
    for (cookie, loads) in [
        (&*unknown, 1),
        (&oversized, 0),
        ("__Host-session=malformed", 0),
        ("__Host-session=", 0),
        ("__Host-session", 0),
        ("__Host-session=\u{e4}\u{f6}\u{fc}", 0),
        ("__Host-session=d2d6e0b8-5b0a-4c39-a9f7-3d0a9a3a8b11", 1),
    ] {
        let answer = site.send("GET /read", cookie).await;
        assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "0"), "{cookie}");
        assert_eq!(answer.set_cookie(), None, "{cookie}");
        assert_eq!(site.store.take_calls().len(), loads, "{cookie}");
    }
}

#[tokio::test]
async fn expired_session_opens_nothing_and_its_cookie_stays() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.advance(HOUR - Duration::from_millis(1));
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
    site.advance(HOUR);
    let answer = site.send("GET /read", &cookie).await;
    assert_eq!((&*answer.body, answer.set_cookie()), ("0", None));
}

#[tokio::test]
async fn id_from_the_client_is_never_adopted() {
    let site = Site::new();
    for cookie in [id(99), "malformed".to_owned(), String::new()] {
        let cookie = format!("__Host-session={cookie}");
        let answer = site.send("POST /count", &cookie).await;
        assert_eq!(answer.body, "1");
        assert_ne!(answer.cookie(), cookie);
        assert_eq!(site.send("GET /read", &cookie).await.body, "0");
        assert_eq!(site.send("GET /read", &answer.cookie()).await.body, "1");
    }
}

#[tokio::test]
async fn cookie_that_opens_a_session_wins_over_others() {
    let site = Site::new();
    let cookie = site.begin().await;
    let dead = format!("__Host-session={}", id(99));
    for line in [
        format!("{dead}; {cookie}"),
        format!("{cookie}; {dead}"),
        format!("__Host-session=; a=b; {cookie}"),
    ] {
        let answer = site.send("GET /read", &line).await;
        assert_eq!((&*answer.body, answer.set_cookie()), ("1", None), "{line}");
    }
    let lines = [dead.as_bytes(), cookie.as_bytes()];
    assert_eq!(site.send_lines("GET /read", &lines).await.body, "1");
}

#[tokio::test]
async fn at_most_four_cookies_are_tried() {
    let site = Site::new();
    let many: Vec<_> = (50..250).map(|n| format!("__Host-session={}", id(n))).collect();
    let answer = site.send("GET /read", &many.join("; ")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(site.store.take_calls().len(), 4);
}

#[tokio::test]
async fn sixty_four_kilobytes_of_cookies_hide_no_session() {
    let site = Site::new();
    let cookie = site.begin().await;
    let others: String = (0..2048).map(|n| format!("other{n:04}={}; ", "x".repeat(24))).collect();
    assert!(others.len() > 64 * 1024);
    let answer = site.send("GET /read", &format!("{others}{cookie}")).await;
    assert_eq!((&*answer.body, answer.set_cookie()), ("1", None));
}

#[tokio::test]
async fn cookies_beyond_ascii_hide_no_session() {
    let site = Site::new();
    let cookie = site.begin().await;
    let line = [b"name=\xff\xfe\xe4; \xc3\xa4=1; ", cookie.as_bytes()].concat();
    assert_eq!(site.send_lines("GET /read", &[&line]).await.body, "1");
}

#[tokio::test]
async fn remember_me_makes_the_cookie_persistent() {
    let site = Site::with_routes(Router::new().route(
        "/remember",
        post(async |session: Session| {
            session.set_lifetime(Lifetime::remember_me())?;
            session.set(Key::<bool>::new("remembered"), true)?;
            Ok::<_, SessionError>("noted")
        }),
    ));
    let answer = site.send("POST /remember", "").await;
    assert_snapshot!(answer.set_cookie().unwrap(), @"__Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=2592000");
    // In a session that exists already, for the time that is left of it.
    let cookie = site.begin().await;
    site.advance(Duration::from_millis(1_500));
    let answer = site.send("POST /remember", &cookie).await;
    assert_eq!(answer.cookie(), cookie);
    assert!(answer.set_cookie().unwrap().ends_with("; Max-Age=2591999"));
}

#[tokio::test]
async fn login_changes_the_id_and_the_old_one_opens_nothing() {
    let site = Site::new();
    let before = site.begin().await;
    let answer = site.send("POST /login", &before).await;
    assert_snapshot!(answer.text(), @"
    200 OK
    set-cookie: __Host-session=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE; HttpOnly; SameSite=Lax; Secure; Path=/
    cache-control: no-store
    vary: cookie
    welcome
    ");
    let after = answer.cookie();
    assert_ne!(after, before);
    assert_eq!(site.send("GET /read", &after).await.body, "1");
    // The browser sent this request before it received the new cookie.
    let late = site.send("GET /read", &before).await;
    assert_eq!((&*late.body, late.set_cookie()), ("0", None));
    site.advance(Duration::from_secs(301));
    let replayed = site.send("GET /read", &before).await;
    assert_eq!((&*replayed.body, replayed.set_cookie()), ("0", None));
}

#[tokio::test]
async fn logout_removes_the_cookie_and_its_id_opens_nothing() {
    let site = Site::new();
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /logout", &cookie).await.text(), @"
    200 OK
    set-cookie: __Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT
    cache-control: no-store
    vary: cookie
    goodbye
    ");
    assert_eq!(site.send("GET /read", &cookie).await.body, "0");
    // Only the request that ended the session removes the cookie.
    assert_eq!(site.send("POST /logout", &cookie).await.set_cookie(), None);
    assert_eq!(site.send("POST /logout", "").await.set_cookie(), None);
}

#[tokio::test]
async fn write_after_a_logout_begins_a_session_of_its_own() {
    let site = Site::with_routes(Router::new().route(
        "/restart",
        post(async |session: Session| {
            session.destroy()?;
            session.set(COUNT, 7)?;
            Ok::<_, SessionError>("again")
        }),
    ));
    let before = site.begin().await;
    let after = site.send("POST /restart", &before).await.cookie();
    assert_ne!(after, before);
    assert_eq!(site.send("GET /read", &after).await.body, "7");
    assert_eq!(site.send("GET /read", &before).await.body, "0");
}

fn all(headers: &axum::http::HeaderMap, name: HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}
