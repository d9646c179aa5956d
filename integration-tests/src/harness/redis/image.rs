//! Finds or makes the Docker image of a kind of server.

use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::query_parameters::CreateImageOptionsBuilder;
use testcontainers::bollard::{Docker, body_full};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

use super::kind::{Image, Kind};

/// Finds an image of this kind of server, or pulls the official one, or builds an image from the
/// unpacked package.
pub(super) async fn find_or_make(engine: &Docker, kind: Kind) -> Result<Image, String> {
    // With `localhost` as its host, the name is never looked up in a public registry.
    let made = Image { name: "localhost/integration-tests-server", tag: kind.name };
    for image in [kind.image, made] {
        if is_present(engine, image).await {
            return Ok(image);
        }
    }
    let Err(no_pull) = pull(engine, kind.image).await else {
        return Ok(kind.image);
    };
    make(engine, made, kind).await.map_err(|no_image| {
        format!("{}:{} cannot be pulled: {no_pull}\n{no_image}", kind.image.name, kind.image.tag)
    })?;
    Ok(made)
}

async fn is_present(engine: &Docker, image: Image) -> bool {
    engine.inspect_image(&format!("{}:{}", image.name, image.tag)).await.is_ok()
}

async fn pull(engine: &Docker, image: Image) -> Result<(), String> {
    let options = CreateImageOptionsBuilder::new().from_image(image.name).tag(image.tag).build();
    // A reachable registry reports progress; a registry behind a firewall is silent.
    finish(engine.create_image(Some(options), None, None), Duration::from_secs(60)).await
}

async fn make(engine: &Docker, image: Image, kind: Kind) -> Result<(), String> {
    let files =
        spawn_blocking(move || pack(kind)).await.expect("the packing thread does not panic")?;
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

/// Packs an unpacked server and its libraries into a tar archive for an image.
fn pack(kind: Kind) -> Result<Vec<u8>, String> {
    let explain = |reason: &str| format!("no image can be made of {}: {reason}", kind.origin);
    if kind.origin.starts_with("wheel ") {
        return Err(explain("it holds no libraries"));
    }
    let run = Command::new("tar")
        .args(["-c", "--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(kind.unpack()?.join("files"))
        .arg(".")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| explain(&error.to_string()))?;
    if !run.status.success() {
        return Err(explain(&String::from_utf8_lossy(&run.stderr)));
    }
    Ok(run.stdout)
}

/// Waits until `work` ends, as long as it reports progress at least every `silence`.
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
