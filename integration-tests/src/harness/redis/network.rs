use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use testcontainers::bollard::{
    Docker,
    models::{
        EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
        NetworkCreateRequest, NetworkDisconnectRequest,
    },
};
use tokio::runtime::Builder;

use super::{engine::engine, source::Source};

/// A network of containers that this machine can reach, and from which each container can be cut off.
///
/// The last server in the network removes it on drop.
#[derive(Debug)]
pub struct RedisNetwork {
    engine: Docker,
    name: String,
    /// The first three numbers of all addresses.
    subnet: String,
    last: AtomicU8,
}

impl RedisNetwork {
    /// Creates a network. Returns `None` if the servers are no containers, or this machine cannot reach
    /// the network. An engine on this machine, on Linux, meets both conditions.
    ///
    /// # Panics
    ///
    /// If Redis is unavailable, or the engine cannot create a network.
    pub async fn make() -> Option<Arc<Self>> {
        let Source::Docker(_) = Source::get().await else { return None };
        let engine = engine().await.expect("the Docker engine that was there before");
        let mut failure = None;
        // Other programs may use some of these addresses.
        for step in 0..20 {
            let number = std::process::id().wrapping_mul(37).wrapping_add(step * 11) % 256;
            let subnet = format!("10.213.{number}");
            let name = format!("integration-tests-{}-{number}", std::process::id());
            let ipam =
                IpamConfig { subnet: Some(format!("{subnet}.0/24")), ..IpamConfig::default() };
            let request = NetworkCreateRequest {
                name: name.clone(),
                ipam: Some(Ipam { config: Some(vec![ipam]), ..Ipam::default() }),
                ..NetworkCreateRequest::default()
            };
            match engine.create_network(request).await {
                Ok(_) => {
                    let last = AtomicU8::new(1);
                    let network = Self { engine, name, subnet, last };
                    // The first address belongs to the engine's machine.
                    let gateway = format!("{}.1:0", network.subnet);
                    let is_ours = std::net::TcpListener::bind(gateway).is_ok();
                    return is_ours.then(|| Arc::new(network));
                }
                Err(error) => failure = Some(error),
            }
        }
        panic!("the Docker engine makes no network: {failure:?}");
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns an unused address.
    pub(super) fn next_address(&self) -> String {
        format!("{}.{}", self.subnet, self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) async fn connect(&self, container: &str, address: &str) -> Result<(), String> {
        let ipam = EndpointIpamConfig {
            ipv4_address: Some(address.to_owned()),
            ..EndpointIpamConfig::default()
        };
        let endpoint = EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() };
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(endpoint),
        };
        let connected = self.engine.connect_network(&self.name, request).await;
        connected.map_err(|error| format!("a container gets no network: {error}"))
    }

    pub(super) async fn disconnect(&self, container: &str) -> Result<(), String> {
        let request =
            NetworkDisconnectRequest { container: container.to_owned(), force: Some(false) };
        let disconnected = self.engine.disconnect_network(&self.name, request).await;
        disconnected.map_err(|error| format!("a container keeps its network: {error}"))
    }
}

impl Drop for RedisNetwork {
    fn drop(&mut self) {
        // The runtime may be gone already, and the engine's connections belong to a runtime.
        let name = std::mem::take(&mut self.name);
        let remover = thread::spawn(move || {
            if let Ok(runtime) = Builder::new_current_thread().enable_all().build() {
                let removed = async { engine().await.ok()?.remove_network(&name).await.ok() };
                runtime.block_on(removed);
            }
        });
        let _ = remover.join();
    }
}
