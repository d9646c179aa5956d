//! The example `members` on two servers, used as the page of examples does.

#[expect(dead_code, unexpected_cfgs, reason = "a program of another crate")]
#[path = "../../../session-axum/examples/members.rs"]
mod example;

use std::{sync::Arc, time::Duration};

use integration_tests::{Answer, Proxy};
use reqwest::StatusCode;
use session_axum::{ManualClock, SessionCookie, SessionLayer, Sessions, SystemClock};
use session_core::Clock as _;

use crate::support::{TestStore, Visitor, leads_to, on_each_store, serve_router};

const CODES: &str = "/recovery-codes";

struct Site {
    balancer: Proxy,
    clock: Arc<ManualClock>,
}

impl Site {
    async fn new(store: &TestStore) -> Self {
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let mut servers = Vec::new();
        for _ in 0..2 {
            let sessions = Sessions::builder(store.open().await).with_clock(Arc::clone(&clock));
            let layer = SessionLayer::new(sessions.build().unwrap())
                .with_cookie(SessionCookie::insecure_for_development());
            servers.push(serve_router(example::app(layer).unwrap()).await);
        }
        Self { balancer: Proxy::round_robin(servers).await, clock }
    }

    fn visitor(&self) -> Visitor {
        Visitor::new(self.balancer.addr())
    }

    async fn user(&self, name: &str) -> Visitor {
        let user = self.visitor();
        let form = [("name", name), ("password", "secret")];
        assert_eq!(leads_to(&user.post("/login", &form).await), "/");
        user
    }
}

async fn page(visitor: &Visitor, path: &str) -> Answer {
    visitor.get(path, "text/html").await
}

#[tokio::test]
async fn visitor_signs_in_on_the_way_to_a_page() {
    on_each_store(async |store| {
        let site = Site::new(store).await;
        let visitor = site.visitor();
        let refused = visitor.get(CODES, "*/*").await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.body, r#"{"error":"Sign in first."}"#);
        let to_login = page(&visitor, CODES).await;
        assert_eq!(leads_to(&to_login), "/login?next=/recovery-codes");
        let login = page(&visitor, leads_to(&to_login)).await.ok();
        assert!(login.body.contains(r#"name="next" value="/recovery-codes""#), "{login:?}");
        let form = |password| [("name", "ada"), ("password", password), ("next", CODES)];
        let wrong = visitor.post("/login", &form("wrong")).await;
        assert_eq!((wrong.status.as_u16(), wrong.set_cookie()), (422, None));
        assert_eq!(leads_to(&visitor.post("/login", &form("secret")).await), CODES);
        assert!(page(&visitor, CODES).await.ok().body.contains("The recovery codes of ada"));
        let home = page(&visitor, "/").await.ok();
        assert!(home.body.contains("You are signed in."), "{home:?}");
        assert!(!page(&visitor, "/").await.ok().body.contains("You are signed in."));
    })
    .await;
}

#[tokio::test]
async fn staff_act_as_a_member_and_go_back() {
    on_each_store(async |store| {
        let site = Site::new(store).await;
        let (ada, grace) = (site.user("ada").await, site.user("grace").await);
        let refused = grace.post("/act-as", &[("id", "1")]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(ada.post("/act-as", &[("id", "3")]).await.status, StatusCode::NOT_FOUND);
        assert_eq!(leads_to(&ada.post("/act-as", &[("id", "2")]).await), "/");
        let home = page(&ada, "/").await.ok();
        assert!(home.body.contains("ada acts as grace"), "{home:?}");
        assert!(home.body.contains("Hello, grace"), "{home:?}");
        let refused = ada.get(CODES, "*/*").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.body, r#"{"error":"Only the member can do this."}"#);

        assert_eq!(leads_to(&ada.post("/stop-acting", &[]).await), "/");
        let home = page(&ada, "/").await.ok();
        assert!(home.body.contains("You are back in your own account."), "{home:?}");
        assert!(home.body.contains("Hello, ada"), "{home:?}");
    })
    .await;
}

#[tokio::test]
async fn old_login_confirms_the_password() {
    on_each_store(async |store| {
        let site = Site::new(store).await;
        let ada = site.user("ada").await;
        page(&ada, CODES).await.ok();
        site.clock.advance(Duration::from_secs(61));
        let refused = ada.get(CODES, "*/*").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert_eq!(refused.body, r#"{"error":"Enter your password again."}"#);
        assert_eq!(leads_to(&page(&ada, CODES).await), "/confirm?next=/recovery-codes");
        let form = |password| [("password", password), ("next", CODES)];
        assert_eq!(ada.post("/confirm", &form("wrong")).await.status.as_u16(), 422);
        assert_eq!(leads_to(&page(&ada, CODES).await), "/confirm?next=/recovery-codes");
        assert_eq!(leads_to(&ada.post("/confirm", &form("secret")).await), CODES);
        page(&ada, CODES).await.ok();
    })
    .await;
}

#[tokio::test]
async fn page_of_a_signed_out_member_explains_the_sign_in() {
    on_each_store(async |store| {
        let site = Site::new(store).await;
        let ada = site.user("ada").await;
        site.clock.advance(Duration::from_secs(48 * 3600));
        let to_login = page(&ada, "/").await;
        let login = page(&ada, leads_to(&to_login)).await.ok();
        assert!(login.body.contains("Your session has ended."), "{login:?}");
    })
    .await;
}
