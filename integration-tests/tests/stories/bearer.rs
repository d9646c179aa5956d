//! The session ID in a bearer token, over real HTTP, through several servers with one store.

use std::net::SocketAddr;

use axum::{
    Router,
    routing::{get, post},
};
use futures_util::future::join_all;
use integration_tests::{Answer, PATIENCE, RedisServer, redis_config};
use reqwest::{Method, StatusCode};
use session_axum::{
    Backend, BearerToken, Key, RedisStore, Session, SessionCookie, SessionError, SessionLayer,
    SignedIn, Transport,
};
use session_redis::NearCache;

use crate::support::{TestStore, on_each_store, serve_router};

const COUNT: Key<u64> = Key::new("count");

fn app(store: impl Backend) -> Router {
    // Browsers and other clients share the routes.
    let cookie = SessionCookie::insecure_for_development();
    let transport = Transport::CookieOrBearer(cookie, BearerToken::default());
    Router::new()
        .route("/login", post(async |session: Session| session.authenticate(7)))
        .route("/logout", post(async |session: Session| session.destroy()))
        .route("/renew", post(async |session: Session| session.renew()))
        .route("/count", post(count))
        .route("/me", get(me))
        .layer(SessionLayer::new(store).with_transport(transport))
}

async fn count(session: Session) -> Result<String, SessionError> {
    Ok(session.update(COUNT, |count| *count += 1)?.to_string())
}

async fn me(SignedIn(user): SignedIn<u64>, session: Session) -> String {
    format!("user {user}, count {}", session.get(COUNT).unwrap_or_default())
}

/// A client that keeps its token as the documentation of `BearerToken` says.
#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    addr: SocketAddr,
    token: String,
}

impl Client {
    fn new(addr: SocketAddr) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { http, addr, token: String::new() }
    }

    async fn send(&mut self, method: Method, path: &str) -> Answer {
        let answer = self.clone().send_and_lose(method, path).await;
        if let Some(token) = answer.headers.get("session-token") {
            token.to_str().unwrap().clone_into(&mut self.token);
        }
        answer
    }

    /// Sends a request whose response never reaches the client.
    async fn send_and_lose(self, method: Method, path: &str) -> Answer {
        let request = self.http.request(method, format!("http://{}{path}", self.addr));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let answer = Answer::read(request.send().await.unwrap()).await;
        assert_eq!(answer.set_cookie(), None, "{path}");
        answer
    }

    async fn post(&mut self, path: &str) -> Answer {
        self.send(Method::POST, path).await.ok()
    }
}

async fn servers(store: &TestStore) -> Vec<SocketAddr> {
    join_all((0..3).map(async |_| serve_router(app(store.open().await)).await)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_signs_in_counts_and_signs_out() {
    on_each_store(async |store| {
        let [addr, ..] = servers(store).await[..] else { panic!("there are three") };
        let mut client = Client::new(addr);
        client.post("/count").await;
        let visitor = client.clone();
        client.post("/login").await;
        assert_ne!(visitor.token, client.token);
        assert_eq!(client.send(Method::GET, "/me").await.body, "user 7, count 1");
        let closed = visitor.send_and_lose(Method::GET, "/me").await;
        assert_eq!(closed.status, StatusCode::UNAUTHORIZED);
        // The client may have received the new ID meanwhile, and must not forget it.
        assert_eq!(closed.headers["www-authenticate"], "Bearer");
        let former = client.clone();
        client.post("/logout").await;
        assert_eq!(client.token, "", "the end is reported");
        let ended = former.send_and_lose(Method::GET, "/me").await;
        assert_eq!(ended.status, StatusCode::UNAUTHORIZED);
        assert_eq!(ended.headers["www-authenticate"], r#"Bearer error="invalid_token""#);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_whose_responses_are_lost_sign_no_client_out() {
    on_each_store(async |store| {
        let servers = servers(store).await;
        let at = |client: &Client, number: usize| Client {
            addr: servers[number % servers.len()],
            ..client.clone()
        };
        let mut client = Client::new(servers[0]);
        client.post("/login").await;
        for lost in 0..5 {
            let renewed = at(&client, lost).send_and_lose(Method::POST, "/renew").await.ok();
            assert_ne!(renewed.headers["session-token"], *client.token);
            let told_again = at(&client, lost + 1).send_and_lose(Method::POST, "/count").await.ok();
            assert_eq!(told_again.headers["session-token"], renewed.headers["session-token"]);
        }
        let former = client.token.clone();
        assert_eq!(client.send(Method::GET, "/me").await.body, "user 7, count 5");
        assert_ne!(client.token, former, "the renewed ID has arrived");
        assert_eq!(client.send(Method::GET, "/me").await.body, "user 7, count 5");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_lose_nothing_through_a_renewal() {
    on_each_store(async |store| {
        let servers = servers(store).await;
        let mut client = Client::new(servers[0]);
        client.post("/login").await;
        let requests = (0..60).map(|number| {
            let client = Client { addr: servers[number % servers.len()], ..client.clone() };
            let path = if number % 20 == 10 { "/renew" } else { "/count" };
            client.send_and_lose(Method::POST, path)
        });
        for answer in join_all(requests).await {
            answer.ok();
        }
        assert_eq!(client.send(Method::GET, "/me").await.body, "user 7, count 57");
    })
    .await;
}

/// The client has no cookie that reports its writes, so that the near cache must not answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_its_own_writes_through_any_near_cache() {
    let redis = RedisServer::start().await;
    let cached = async || {
        let config = redis_config(redis.url(), PATIENCE).with_near_cache(NearCache::default());
        serve_router(app(RedisStore::connect(config).await.unwrap())).await
    };
    let (one, other) = (cached().await, cached().await);
    let mut client = Client::new(one);
    client.post("/login").await;
    for count in 1..=50 {
        client.addr = if count % 2 == 0 { one } else { other };
        client.post("/count").await;
        client.addr = if count % 2 == 0 { other } else { one };
        let page = client.send(Method::GET, "/me").await;
        assert_eq!(page.body, format!("user 7, count {count}"));
    }
}

/// A stolen ID changes its transport, and an outsider adds headers.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_opens_nothing_by_the_other_transport() {
    on_each_store(async |store| {
        let [addr, ..] = servers(store).await[..] else { panic!("there are three") };
        let send = async |headers: &[(&str, String)]| {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut request = http.get(format!("http://{addr}/me"));
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            Answer::read(request.send().await.unwrap()).await
        };
        let mut client = Client::new(addr);
        client.post("/login").await;
        let browser = integration_tests::Browser::new(addr);
        browser.post("/login").await.ok();
        let (token, cookie) = (client.token.clone(), browser.session_id().unwrap());

        let as_cookie = |id: &str| ("cookie", format!("session={id}"));
        let as_bearer = |id: &str| ("authorization", format!("Bearer {id}"));
        let proxy = ("authorization", "Basic c3RhZmY6c2VjcmV0".to_owned());
        let dead = "A".repeat(43);
        for opens in [
            vec![as_bearer(&token)],
            vec![as_cookie(&cookie)],
            vec![as_bearer(&token), as_cookie(&cookie)],
            vec![as_bearer(&token), as_cookie(&dead)],
            vec![proxy.clone(), as_cookie(&cookie)],
        ] {
            assert_eq!(send(&opens).await.body, "user 7, count 0");
        }
        for refused in [
            vec![as_bearer(&cookie)],
            vec![as_cookie(&token)],
            vec![as_bearer(&cookie), as_cookie(&token)],
            vec![as_bearer(&dead), as_cookie(&cookie)],
            vec![as_bearer(""), as_cookie(&cookie)],
            vec![as_bearer(&token), as_bearer(&token)],
            vec![proxy.clone(), as_bearer(&token)],
            vec![as_bearer(&token.repeat(400))],
        ] {
            let answer = send(&refused).await;
            assert_eq!((answer.status, answer.set_cookie()), (StatusCode::UNAUTHORIZED, None));
        }
    })
    .await;
}
