use std::{net::SocketAddr, sync::Arc, time::Duration};

use integration_tests::{Browser, Proxy, RedisServer, ServerProcess, app, assert_silent};
use reqwest::Method;
use session_axum::{RedisStore, Sessions};
use session_core::{Clock as _, ManualClock, SystemClock};
use tokio::time::{Instant, sleep};

/// Processes of the application behind a load balancer, on one Redis or each on its own memory.
///
/// When it is dropped, all that the processes logged (at the level of trace) is searched for session
/// IDs (I10), so that every story proves the silence of what it did.
pub(crate) struct Deployment {
    pub(crate) redis: Option<RedisServer>,
    servers: Vec<ServerProcess>,
    balancer: Proxy,
}

impl Deployment {
    pub(crate) async fn on_memory(servers: usize) -> Self {
        Self::start(None, servers, &[]).await
    }

    pub(crate) async fn on_redis(servers: usize) -> Self {
        Self::start(Some(RedisServer::start().await), servers, &[]).await
    }

    pub(crate) async fn start(
        redis: Option<RedisServer>,
        servers: usize,
        env: &[(&str, &str)],
    ) -> Self {
        let mut started = Vec::new();
        for _ in 0..servers {
            started.push(server(redis.as_ref(), env).await);
        }
        let balancer = Proxy::round_robin(started.iter().map(ServerProcess::addr)).await;
        Self { redis, servers: started, balancer }
    }

    /// A browser without cookies, in front of the load balancer.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.balancer.addr())
    }

    /// The same browser, talking to one of the servers, counted round from the first.
    pub(crate) fn at_server(&self, browser: &Browser, number: usize) -> Browser {
        browser.at(self.servers[number % self.servers.len()].addr())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.balancer.addr()
    }

    pub(crate) fn redis(&self) -> &RedisServer {
        self.redis.as_ref().unwrap()
    }

    /// Ends all servers and starts as many new ones.
    pub(crate) async fn restart(&mut self) {
        let count = self.servers.len();
        self.assert_silent();
        self.servers.clear();
        for _ in 0..count {
            self.servers.push(server(self.redis.as_ref(), &[]).await);
        }
        self.balancer = Proxy::round_robin(self.servers.iter().map(ServerProcess::addr)).await;
    }

    /// Ends one of the servers at once, as an operating system does that is short of memory.
    pub(crate) fn kill(&mut self, number: usize) {
        self.servers[number].kill();
    }

    fn assert_silent(&mut self) {
        for server in &mut self.servers {
            server.kill();
            let output = server.output();
            assert!(output.contains("logging at trace level"), "{output}");
            assert_silent("a server's log", &output);
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_silent();
        }
    }
}

async fn server(redis: Option<&RedisServer>, env: &[(&str, &str)]) -> ServerProcess {
    let url = redis.map(|redis| ("REDIS_URL", redis.url()));
    ServerProcess::start(env!("CARGO_BIN_EXE_server"), env.iter().copied().chain(url)).await
}

/// The application in this process, on a Redis of its own, with a clock that stands still.
pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) browser: Browser,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(|sessions| sessions).await
    }

    pub(crate) async fn with(rules: impl FnOnce(Sessions) -> Sessions) -> Self {
        let redis = RedisServer::start().await;
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let store = RedisStore::connect(redis.url()).await.unwrap();
        let sessions = rules(Sessions::new(store).with_clock(Arc::clone(&clock)));
        let browser = Browser::new(serve(sessions).await);
        Self { redis, clock, browser }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.browser.addr()
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// The name in Redis of the browser's session.
    pub(crate) async fn redis_key(&self) -> String {
        let session = self.browser.session().await;
        format!("session:s:{}", session["key"].as_str().unwrap())
    }
}

/// Serves the application in this process, for as long as the test lasts.
pub(crate) async fn serve(sessions: impl Into<Sessions>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app::app(sessions)).into_future());
    addr
}

/// Waits until a condition holds, at most ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request with these `Cookie` headers, from a client that has no jar.
pub(crate) async fn send_raw(
    addr: SocketAddr,
    method: Method,
    path: &str,
    cookies: &[&[u8]],
) -> integration_tests::Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method, format!("http://{addr}{path}"));
    for cookie in cookies {
        request = request.header("cookie", *cookie);
    }
    integration_tests::Answer::read(request.send().await.unwrap()).await
}
