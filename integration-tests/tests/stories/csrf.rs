//! Requests that other sites forge, sent to the example `csrf` as a browser sends them.

#[expect(dead_code, reason = "the example's `main` stays unused")]
#[path = "../../../session-axum/examples/csrf.rs"]
mod example;

use std::{collections::HashSet, net::SocketAddr};

use futures_util::future::join_all;
use reqwest::{Client, StatusCode, redirect::Policy};

use crate::support::{self, serve_router};

/// Runs a check against the example on each store.
async fn on_each_store(check: impl AsyncFn(SocketAddr)) {
    support::on_each_store(async |store| {
        check(serve_router(example::app(store.open().await).unwrap()).await).await;
    })
    .await;
}

/// A browser that follows no redirect.
struct Browser {
    client: Client,
    site: String,
}

impl Browser {
    fn new(addr: SocketAddr) -> Self {
        let client = Client::builder().cookie_store(true).no_proxy().redirect(Policy::none());
        Self { client: client.build().unwrap(), site: format!("http://{addr}") }
    }

    async fn page(&self) -> String {
        let response = self.client.get(&self.site).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    /// Returns the token in the form of the page.
    async fn token(&self) -> String {
        let page = self.page().await;
        let (_, rest) = page.split_once(r#"name="token" value=""#).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// Sends a form from a page of the site itself.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> StatusCode {
        self.post_from("same-origin", &self.site, path, form).await.status()
    }

    async fn post_from(
        &self,
        site: &str,
        origin: &str,
        path: &str,
        form: &[(&str, &str)],
    ) -> reqwest::Response {
        let request = self.client.post(format!("{}{path}", self.site)).form(form);
        request.header("sec-fetch-site", site).header("origin", origin).send().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn post_of_another_site_is_refused_and_sets_no_cookie() {
    on_each_store(async |addr| {
        let ada = Browser::new(addr);
        let token = ada.token().await;
        for (site, origin) in [
            ("cross-site", "https://evil.example"),
            ("same-site", "http://blog.localhost"),
            ("cross-site", "null"),
        ] {
            let note = [("note", "forged"), ("token", token.as_str())];
            for (path, form) in [("/notes", &note[..]), ("/login", &[("user", "mallory")])] {
                let response = ada.post_from(site, origin, path, form).await;
                assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path} from {origin}");
                assert!(response.headers().get("set-cookie").is_none(), "{path} from {origin}");
            }
        }
        assert!(!ada.page().await.contains("forged"));
        assert_eq!(ada.post("/notes", &[("note", "own"), ("token", &token)]).await, SEE_OTHER);
        assert!(ada.page().await.contains("own"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_browser_is_judged_by_its_origin() {
    on_each_store(async |addr| {
        let ada = Browser::new(addr);
        for (origin, status) in [
            (ada.site.clone(), SEE_OTHER),
            (example::FRONT_END.to_owned(), SEE_OTHER),
            (format!("{}.evil.example", ada.site), StatusCode::FORBIDDEN),
            ("null".to_owned(), StatusCode::FORBIDDEN),
        ] {
            let url = format!("{}/login", ada.site);
            let login = ada.client.post(url).form(&[("user", "ada")]).header("origin", &origin);
            assert_eq!(login.send().await.unwrap().status(), status, "{origin}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_front_end_of_the_same_site_is_let_in() {
    on_each_store(async |addr| {
        let ada = Browser::new(addr);
        let form = [("user", "ada")];
        let response = ada.post_from("same-site", example::FRONT_END, "/login", &form).await;
        assert_eq!(response.status(), SEE_OTHER);
        let other = ada.post_from("same-site", "http://localhost:5174", "/login", &form).await;
        assert_eq!(other.status(), StatusCode::FORBIDDEN);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn form_without_the_token_of_its_session_is_refused() {
    on_each_store(async |addr| {
        let (ada, mallory) = (Browser::new(addr), Browser::new(addr));
        // Before the first page, the session has no token, and an empty one matches nothing.
        assert_eq!(
            ada.post("/notes", &[("note", "x"), ("token", "")]).await,
            StatusCode::FORBIDDEN
        );
        let (token, of_mallory) = (ada.token().await, mallory.token().await);
        for wrong in ["", "x", &of_mallory, &token[1..], &format!("{token}A")] {
            let form = [("note", "forged"), ("token", wrong)];
            assert_eq!(ada.post("/notes", &form).await, StatusCode::FORBIDDEN, "{wrong}");
        }
        assert_eq!(ada.post("/notes", &[("note", "forged")]).await, StatusCode::FORBIDDEN);
        assert!(!ada.page().await.contains("forged"));
        // One token is good for several forms.
        for note in ["one", "two"] {
            assert_eq!(ada.post("/notes", &[("note", note), ("token", &token)]).await, SEE_OTHER);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pages_show_one_token() {
    on_each_store(async |addr| {
        for _ in 0..5 {
            let ada = Browser::new(addr);
            // A login begins a session without a token.
            assert_eq!(ada.post("/login", &[("user", "ada")]).await, SEE_OTHER);
            let tokens = join_all((0..8).map(async |_| ada.token().await)).await;
            let tokens: HashSet<_> = tokens.into_iter().collect();
            assert_eq!(tokens.len(), 1, "{tokens:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn login_replaces_the_token() {
    on_each_store(async |addr| {
        let browser = Browser::new(addr);
        let mut before = browser.token().await;
        for user in ["ada", "ada", "bob"] {
            assert_eq!(browser.post("/login", &[("user", user)]).await, SEE_OTHER);
            let stale = [("note", "forged"), ("token", before.as_str())];
            assert_eq!(browser.post("/notes", &stale).await, StatusCode::FORBIDDEN, "{user}");
            let after = browser.token().await;
            assert_ne!(after, before, "{user}");
            before = after;
        }
        assert!(!browser.page().await.contains("forged"));
    })
    .await;
}

const SEE_OTHER: StatusCode = StatusCode::SEE_OTHER;
