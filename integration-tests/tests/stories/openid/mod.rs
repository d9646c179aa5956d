//! A sign-in through an OpenID Connect provider, and its attacks: the example `openid` over HTTP, on
//! memory and on Redis.

#[path = "../../../../session-axum/examples/openid/app.rs"]
mod app;
#[path = "../../../../session-axum/examples/openid/discovery.rs"]
mod discovery;
#[path = "../../../../session-axum/examples/openid/logout.rs"]
mod logout;
#[path = "../../../../session-axum/examples/openid/provider.rs"]
mod provider;

mod back_channel;
mod sign_in;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    body::to_bytes,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use integration_tests::RedisServer;
use provider::{Client, Provider};
use reqwest::{StatusCode, redirect::Policy};
use serde_json::Value;
use session_axum::{Backend, Clock, MemoryStore, Sessions, SystemClock};
use tokio::{net::TcpListener, sync::RwLock};
use url::Url;

use crate::support::patient_store;

/// Two servers of the application and its provider, each at a port of its own.
struct World {
    origin: String,
    /// The second server, which shares nothing with the first but the store.
    second: String,
    issuer: String,
    provider: Arc<Provider>,
    sessions: Sessions,
    endpoints: Arc<Endpoints>,
}

/// The test's hand on the provider's answers.
#[derive(Default)]
struct Endpoints {
    requests: AtomicUsize,
    /// The requests for the provider's keys.
    key_requests: AtomicUsize,
    /// Locked by a test in which the provider does not answer the requests for its keys.
    keys: RwLock<()>,
    /// Makes the next ID token, from the claims of the provider's.
    forgery: Mutex<Option<Forgery>>,
}

type Forgery = Box<dyn FnOnce(Value) -> String + Send>;

/// Runs a check on memory, then on Redis.
async fn on_each_store(check: impl AsyncFn(World)) {
    check(World::new(MemoryStore::default()).await).await;
    let redis = RedisServer::start().await;
    check(World::new(patient_store(&redis).await).await).await;
}

impl World {
    async fn new(store: impl Backend) -> Self {
        Self::with_clock(store, Arc::new(SystemClock)).await
    }

    async fn with_clock(store: impl Backend, clock: Arc<dyn Clock>) -> Self {
        let store: Arc<dyn Backend> = Arc::new(store);
        let (listeners, provider_listener) = ([listen().await, listen().await], listen().await);
        // Two sites, as a browser sees them.
        let [origin, second] = listeners
            .each_ref()
            .map(|listener| format!("http://localhost:{}", listener.local_addr().unwrap().port()));
        let issuer = format!("http://{}", provider_listener.local_addr().unwrap());
        let provider = Arc::new(Provider::new(&issuer, Client::of(&origin)));
        let endpoints = Arc::new(Endpoints::default());
        let forge = from_fn_with_state(Arc::clone(&endpoints), forge);
        serve(provider_listener, provider::router(Arc::clone(&provider)).layer(forge));
        let sessions = || {
            let sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
            sessions.build().unwrap()
        };
        for listener in listeners {
            serve(listener, app::app(sessions(), &origin, &issuer).await.unwrap());
        }
        let sessions = sessions();
        Self { origin, second, issuer, provider, sessions, endpoints }
    }

    /// Lets the provider make another ID token at the next sign-in.
    fn forge(&self, forgery: impl FnOnce(Value) -> String + Send + 'static) {
        *self.endpoints.forgery.lock().unwrap() = Some(Box::new(forgery));
    }

    /// Lets the provider sign other claims at the next sign-in.
    fn change_claims(&self, changes: &Value) {
        let (provider, changes) = (Arc::clone(&self.provider), changes.clone());
        self.forge(move |claims| provider.sign(&changed(claims, &changes)));
    }

    fn token_requests(&self) -> usize {
        self.endpoints.requests.load(Ordering::SeqCst)
    }

    fn key_requests(&self) -> usize {
        self.endpoints.key_requests.load(Ordering::SeqCst)
    }

    fn browser(&self) -> Browser {
        let client = reqwest::Client::builder().cookie_store(true).no_proxy();
        Browser {
            client: client.redirect(Policy::none()).build().unwrap(),
            origin: self.origin.clone(),
        }
    }

    /// Returns a browser in which this user has signed in.
    async fn signed_in(&self, user: &str) -> Browser {
        let browser = self.browser();
        let answer = browser.get(&browser.authorize(&format!("/login?user={user}")).await).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        assert!(browser.is_signed_in_as(user).await);
        browser
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn serve(listener: TcpListener, app: Router) {
    tokio::spawn(axum::serve(listener, app).into_future());
}

async fn forge(State(endpoints): State<Arc<Endpoints>>, request: Request, next: Next) -> Response {
    let is_token = request.uri().path() == "/token";
    if request.uri().path() == "/jwks" {
        endpoints.key_requests.fetch_add(1, Ordering::SeqCst);
        drop(endpoints.keys.read().await);
    }
    let response = next.run(request).await;
    if !is_token {
        return response;
    }
    endpoints.requests.fetch_add(1, Ordering::SeqCst);
    let Some(forgery) = endpoints.forgery.lock().unwrap().take() else { return response };
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    answer["id_token"] = forgery(claims_of(answer["id_token"].as_str().unwrap())).into();
    (parts.status, Json(answer)).into_response()
}

/// Returns the claims of a signed token.
fn claims_of(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn changed(mut claims: Value, changes: &Value) -> Value {
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

/// A browser that follows no redirect.
#[derive(Clone)]
struct Browser {
    client: reqwest::Client,
    origin: String,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    location: String,
    cookie: Option<String>,
    body: String,
}

impl Browser {
    /// Opens an address, or a path of the application.
    async fn get(&self, address: &str) -> Answer {
        let url = Url::parse(&self.origin).unwrap().join(address).unwrap();
        Answer::read(self.client.get(url).send().await.unwrap()).await
    }

    /// Begins a sign-in, and lets the provider sign the user in. Returns the address at which the
    /// browser returns to the application.
    async fn authorize(&self, path: &str) -> String {
        let begun = self.get(path).await;
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{begun:?}");
        let answer = self.get(&begun.location).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        answer.location
    }

    async fn is_signed_in_as(&self, user: &str) -> bool {
        self.get("/").await.body.contains(&format!("Hello, {user}."))
    }

    async fn is_visitor(&self) -> bool {
        self.get("/").await.body.contains("Sign in")
    }
}

impl Answer {
    async fn read(response: reqwest::Response) -> Self {
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        Self {
            status: response.status(),
            location: header("location").unwrap_or_default(),
            cookie: header("set-cookie"),
            body: response.text().await.unwrap(),
        }
    }
}

/// Returns a parameter of an address.
fn parameter(address: &str, name: &str) -> String {
    let url = Url::parse(address).unwrap();
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// Replaces a parameter of an address, or removes it.
fn with_parameter(address: &str, name: &str, value: Option<&str>) -> String {
    let url = Url::parse(address).unwrap();
    let others = url.query_pairs().into_owned().filter(|(key, _)| key != name);
    let pairs: Vec<_> =
        others.chain(value.map(|value| (name.to_owned(), value.to_owned()))).collect();
    let mut changed = url.clone();
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    changed.into()
}
