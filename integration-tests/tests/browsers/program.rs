//! The login program of session-axum, behind HTTPS with its default cookie.

#[expect(dead_code, unexpected_cfgs, reason = "a program of another crate")]
#[path = "../../../session-axum/examples/login.rs"]
mod login_program;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};
use session_axum::{MemoryStore, SessionCookie, StoreErrorKind};
use session_core::testing::FaultStore;
use tower::ServiceExt as _;

use crate::{
    browser::Browser,
    shop::page,
    site::{EVIL, SHOP, Site},
};

/// The program, and its address.
pub(crate) struct Program {
    app: Router,
    site: Site,
    store: Arc<FaultStore<MemoryStore>>,
}

impl Program {
    pub(crate) async fn start() -> Self {
        let store = Arc::new(FaultStore::new_working(MemoryStore::default()));
        let app = login_program::app(Arc::clone(&store), SessionCookie::default()).unwrap();
        Self { site: Site::serve(app.clone()).await, app, store }
    }

    pub(crate) fn url(&self) -> String {
        self.site.url(SHOP, "/")
    }

    pub(crate) async fn sign_in(&self, browser: &Browser, user: &str) {
        browser.goto(self.url()).await;
        browser.fill("#user", user).await;
        browser.click("main > form button").await;
        browser.until_text(&format!("Hello, {user}")).await;
    }

    /// Leads a browser to each page of the program, and calls a function there with the page's name.
    pub(crate) async fn tour(
        &self,
        browser: &Browser,
        user: &str,
        mut visit: impl AsyncFnMut(&'static str),
    ) {
        browser.goto(self.url()).await;
        browser.until_text("Any name will do").await;
        visit("sign-in").await;

        browser.fill("#user", " ").await;
        browser.click("main > form button").await;
        browser.until_text("Enter a name.").await;
        visit("problem").await;

        self.sign_in(browser, user).await;
        self.sign_in_on_a_phone(user).await;
        browser.until_text("iPhone").await;
        visit("devices").await;

        browser.click("#end-others").await;
        browser.until_text("One other device is signed out.").await;
        visit("notice").await;

        self.sign_out_by_a_phone(user).await;
        browser.until_text("Your session has ended").await;
        visit("ended").await;

        self.store.set_outage(Some(StoreErrorKind::Unavailable));
        browser.goto(self.url()).await;
        browser.until_text("Back in a moment").await;
        visit("outage").await;
        self.store.set_outage(None);

        let login = self.site.url(SHOP, "/login");
        let form =
            format!("<form method=post action='{login}'><button>Win a prize</button></form>");
        browser.goto(Site::serve(page(form)).await.url(EVIL, "/")).await;
        browser.click("button").await;
        browser.until_text("Nothing was done").await;
        visit("foreign-form").await;
    }

    /// Signs a user in on a phone, without a browser, and returns the phone's cookie.
    pub(crate) async fn sign_in_on_a_phone(&self, user: &str) -> HeaderValue {
        let response = self.post("/login", &format!("user={user}"), None).await;
        let set = response.headers()[header::SET_COOKIE].to_str().unwrap();
        set.split(';').next().unwrap().parse().unwrap()
    }

    pub(crate) async fn sign_out_on_the_phone(&self, cookie: HeaderValue) {
        self.post("/logout", "", Some(cookie)).await;
    }

    /// Signs a user in on a phone, and signs the user's other devices out.
    pub(crate) async fn sign_out_by_a_phone(&self, user: &str) {
        let cookie = self.sign_in_on_a_phone(user).await;
        self.post("/devices/end-others", "", Some(cookie)).await;
    }

    async fn post(&self, path: &str, form: &str, cookie: Option<HeaderValue>) -> Response {
        let mut request = Request::post(path)
            .header(header::USER_AGENT, "Mozilla/5.0 (iPhone) Safari/604.1")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap();
        if let Some(cookie) = cookie {
            request.headers_mut().insert(header::COOKIE, cookie);
        }
        let response = self.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{path}");
        response
    }
}
