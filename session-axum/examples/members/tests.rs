//! The handlers, called without a socket by users who are signed in.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};
use session_axum::{
    ManualClock, MemoryStore, SessionLayer, Sessions, StoreErrorKind, Timestamp,
    testing::FaultStore,
};
use tower::ServiceExt as _;

use super::super::{FRESH, app};

const ADA: u64 = 1;
const GRACE: u64 = 2;

struct Site {
    router: Router,
    sessions: SessionLayer,
    clock: Arc<ManualClock>,
    store: Arc<FaultStore<MemoryStore>>,
}

impl Site {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000_000)));
        let store = Arc::new(FaultStore::new_working(MemoryStore::default()));
        let builder = Sessions::builder(Arc::clone(&store));
        let sessions = builder.with_clock(Arc::clone(&clock)).build().unwrap();
        let sessions = SessionLayer::new(sessions);
        Self { router: app(sessions.clone()).unwrap(), sessions, clock, store }
    }

    async fn user(&self, id: u64) -> User<'_> {
        User { site: self, cookie: self.sessions.signed_in_cookie(id).await }
    }
}

/// A browser with one cookie.
struct User<'s> {
    site: &'s Site,
    cookie: HeaderValue,
}

impl User<'_> {
    async fn send(&mut self, route: &str, form: &'static str) -> Answer {
        let (method, path) = route.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::COOKIE, &self.cookie)
            .header(header::ACCEPT, "text/html")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        let answer = answer(&self.site.router, request.body(Body::from(form)).unwrap()).await;
        if let Some(cookie) = answer.head.headers().get(header::SET_COOKIE) {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            self.cookie = HeaderValue::from_str(pair).unwrap();
        }
        answer
    }

    async fn get(&mut self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), "").await
    }
}

struct Answer {
    head: Response<()>,
    body: String,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    #[track_caller]
    fn leads_to(&self) -> &str {
        assert_eq!(self.head.status(), StatusCode::SEE_OTHER, "{}", self.body);
        self.head.headers()[header::LOCATION].to_str().unwrap()
    }
}

async fn answer(router: &Router, request: Request<Body>) -> Answer {
    let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    Answer { head: Response::from_parts(head, ()), body: String::from_utf8(body.to_vec()).unwrap() }
}

#[tokio::test]
async fn old_login_confirms_the_password_before_a_sensitive_page() {
    let site = Site::new();
    let mut ada = site.user(ADA).await;
    assert!(ada.get("/recovery-codes").await.body.contains("1234 5678"));

    site.clock.advance(2 * FRESH);
    let guarded = ada.get("/recovery-codes").await;
    assert_eq!(guarded.leads_to(), "/confirm?next=/recovery-codes");
    let form = ada.get(guarded.leads_to()).await;
    assert!(form.body.contains(r#"name="next" value="/recovery-codes""#), "{}", form.body);
    assert_eq!(ada.send("POST /confirm", "password=wrong").await.status(), 422);
    assert_eq!(ada.get("/recovery-codes").await.status(), 303);

    let former = ada.cookie.clone();
    let confirmed = ada.send("POST /confirm", "password=secret&next=/recovery-codes").await;
    assert_eq!(confirmed.leads_to(), "/recovery-codes");
    assert_ne!(ada.cookie, former, "a new ID");
    assert!(ada.get("/recovery-codes").await.body.contains("1234 5678"));
}

#[tokio::test]
async fn staff_see_a_banner_on_each_page_and_no_sensitive_page() {
    let site = Site::new();
    let mut ada = site.user(ADA).await;
    assert_eq!(ada.send("POST /act-as", "id=2").await.leads_to(), "/");
    for page in ["/", "/confirm"] {
        let page = ada.get(page).await;
        assert!(page.body.contains("ada acts as grace"), "{}", page.body);
    }
    for route in ["GET /recovery-codes", "POST /confirm"] {
        let refused = ada.send(route, "password=secret").await;
        assert_eq!(refused.status(), 403, "{route}");
        assert!(refused.body.contains("Only the member can do this."), "{}", refused.body);
    }

    assert_eq!(ada.send("POST /stop-acting", "").await.leads_to(), "/");
    let home = ada.get("/").await;
    assert!(home.body.contains("Hello, ada"), "{}", home.body);
    assert!(home.body.contains("You are back in your own account."), "{}", home.body);
}

#[tokio::test]
async fn member_cannot_act_as_another() {
    let site = Site::new();
    let mut grace = site.user(GRACE).await;
    assert!(!grace.get("/").await.body.contains("/act-as"));
    let refused = grace.send("POST /act-as", "id=1").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.body, "You may not do this.");
    assert!(grace.get("/").await.body.contains("Hello, grace"));
}

#[tokio::test]
async fn account_that_was_deleted_is_signed_out() {
    let site = Site::new();
    let answer = site.user(3).await.get("/").await;
    assert_eq!(answer.status(), 401);
    assert!(answer.body.contains("<h1>Sign in first.</h1>"), "{}", answer.body);
}

#[tokio::test]
async fn outage_has_a_page_of_the_application() {
    let site = Site::new();
    let mut ada = site.user(ADA).await;
    site.store.set_outage(Some(StoreErrorKind::Unavailable));
    let answer = ada.get("/").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.body.contains("<h1>Back in a moment."), "{}", answer.body);
    assert!(answer.head.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(answer.head.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
}

#[tokio::test]
async fn client_without_html_gets_json() {
    let site = Site::new();
    let answer = answer(&site.router, Request::get("/").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status(), &*answer.body), (401, r#"{"error":"Sign in first."}"#));
}
