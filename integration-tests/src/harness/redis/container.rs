use std::sync::Arc;
use std::{env, thread};

use testcontainers::bollard::query_parameters::KillContainerOptions;
use testcontainers::core::{IntoContainerPort, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};
use tokio::runtime::{Builder, Handle};

use super::address::Address;
use super::engine::{engine, is_reached_by_loopback, is_remote};
use super::kind::Image;
use super::network::RedisNetwork;

/// A server in a container, on a host port that the harness chooses. A port chosen by Docker would
/// change with each start.
#[derive(Debug)]
pub(super) struct Container {
    container: Option<ContainerAsync<GenericImage>>,
    address: Address,
    network: Option<Arc<RedisNetwork>>,
}

impl Container {
    pub(super) async fn start(image: &Image, port: u16, args: &[String]) -> Result<Self, String> {
        let container = GenericImage::new(image.name, image.tag)
            .with_cmd(["--protected-mode", "no"].into_iter().chain(args.iter().map(String::as_str)))
            .with_mapped_port(port, REDIS_PORT.tcp())
            .with_host_config_modifier(|config| {
                // The server has no password, so only this machine may reach it.
                if is_reached_by_loopback() {
                    let bindings =
                        config.port_bindings.iter_mut().flat_map(|ports| ports.values_mut());
                    for binding in bindings.flatten().flatten() {
                        binding.host_ip = Some("127.0.0.1".to_owned());
                    }
                }
            })
            .start()
            .await
            .map_err(|error| format!("the container was not started: {error}"))?;
        let host = container.get_host().await.map_err(|error| format!("no host name: {error}"))?;
        // Not `localhost`, because clients try ::1 first.
        let host = match host.to_string() {
            name if name == "localhost" => "127.0.0.1".to_owned(),
            name => name,
        };
        let address = Address { host, port };
        Ok(Self { container: Some(container), address, network: None })
    }

    /// Starts a server at an address that is the same for other servers and for clients, so that the
    /// server can announce the address. The server is on the host's network, or on a network from which
    /// it can be cut off. The container mounts the temporary folder, which holds the files of the tests.
    pub(super) async fn start_among_others(
        image: &Image,
        network: Option<&Arc<RedisNetwork>>,
        port: u16,
        args: &[String],
        config: Option<&str>,
    ) -> Result<Self, String> {
        if is_remote() {
            return Err(
                "servers that tell others where they are need an engine of this machine, or a \
                        `redis-server` on the PATH"
                    .to_owned(),
            );
        }
        let port_text = port.to_string();
        let file = config.map(|_| CONFIG);
        let bind = if network.is_some() { "0.0.0.0" } else { "127.0.0.1" };
        let own = ["--port", port_text.as_str(), "--bind", bind, "--protected-mode", "no"];
        let words = file.into_iter().chain(own).chain(args.iter().map(String::as_str));
        let folder = env::temp_dir().to_string_lossy().into_owned();
        let mut request = GenericImage::new(image.name, image.tag)
            .with_cmd(words)
            .with_network(network.map_or("host", |network| network.name()))
            .with_mount(Mount::bind_mount(folder.clone(), folder));
        if let Some(config) = config {
            request = request.with_copy_to(CONFIG, config.as_bytes().to_vec());
        }
        let container = request
            .start()
            .await
            .map_err(|error| format!("the container was not started: {error}"))?;
        let mut host = "127.0.0.1".to_owned();
        if let Some(network) = network {
            // A requested address survives restarts.
            host = network.next_address();
            network.disconnect(container.id()).await?;
            network.connect(container.id(), &host).await?;
        }
        let address = Address { host, port };
        Ok(Self { container: Some(container), address, network: network.cloned() })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) async fn pause(&self) {
        self.container().pause().await.expect("the container runs and can be paused");
    }

    pub(super) async fn unpause(&self) {
        self.container().unpause().await.expect("the container is paused");
    }

    pub(super) async fn cut_off(&self) {
        self.network().disconnect(self.container().id()).await.expect("it is on the network");
    }

    pub(super) async fn reconnect(&self) {
        let id = self.container().id();
        self.network().connect(id, &self.address.host).await.expect("it is off the network");
    }

    pub(super) async fn kill(&self) {
        let engine = engine().await.expect("the Docker engine that runs the container");
        engine
            .kill_container(self.container().id(), None::<KillContainerOptions>)
            .await
            .expect("the container runs and can be killed");
        while self.is_running().await {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn stop(&self) {
        self.container().stop().await.expect("the container runs and can be stopped");
    }

    pub(super) async fn start_again(&self) {
        self.container().start().await.expect("the container can be started again");
    }

    pub(super) async fn is_running(&self) -> bool {
        self.container().is_running().await.unwrap_or(false)
    }

    pub(super) async fn log(&self) -> String {
        let log = self.container().stdout_to_vec().await.unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn network(&self) -> &RedisNetwork {
        self.network.as_ref().expect("only who is on such a network is cut off")
    }

    fn container(&self) -> &ContainerAsync<GenericImage> {
        self.container.as_ref().expect("there until the drop")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let container = self.container.take();
        // testcontainers removes the container and waits, but only inside a runtime.
        if Handle::try_current().is_ok() {
            return drop(container);
        }
        let remover = thread::spawn(move || {
            if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                runtime.block_on(async { drop(container) });
            }
        });
        let _ = remover.join();
    }
}

const REDIS_PORT: u16 = 6379;

/// The path of a configuration file that the server rewrites.
const CONFIG: &str = "/data/server.conf";
