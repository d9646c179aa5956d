use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fmt, io};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::container::{self, Container};
use super::image::{self, Image};
use super::kind::Kind;
use super::network::RedisNetwork;
use super::process::{self, Process};

/// The origin of servers, determined once per test program.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Docker(Image),
    Program(PathBuf),
}

impl Source {
    /// Determines the origin of servers, and fetches an image or a program if necessary.
    pub(super) async fn find() -> Result<&'static Self, &'static str> {
        static SOURCE: OnceCell<Result<Source, String>> = OnceCell::const_new();
        SOURCE.get_or_init(Self::choose).await.as_ref().map_err(String::as_str)
    }

    /// Like [`find`](Self::find), but panics if no server is available.
    pub(super) async fn get() -> &'static Self {
        match Self::find().await {
            Ok(source) => source,
            Err(reason) => panic!("these tests need a real server: {reason}"),
        }
    }

    async fn choose() -> Result<Source, String> {
        let choice = env::var(CHOICE).unwrap_or_default();
        let kind = Kind::chosen()?;
        // Only one test program searches at a time: the others find the result of the first.
        let _lock = spawn_blocking(lock).await.expect("the lock's thread does not panic")?;
        let docker = async {
            let engine = container::engine().await?;
            image::find_or_make(&engine, kind).await.map(Source::Docker)
        };
        let program = async || {
            // A named kind requires its version, so the `PATH` counts only for the default.
            if kind.is_default()
                && let Some(program) = process::find_program()
            {
                return Ok(Source::Program(program));
            }
            let unpacked = spawn_blocking(move || kind.unpack()).await;
            let folder = unpacked.expect("the unpacking thread does not panic")?;
            Ok(Source::Program(folder.join("redis-server")))
        };
        match choice.as_str() {
            "docker" => docker.await.map_err(|why| format!("{why} ({CHOICE}=docker)")),
            "process" => program().await.map_err(|why: String| format!("{why} ({CHOICE}=process)")),
            "" => match docker.await {
                Ok(source) => Ok(source),
                Err(no_docker) => program().await.map_err(|no_program| {
                    format!("start Docker, or install redis-server.\n{no_docker}\n{no_program}")
                }),
            },
            other => Err(format!("{CHOICE} is `{other}`: say `docker`, `process` or nothing")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Docker(image) => write!(f, "image {}:{}", image.name, image.tag),
            Self::Program(program) => write!(f, "program {}", program.display()),
        }
    }
}

/// Waits for the lock that all test programs of this user share. Dropping the file releases the lock.
fn lock() -> Result<File, String> {
    let user = env::var("USER").unwrap_or_default();
    let path = env::temp_dir().join(format!("integration-tests-server-{user}.lock"));
    let take = || -> io::Result<File> {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        file.lock()?;
        Ok(file)
    };
    take().map_err(|error| format!("{} cannot be locked: {error}", path.display()))
}

/// The place of a server's address.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// An address that clients can reach.
    Anywhere,
    /// An address of this machine, which is the same for other servers.
    Host,
    /// A network from which the server can be cut off. A process always has an address of this machine.
    Network(Arc<RedisNetwork>),
}

/// One server, in a container or as a process.
#[derive(Debug)]
pub(super) enum Instance {
    Container(Box<Container>),
    Process(Process),
}

impl Instance {
    /// Starts a server. With `config`, the server keeps its configuration in a separate file, and has
    /// an address of this machine unless `place` is a network.
    pub(super) async fn start(
        source: &Source,
        args: &[String],
        config: Option<&str>,
        place: &Place,
    ) -> Result<Self, String> {
        let port = if args.iter().any(|arg| arg == "--cluster-enabled") {
            free_port_with_bus()
        } else {
            free_port()
        };
        match source {
            Source::Docker(image) => {
                let network = match place {
                    Place::Anywhere if config.is_none() => None,
                    Place::Anywhere | Place::Host => Some(None),
                    Place::Network(network) => Some(Some(network)),
                };
                let container = match network {
                    None => Container::start(image, port, args).await?,
                    Some(network) => {
                        Container::start_among_others(image, network, port, args, config).await?
                    }
                };
                Ok(Self::Container(Box::new(container)))
            }
            Source::Program(program) => {
                Process::start(program, port, args, config).map(Self::Process)
            }
        }
    }

    pub(super) fn address(&self) -> &Address {
        match self {
            Self::Container(container) => container.address(),
            Self::Process(process) => process.address(),
        }
    }

    pub(super) async fn pause(&self) {
        match self {
            Self::Container(container) => container.pause().await,
            Self::Process(process) => process.signal("STOP"),
        }
    }

    pub(super) async fn unpause(&self) {
        match self {
            Self::Container(container) => container.unpause().await,
            Self::Process(process) => process.signal("CONT"),
        }
    }

    pub(super) async fn cut_off(&self) {
        match self {
            Self::Container(container) => container.cut_off().await,
            Self::Process(_) => panic!("a process has no network that it can be cut off from"),
        }
    }

    pub(super) async fn reconnect(&self) {
        match self {
            Self::Container(container) => container.reconnect().await,
            Self::Process(_) => panic!("a process has no network that it can be cut off from"),
        }
    }

    pub(super) async fn kill(&self) {
        match self {
            Self::Container(container) => container.kill().await,
            Self::Process(process) => process.end("KILL").await,
        }
    }

    pub(super) async fn stop(&self) {
        match self {
            Self::Container(container) => container.stop().await,
            Self::Process(process) => process.end("TERM").await,
        }
    }

    pub(super) async fn start_again(&self) {
        match self {
            Self::Container(container) => container.start_again().await,
            Self::Process(process) => process.start_again(),
        }
    }

    pub(super) async fn is_running(&self) -> bool {
        match self {
            Self::Container(container) => container.is_running().await,
            Self::Process(process) => process.is_running(),
        }
    }

    /// Returns `true` if `pid`, as the server reports it, can belong to this instance: containers number
    /// theirs from 1.
    pub(super) fn is_process(&self, pid: u32) -> bool {
        match self {
            Self::Container(_) => true,
            Self::Process(process) => process.id() == pid,
        }
    }

    pub(super) async fn log(&self) -> String {
        match self {
            Self::Container(container) => container.log().await,
            Self::Process(process) => process.log(),
        }
    }
}

/// The address of a server.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Returns a free port below the range of outgoing connections (32768 and up on Linux). The port thus
/// stays free while a server is stopped.
///
/// # Panics
///
/// If all ports are in use.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Concurrent test programs begin at different places.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + step).expect("32,000 fits 16 bits");
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// Returns a port for a node of a cluster, which talks to other nodes on a port that is 10,000 higher.
fn free_port_with_bus() -> u16 {
    loop {
        let port = free_port() - 10_000;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

const CHOICE: &str = "INTEGRATION_TESTS_REDIS";
