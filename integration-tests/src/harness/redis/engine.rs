//! The Docker engine of the containers.

use std::env;
use std::path::Path;

use testcontainers::bollard::Docker;

/// Connects to the Docker engine, or returns the reason for the failure.
pub(super) async fn engine() -> Result<Docker, String> {
    let engine = match socket() {
        Some(path) => {
            Docker::connect_with_unix(&path, 120, testcontainers::bollard::API_DEFAULT_VERSION)
        }
        None => Docker::connect_with_defaults(),
    };
    let engine = engine.map_err(|error| format!("Docker cannot be reached: {error}"))?;
    engine.ping().await.map_err(|error| format!("Docker does not answer: {error}"))?;
    Ok(engine)
}

/// Returns the engine's socket, from the places where testcontainers looks.
fn socket() -> Option<String> {
    if env::var_os("DOCKER_HOST").is_some() {
        return None;
    }
    let folder = |name| env::var(name).ok();
    [
        Some("/var/run/docker.sock".to_owned()),
        folder("XDG_RUNTIME_DIR").map(|run| format!("{run}/.docker/run/docker.sock")),
        folder("HOME").map(|home| format!("{home}/.docker/run/docker.sock")),
        folder("HOME").map(|home| format!("{home}/.docker/desktop/docker.sock")),
    ]
    .into_iter()
    .flatten()
    .find(|path| Path::new(path).exists())
}

/// Returns `true` if the engine publishes ports on this machine's 127.0.0.1. A remote engine does not,
/// nor does the engine if the tests themselves run in a container.
pub(super) fn is_reached_by_loopback() -> bool {
    !is_remote() && !Path::new("/.dockerenv").exists()
}

pub(super) fn is_remote() -> bool {
    env::var("DOCKER_HOST").is_ok_and(|host| !host.starts_with("unix:"))
}
