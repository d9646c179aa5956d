use std::sync::Arc;

use super::address::{Address, free_port, free_port_with_bus};
use super::container::Container;
use super::network::RedisNetwork;
use super::process::Process;
use super::source::Source;

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
