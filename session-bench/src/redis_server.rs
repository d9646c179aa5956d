use std::{
    env, fmt,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use redis::Client;
use tempfile::TempDir;

/// The Redis server of a measurement: the one at `REDIS_URL`, or a new one that stops on drop.
#[derive(Debug)]
pub struct RedisServer {
    url: String,
    _own: Own,
}

impl RedisServer {
    /// Finds or starts a Redis server, and waits until the server answers.
    ///
    /// Takes the first of these: the server at `REDIS_URL`; a `redis-server` on the `PATH`, started
    /// without persistence on a free port; with the feature `docker`, a container started by the
    /// harness of integration-tests.
    ///
    /// # Errors
    ///
    /// Returns [`NoRedis`] if all of these are missing, if the start fails, or if the server does not
    /// answer within 10 seconds. The text advises how to provide a server.
    pub async fn find() -> Result<Self, NoRedis> {
        let (url, own) = if let Ok(url) = env::var("REDIS_URL") {
            (url, Own::Nothing)
        } else if let Some(process) = Process::start()? {
            (process.url.clone(), Own::Process(process))
        } else {
            start_container().await?
        };
        wait_until_ready(&url).await?;
        Ok(Self { url, _own: own })
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// The reason why a Redis server is missing, with advice.
#[derive(Debug)]
pub struct NoRedis(String);

impl fmt::Display for NoRedis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no Redis: {}. Set REDIS_URL, install redis-server, or build with `--features docker`",
            self.0
        )
    }
}

impl std::error::Error for NoRedis {}

/// The process or container that ends with a [`RedisServer`].
#[derive(Debug)]
enum Own {
    Nothing,
    Process(#[expect(dead_code, reason = "held for its drop")] Process),
    #[cfg(feature = "docker")]
    Container(
        #[expect(dead_code, reason = "held for its drop")] Box<integration_tests::RedisServer>,
    ),
}

#[derive(Debug)]
struct Process {
    url: String,
    child: Child,
    _folder: TempDir,
}

impl Process {
    /// Starts the `redis-server` on the `PATH`. Returns `None` if the `PATH` lacks the program.
    fn start() -> Result<Option<Self>, NoRedis> {
        let path = env::var_os("PATH").unwrap_or_default();
        let Some(program) = env::split_paths(&path)
            .map(|folder| folder.join("redis-server"))
            .find(|program| program.is_file())
        else {
            return Ok(None);
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|error| NoRedis(format!("no free port: {error}")))?
            .port();
        let folder = TempDir::with_prefix("session-bench-")
            .map_err(|error| NoRedis(format!("no temporary folder: {error}")))?;
        let child = spawn(&program, port, folder.path())
            .map_err(|error| NoRedis(format!("{} was not started: {error}", program.display())))?;
        Ok(Some(Self { url: format!("redis://127.0.0.1:{port}"), child, _folder: folder }))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, port: u16, folder: &Path) -> std::io::Result<Child> {
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

#[cfg(feature = "docker")]
async fn start_container() -> Result<(String, Own), NoRedis> {
    // A separate task, because the harness panics without Docker.
    let started = tokio::spawn(integration_tests::RedisServer::start()).await;
    let server = started.map_err(|_| NoRedis("Docker does not give one either".to_owned()))?;
    Ok((server.url().to_owned(), Own::Container(Box::new(server))))
}

#[cfg(not(feature = "docker"))]
async fn start_container() -> Result<(String, Own), NoRedis> {
    Err(NoRedis("there is no redis-server on the PATH, and REDIS_URL is not set".to_owned()))
}

async fn wait_until_ready(url: &str) -> Result<(), NoRedis> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match ping(url).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(NoRedis(format!("it does not answer: {error}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn ping(url: &str) -> Result<(), redis::RedisError> {
    let mut connection = Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async(&mut connection).await
}
