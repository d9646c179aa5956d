use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client, Method, Response, StatusCode, Url,
    cookie::{CookieStore as _, Jar},
    header::{HeaderMap, SET_COOKIE},
};
use serde_json::Value;

/// A client with a cookie jar, like a browser. Clones share the jar.
///
/// Each request opens a new connection, so that a load balancer distributes the requests over the
/// servers.
#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    jar: Arc<Jar>,
    base: Url,
}

impl Browser {
    /// Creates a browser with an empty jar that visits the server at `addr`.
    ///
    /// # Panics
    ///
    /// If the HTTP client cannot be built. Without TLS, the builder always succeeds.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        let jar = Arc::new(Jar::default());
        let client = Client::builder()
            .cookie_provider(Arc::clone(&jar))
            .pool_max_idle_per_host(0)
            .no_proxy()
            .timeout(Duration::from_secs(120))
            .build()
            .expect("a plain HTTP client");
        let base = Url::parse(&format!("http://{addr}")).expect("an address makes a URL");
        Self { client, jar, base }
    }

    /// Returns the same browser, with the same jar, for the server at another address.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        let mut elsewhere = self.clone();
        elsewhere.base.set_port(Some(addr.port())).expect("the URL has a host");
        elsewhere
    }

    /// Returns the address of the server that the browser visits.
    ///
    /// # Panics
    ///
    /// Never: `new` takes an address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.base.socket_addrs(|| None).expect("an address")[0]
    }

    /// Creates a browser that presents the cookie of this session.
    #[must_use]
    pub fn returning(addr: SocketAddr, session_id: &str) -> Self {
        let browser = Self::new(addr);
        browser.jar.add_cookie_str(&format!("session={session_id}"), &browser.base);
        browser
    }

    /// Returns another browser with a copy of the present cookie.
    #[must_use]
    pub fn fork(&self) -> Self {
        match self.session_id() {
            Some(id) => Self::returning(self.addr(), &id),
            None => Self::new(self.addr()),
        }
    }

    /// Opens an event stream.
    ///
    /// # Panics
    ///
    /// If the server does not reply, or not with status 200.
    pub async fn stream(&self, path: &str) -> Response {
        let url = self.base.join(path).expect("a path");
        let response = self.client.get(url).send().await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response
    }

    /// Sends a request, and records the session IDs of the response as secrets.
    ///
    /// # Panics
    ///
    /// If the request fails.
    pub async fn send(&self, method: Method, path: &str) -> Answer {
        self.try_send(method, path).await.expect("an answer")
    }

    /// Like [`send`](Self::send), for requests that may get no response, or only a part of one.
    ///
    /// # Errors
    ///
    /// Returns the error that prevented the response.
    pub async fn try_send(&self, method: Method, path: &str) -> reqwest::Result<Answer> {
        let url = self.base.join(path).expect("a path");
        Answer::try_read(self.client.request(method, url).send().await?).await
    }

    /// Sends a `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path).await
    }

    /// Sends a `POST` without a body.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(Method::POST, path).await
    }

    /// Returns the body of `GET /session`.
    ///
    /// # Panics
    ///
    /// If the status is not 200, or the body is not JSON.
    pub async fn session(&self) -> Value {
        self.get("/session").await.ok().json()
    }

    /// Returns the session ID in the jar.
    #[must_use]
    pub fn session_id(&self) -> Option<String> {
        let cookies = self.jar.cookies(&self.base)?;
        let cookies = cookies.to_str().expect("cookies of ours are ASCII").to_owned();
        cookies.split("; ").find_map(|pair| pair.strip_prefix("session=").map(str::to_owned))
    }
}

/// A response of a server.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Reads a response completely.
    ///
    /// # Panics
    ///
    /// If the body ends early.
    pub async fn read(response: Response) -> Self {
        Self::try_read(response).await.expect("a whole body")
    }

    async fn try_read(response: Response) -> reqwest::Result<Self> {
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            let cookie = cookie.to_str().expect("cookies of ours are ASCII");
            if let Some(("session", value)) =
                cookie.split(';').next().and_then(|pair| pair.split_once('='))
                && !value.is_empty()
            {
                secrets().insert(value.to_owned());
            }
        }
        Ok(Self { status, headers, body: response.text().await? })
    }

    /// Returns the response, whose status must be 200.
    ///
    /// # Panics
    ///
    /// If the status differs.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    ///
    /// If the body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the first `Set-Cookie` header, or `None` if the response sets no cookie.
    #[must_use]
    pub fn set_cookie(&self) -> Option<&str> {
        self.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().expect("ASCII"))
    }
}

/// Asserts that `text` contains no session ID that any server of this test program has issued.
///
/// Logs, errors and stores must never show one (I10).
///
/// # Panics
///
/// If `text` contains an ID. The message shows the line with the ID.
#[track_caller]
pub fn assert_silent(what: &str, text: &str) {
    for secret in secrets().iter() {
        if let Some(at) = text.find(secret.as_str()) {
            let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!(
                "{what} shows a session ID: {}",
                text[line..].lines().next().unwrap_or_default()
            );
        }
    }
}

fn secrets() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner)
}
