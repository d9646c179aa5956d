use std::net::SocketAddr;

use integration_tests::Answer;
use reqwest::{Client, StatusCode, redirect};

/// A browser that shows each redirect.
#[derive(Clone)]
pub(crate) struct Visitor {
    http: Client,
    base: String,
}

impl Visitor {
    pub(crate) fn new(addr: SocketAddr) -> Self {
        let http = Client::builder()
            .no_proxy()
            .cookie_store(true)
            .pool_max_idle_per_host(0)
            .redirect(redirect::Policy::none())
            .build()
            .unwrap();
        Self { http, base: format!("http://{addr}") }
    }

    pub(crate) async fn get(&self, path: &str, accept: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.base)).header("accept", accept);
        Answer::read(request.send().await.unwrap()).await
    }

    /// Sends a form, which may be empty.
    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = self.http.post(format!("{}{path}", self.base)).form(form);
        Answer::read(request.send().await.unwrap()).await
    }
}

/// Returns the target of a redirect.
#[track_caller]
pub(crate) fn leads_to(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    answer.headers["location"].to_str().unwrap()
}
