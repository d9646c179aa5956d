use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, io};

use futures_util::{Stream, StreamExt};
use tempfile::TempDir;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::query_parameters::CreateImageOptionsBuilder;
use testcontainers::bollard::{Docker, body_full};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

/// A Docker image that runs `redis-server` with the arguments it is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) tag: &'static str,
}

/// The image that the tests run on: the one place that names it.
const OFFICIAL: Image = Image { name: "redis", tag: "7.4.2-bookworm" };

/// What the harness makes where no registry answers; the tag counts the versions of its recipe. The host
/// part keeps anyone from looking for it in a public registry.
const MADE: Image = Image { name: "localhost/integration-tests-redis", tag: "1" };

/// Finds an image, or pulls the official one, or makes one from the distribution's package.
pub(super) async fn find_or_make(engine: &Docker) -> Result<Image, String> {
    // One test program at a time: the others find what the first one got.
    let _lock = spawn_blocking(lock).await.expect("the lock's thread does not panic")?;
    for image in [OFFICIAL, MADE] {
        if is_present(engine, image).await {
            return Ok(image);
        }
    }
    let Err(no_pull) = pull(engine, OFFICIAL).await else {
        return Ok(OFFICIAL);
    };
    eprintln!("{}:{} cannot be pulled ({no_pull}): making an image", OFFICIAL.name, OFFICIAL.tag);
    make(engine, MADE).await.map_err(|no_image| {
        format!("{}:{} cannot be pulled: {no_pull}\n{no_image}", OFFICIAL.name, OFFICIAL.tag)
    })?;
    Ok(MADE)
}

async fn is_present(engine: &Docker, image: Image) -> bool {
    engine.inspect_image(&format!("{}:{}", image.name, image.tag)).await.is_ok()
}

async fn pull(engine: &Docker, image: Image) -> Result<(), String> {
    let options = CreateImageOptionsBuilder::new().from_image(image.name).tag(image.tag).build();
    // A registry that answers goes on telling its progress; one behind a firewall is silent.
    finish(engine.create_image(Some(options), None, None), Duration::from_secs(60)).await
}

async fn make(engine: &Docker, image: Image) -> Result<(), String> {
    let files = spawn_blocking(pack).await.expect("the packing thread does not panic")?;
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(image.name)
        .tag(image.tag)
        .changes(vec![
            "ENTRYPOINT [\"/usr/bin/redis-server\"]".to_owned(),
            "EXPOSE 6379".to_owned(),
            "WORKDIR /data".to_owned(),
        ])
        .build();
    let import = engine.create_image(Some(options), Some(body_full(files.into())), None);
    finish(import, Duration::from_secs(120)).await?;
    if is_present(engine, image).await { Ok(()) } else { Err("Docker kept no image".to_owned()) }
}

/// Packs Redis and its libraries into the tar archive of an image's files.
fn pack() -> Result<Vec<u8>, String> {
    let explain = |error: io::Error| format!("no image can be made: {error}");
    let folder = TempDir::with_prefix("redis-image-").map_err(explain)?;
    let script = folder.path().join("unpack.sh");
    fs::write(&script, RECIPE).map_err(explain)?;
    let run = Command::new("sh")
        .arg(&script)
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()
        .map_err(explain)?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(format!("no image can be made from the package redis-server:\n{said}"));
    }
    fs::read(folder.path().join("files.tar")).map_err(explain)
}

/// Waits for the end of `work`, as long as it tells its progress at least every `silence`.
async fn finish<T>(
    work: impl Stream<Item = Result<T, Error>>,
    silence: Duration,
) -> Result<(), String> {
    let mut work = std::pin::pin!(work);
    let end = Instant::now() + Duration::from_secs(600);
    while let Some(progress) = timeout_at(end, timeout(silence, work.next()))
        .await
        .map_err(|_| "not done in 10 minutes".to_owned())?
        .map_err(|_| format!("no answer in {} s", silence.as_secs()))?
    {
        progress.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Waits for the lock that all test programs of this user share; it is free again when dropped.
fn lock() -> Result<File, String> {
    let user = env::var("USER").unwrap_or_default();
    let path = env::temp_dir().join(format!("integration-tests-redis-image-{user}.lock"));
    take(&path).map_err(|error| format!("{} cannot be locked: {error}", path.display()))
}

fn take(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.lock()?;
    Ok(file)
}

const RECIPE: &str = include_str!("unpack.sh");
