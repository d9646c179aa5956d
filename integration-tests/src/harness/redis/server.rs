use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::command_counts::{CommandCounts, CommandMark, Monitor};
use super::connection::{READY_WITHIN, connect};
use super::instance::{Instance, Place};
use super::network::RedisNetwork;
use super::source::Source;
use crate::harness::patience::until_within;

/// A running Redis for one test, empty at the start and removed on drop.
///
/// Data is lost on [`stop`](Self::stop) and [`kill`](Self::kill) unless the server runs with
/// `--appendonly yes`; the URL stays the same.
///
/// On failure, its methods panic with the reason instead of returning an error, because a test cannot
/// handle an error anyway.
#[derive(Debug)]
pub struct RedisServer {
    instance: Instance,
    url: String,
    monitor: Mutex<Option<Monitor>>,
}

impl RedisServer {
    /// Determines the origin of servers, an image or a program, and fetches it if necessary.
    ///
    /// # Errors
    ///
    /// Returns the reason if no server is available.
    pub async fn find() -> Result<String, String> {
        Source::find().await.map(ToString::to_string).map_err(str::to_owned)
    }

    /// Starts an empty server without persistence and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If no server is available, or it does not reply.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Returns a builder for a server with further arguments.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder {
            args: ["--save", "", "--appendonly", "no"].map(String::from).into(),
            config: None,
            place: Place::Anywhere,
        }
    }

    /// Returns the URL, `redis://host:port`, which stays the same for the whole life of this value.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the host name or address of the server.
    pub fn host(&self) -> &str {
        &self.instance.address().host
    }

    /// Returns the port on [`host`](Self::host).
    pub fn port(&self) -> u16 {
        self.instance.address().port
    }

    /// Opens a connection for a test that inspects keys. Its commands count like those of any client.
    ///
    /// A command waits at most 30 seconds for its reply.
    ///
    /// # Panics
    ///
    /// If the server refuses the connection.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(&self.url).await.expect("the Redis of this test accepts a connection")
    }

    /// Freezes the server: connections stay open, and no command gets a reply.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub async fn pause(&self) {
        self.instance.pause().await;
    }

    /// Ends a [`pause`](Self::pause). The server then executes the commands that clients sent meanwhile.
    ///
    /// # Panics
    ///
    /// If the server is not paused.
    pub async fn unpause(&self) {
        self.instance.unpause().await;
        self.answers().await;
    }

    /// Cuts the server off from other servers and from clients: packets vanish silently.
    ///
    /// # Panics
    ///
    /// If the server is not [on a network](RedisServerBuilder::on_network), or is cut off already.
    pub async fn cut_off(&self) {
        self.instance.cut_off().await;
    }

    /// Ends a [`cut_off`](Self::cut_off): the server gets its address back.
    ///
    /// # Panics
    ///
    /// If the server is not cut off.
    pub async fn reconnect(&self) {
        self.instance.reconnect().await;
    }

    /// Kills the server immediately (`SIGKILL`) and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub async fn kill(&self) {
        self.instance.kill().await;
    }

    /// Stops the server in order (`SIGTERM`) and waits until it is gone.
    ///
    /// # Panics
    ///
    /// If the server is not running.
    pub async fn stop(&self) {
        self.instance.stop().await;
    }

    /// Starts the server again after [`stop`](Self::stop) or [`kill`](Self::kill), and waits until it is
    /// ready at the same URL.
    ///
    /// # Panics
    ///
    /// If the server does not start.
    pub async fn start_again(&self) {
        self.instance.start_again().await;
        self.answers().await;
    }

    /// Marks the point from which [`commands_since`](Self::commands_since) counts.
    ///
    /// # Panics
    ///
    /// If the server does not answer.
    pub async fn mark_commands(&self) -> CommandMark {
        let mut monitor = self.monitor.lock().await;
        if let Some(open) = monitor.as_mut()
            && let Ok(mark) = open.mark().await
        {
            return mark;
        }
        // The first mark, or the first after a restart of the server.
        let open = monitor.insert(Monitor::open(&self.url).await);
        open.mark().await.expect("the Redis of this test tells its command statistics")
    }

    /// Counts the commands that clients sent since `mark`, without the calls of scripts.
    ///
    /// # Panics
    ///
    /// If the server does not reply, or was restarted since `mark`, which resets its statistics.
    pub async fn commands_since(&self, mark: &CommandMark) -> CommandCounts {
        self.mark_commands().await.since(mark)
    }

    /// Makes the server a replica of another, until its next start.
    ///
    /// # Panics
    ///
    /// If the server does not reply.
    pub async fn follow(&self, primary: &Self) {
        let mut connection = self.connection().await;
        let mut follow = redis::cmd("REPLICAOF");
        follow.arg(primary.host()).arg(primary.port());
        let answer = follow.query_async::<String>(&mut connection).await;
        answer.expect("the Redis of this test follows another");
    }

    /// Waits until the server has synchronized with its primary.
    ///
    /// # Panics
    ///
    /// If the server does not follow within half a minute.
    pub async fn follows(&self) {
        self.follows_within(READY_WITHIN).await;
    }

    /// Like [`follows`](Self::follows), with another limit.
    pub(crate) async fn follows_within(&self, limit: Duration) {
        until_within(limit, "a replica follows", async || {
            let Ok(mut connection) = connect(&self.url).await else { return false };
            let role = redis::cmd("ROLE").query_async::<Vec<Value>>(&mut connection).await;
            let state = role.ok().and_then(|role| role.into_iter().nth(3));
            state == Some(Value::BulkString(b"connected".into()))
        })
        .await;
    }

    async fn answers(&self) {
        if let Err(error) = wait_until_ready(&self.instance, &self.url).await {
            panic!(
                "the Redis at {} does not answer: {error}\n{}",
                self.url,
                self.instance.log().await
            );
        }
    }
}

/// The settings of a [`RedisServer`] before its start.
#[derive(Clone, Debug)]
pub struct RedisServerBuilder {
    args: Vec<String>,
    config: Option<String>,
    place: Place,
}

impl RedisServerBuilder {
    /// Adds a setting, as on the command line of `redis-server`, such as `.arg("--appendonly", "yes")`.
    ///
    /// Later settings override earlier ones. The harness sets the port, the address and the folder.
    #[must_use]
    pub fn arg(mut self, name: &str, value: impl Into<String>) -> Self {
        self.args.extend([name.to_owned(), value.into()]);
        self
    }

    /// Adds arguments to the command line.
    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.args.extend(args.into_iter().map(str::to_owned));
        self
    }

    /// Starts the server at an address of this machine, both in a container and as a process. Servers
    /// that connect to each other, and announce their addresses to clients, need addresses that are the
    /// same for all.
    #[must_use]
    pub fn on_host(mut self) -> Self {
        self.place = Place::Host;
        self
    }

    /// Starts the server in a network from which it can be cut off. `None` selects an address of this
    /// machine, like [`on_host`](Self::on_host).
    #[must_use]
    pub fn on_network(mut self, network: Option<&Arc<RedisNetwork>>) -> Self {
        self.place = network.map_or(Place::Host, |network| Place::Network(Arc::clone(network)));
        self
    }

    /// Makes the server a sentinel with this configuration, and discards earlier arguments.
    #[must_use]
    pub fn sentinel(mut self, config: String) -> Self {
        self.args = vec!["--sentinel".to_owned()];
        self.config = Some(config);
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    ///
    /// If no server is available, or it does not reply.
    pub async fn start(self) -> RedisServer {
        let source = Source::get().await;
        let mut failures = Vec::new();
        // Another program can take the free port before the server binds it.
        for _ in 0..3 {
            let config = self.config.as_deref();
            let instance = match Instance::start(source, &self.args, config, &self.place).await {
                Ok(instance) => instance,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            let url = format!("redis://{}:{}", instance.address().host, instance.address().port);
            match wait_until_ready(&instance, &url).await {
                Ok(()) => {
                    return RedisServer { instance, url, monitor: Mutex::new(None) };
                }
                Err(failure) => failures.push(format!("{failure}\n{}", instance.log().await)),
            }
        }
        panic!(
            "Redis was not started from {source:?} with {:?}:\n{}",
            self.args,
            failures.join("\n")
        );
    }
}

async fn wait_until_ready(instance: &Instance, url: &str) -> Result<(), String> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let failure = match timeout(Duration::from_secs(5), server_pid(url)).await {
            Ok(Ok(pid)) if instance.is_process(pid) => return Ok(()),
            Ok(Ok(pid)) => format!("process {pid}, of someone else, answers on the port"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if Instant::now() > deadline || !instance.is_running().await {
            return Err(failure);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the process ID of the replying server. The caller checks the ID, because another server may
/// use the port.
async fn server_pid(url: &str) -> Result<u32, RedisError> {
    let mut connection = connect(url).await?;
    let _: String = redis::cmd("PING").query_async(&mut connection).await?;
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
    Ok(info.get("process_id").unwrap_or_default())
}
