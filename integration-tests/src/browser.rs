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

/// A client with a cookie jar, as a browser has one. Clones share the jar.
///
/// Each request has a connection of its own, so that a load balancer sends them to different servers.
#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    jar: Arc<Jar>,
    base: Url,
}

impl Browser {
    /// Makes a browser with an empty jar that visits the server at `addr`.
    ///
    /// # Panics
    ///
    /// If there is no TLS-free HTTP client to be had, which does not happen.
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

    /// The same browser, with the same jar, on a server elsewhere.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        let mut elsewhere = self.clone();
        elsewhere.base.set_port(Some(addr.port())).expect("the URL has a host");
        elsewhere
    }

    /// The address of the server that the browser visits.
    ///
    /// # Panics
    ///
    /// Never: the browser was made with an address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.base.socket_addrs(|| None).expect("an address")[0]
    }

    /// Makes a browser that comes back with the cookie of this session.
    #[must_use]
    pub fn returning(addr: SocketAddr, session_id: &str) -> Self {
        let browser = Self::new(addr);
        browser.jar.add_cookie_str(&format!("session={session_id}"), &browser.base);
        browser
    }

    /// Another browser that holds the cookies that this one holds now.
    #[must_use]
    pub fn fork(&self) -> Self {
        match self.session_id() {
            Some(id) => Self::returning(self.addr(), &id),
            None => Self::new(self.addr()),
        }
    }

    /// Sends a request; the session IDs that the answer sets are remembered as secrets.
    ///
    /// # Panics
    ///
    /// If no answer comes.
    pub async fn send(&self, method: Method, path: &str) -> Answer {
        self.try_send(method, path).await.expect("an answer")
    }

    /// The same where it may be that no answer comes, or not all of it.
    ///
    /// # Errors
    ///
    /// Returns what kept it from coming.
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

    /// What `GET /session` answers.
    ///
    /// # Panics
    ///
    /// If it does not answer that.
    pub async fn session(&self) -> Value {
        self.get("/session").await.ok().json()
    }

    /// The session ID in the jar.
    #[must_use]
    pub fn session_id(&self) -> Option<String> {
        let cookies = self.jar.cookies(&self.base)?;
        let cookies = cookies.to_str().expect("cookies of ours are ASCII").to_owned();
        cookies.split("; ").find_map(|pair| pair.strip_prefix("session=").map(str::to_owned))
    }
}

/// What a server answered.
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
    /// Reads an answer whole.
    ///
    /// # Panics
    ///
    /// If it breaks off.
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

    /// The answer, which must be a 200.
    ///
    /// # Panics
    ///
    /// If it is not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What the answer sets, if it sets a cookie.
    #[must_use]
    pub fn set_cookie(&self) -> Option<&str> {
        self.headers.get(SET_COOKIE).map(|cookie| cookie.to_str().expect("ASCII"))
    }
}

/// All session IDs that servers of this test program ever gave out.
///
/// What a log, an error or a store shows must hold none of them (I10).
///
/// # Panics
///
/// With the ID's place in it if `text` holds one.
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
