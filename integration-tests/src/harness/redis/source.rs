use std::fs::File;
use std::path::PathBuf;
use std::{env, fmt, io};

use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::engine::engine;
use super::image;
use super::kind::{Image, Kind};
use super::process;

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
            let engine = engine().await?;
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

const CHOICE: &str = "INTEGRATION_TESTS_REDIS";
