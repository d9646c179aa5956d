mod stores;
mod visitor;

pub(crate) use self::{
    stores::{TestStore, on_each_store},
    visitor::{Visitor, leads_to},
};

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use integration_tests::{
    Answer, Browser, PATIENCE, Proxy, RedisServer, ServerProcess, app, assert_silent, redis_config,
};
use reqwest::{Method, StatusCode};
use session_axum::{RedisStore, Sessions, SessionsBuilder};
use session_core::{
    Clock as _, ManualClock, SessionStore as _, StoreError, SystemClock, testing::subscribe,
};
use tokio::time::Instant;

/// Processes of the application behind a load balancer, with one common Redis or each with its own
/// memory.
///
/// On drop, the deployment searches the logs of all processes (at trace level) for session IDs (I10).
/// Every test thus also checks its own logs.
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
        Self::of_each(redis, &vec![env; servers]).await
    }

    /// Starts one server for each set of variables.
    pub(crate) async fn of_each(redis: Option<RedisServer>, envs: &[&[(&str, &str)]]) -> Self {
        let mut started = Vec::new();
        for env in envs {
            started.push(server(redis.as_ref(), env).await);
        }
        let balancer = Proxy::round_robin(started.iter().map(ServerProcess::addr)).await;
        Self { redis, servers: started, balancer }
    }

    /// Returns a browser without cookies, in front of the load balancer.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.balancer.addr())
    }

    /// Returns the same browser, connected to one of the servers by number, modulo their count.
    pub(crate) fn at_server(&self, browser: &Browser, number: usize) -> Browser {
        browser.at(self.servers[number % self.servers.len()].addr())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.balancer.addr()
    }

    pub(crate) fn redis(&self) -> &RedisServer {
        self.redis.as_ref().unwrap()
    }

    /// Ends all servers and starts the same number of new ones.
    pub(crate) async fn restart(&mut self) {
        let count = self.servers.len();
        self.assert_silent();
        self.servers.clear();
        for _ in 0..count {
            self.servers.push(server(self.redis.as_ref(), &[]).await);
        }
        self.balancer = Proxy::round_robin(self.servers.iter().map(ServerProcess::addr)).await;
    }

    /// Kills one of the servers, like an operating system without free memory.
    pub(crate) fn kill(&mut self, number: usize) {
        self.servers[number].kill();
    }

    /// Stops one of the servers, like a hypervisor that moves a machine.
    pub(crate) fn pause(&self, number: usize) {
        self.signal(number, "-STOP");
    }

    /// Continues a [paused](Self::pause) server.
    pub(crate) fn resume(&self, number: usize) {
        self.signal(number, "-CONT");
    }

    fn signal(&self, number: usize, signal: &str) {
        let id = self.servers[number].id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success(), "kill {signal}: {status}");
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

/// The application in this process, with a separate Redis and a manual clock.
pub(crate) struct Stage {
    pub(crate) redis: RedisServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) browser: Browser,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(|sessions| sessions).await
    }

    pub(crate) async fn with(rules: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        let redis = RedisServer::start().await;
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let store = patient_store(&redis).await;
        let builder = Sessions::builder(store).with_clock(Arc::clone(&clock));
        let sessions = rules(builder).build().unwrap();
        let browser = Browser::new(serve(sessions).await);
        Self { redis, clock, browser }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.browser.addr()
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    /// Returns the Redis key of the browser's session.
    pub(crate) async fn redis_key(&self) -> String {
        let session = self.browser.session().await;
        format!("session:s:{}", session["key"].as_str().unwrap())
    }
}

/// Connects a store whose time limits a busy machine keeps.
pub(crate) async fn patient_store(redis: &RedisServer) -> RedisStore {
    RedisStore::connect(redis_config(redis.url(), PATIENCE)).await.unwrap()
}

/// Sends a read to Redis, as the readiness route of a server does.
pub(crate) async fn ping(store: &RedisStore) -> Result<(), StoreError> {
    store.ping(SystemClock.now()).await
}

/// Serves the application in this process until the end of the test.
pub(crate) async fn serve(sessions: impl Into<Sessions>) -> SocketAddr {
    serve_router(app::app(sessions)).await
}

/// Serves an application of the test's own in this process until the end of the test.
pub(crate) async fn serve_router(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    addr
}

/// Repeats a POST while the server is too busy. A 503 of a busy server means that nothing was stored,
/// and asks for a repetition.
pub(crate) async fn post_patiently(browser: &Browser, path: &str) -> Answer {
    let mut answer = browser.post(path).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while answer.status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < deadline {
        answer = browser.post(path).await;
    }
    answer
}

/// Repeats a write until it succeeds, prints the duration of the errors, and asserts that the user stays
/// signed in.
pub(crate) async fn outage(of: &str, browser: &Browser) -> Answer {
    let outage = Instant::now();
    let (mut failed, mut slowest) = (0, Duration::ZERO);
    loop {
        let begin = Instant::now();
        let answer = browser.post("/set/note/after").await;
        slowest = slowest.max(begin.elapsed());
        if answer.status == StatusCode::OK {
            println!(
                "failover by {of}: errors for {:.1?}, {failed} requests, the slowest took {slowest:.1?}",
                outage.elapsed()
            );
            return answer;
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "an outage is no logout");
        assert_eq!(answer.set_cookie(), None);
        failed += 1;
        assert!(outage.elapsed() < Duration::from_secs(60), "no new primary");
    }
}

/// Sends a request with these `Cookie` headers, from a client without a jar.
pub(crate) async fn send_raw(
    addr: SocketAddr,
    method: Method,
    path: &str,
    cookies: &[&[u8]],
) -> Answer {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client.request(method, format!("http://{addr}{path}"));
    for cookie in cookies {
        request = request.header("cookie", *cookie);
    }
    Answer::read(request.send().await.unwrap()).await
}

/// The log entries of a test under the target `session`.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Captures the log entries of this thread until the guard is dropped.
    pub(crate) fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("session=debug")
            .with_writer(move || writer.clone())
            .finish();
        subscribe(subscriber)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Returns the number of times that a text was logged.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
