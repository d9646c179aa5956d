use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A load balancer: each new connection goes to the next backend, and all connections close on drop.
///
/// The proxy skips a backend that refuses a connection. If all refuse, it closes the client's
/// connection.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 in front of `backends`.
    ///
    /// # Panics
    ///
    /// If there is no backend, or no port is free.
    pub async fn round_robin(backends: impl IntoIterator<Item = SocketAddr>) -> Self {
        let backends = Arc::<[SocketAddr]>::from_iter(backends);
        assert!(!backends.is_empty(), "a proxy needs a backend");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port of 127.0.0.1");
        let addr = listener.local_addr().expect("a listener has an address");
        let acceptor = tokio::spawn(async move {
            // All connections close when this task drops the set.
            let mut connections = JoinSet::new();
            for first in 0.. {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                connections.spawn(forward(client, first, Arc::clone(&backends)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { addr, acceptor }
    }

    /// Returns the address on which the proxy listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn forward(mut client: TcpStream, first: usize, backends: Arc<[SocketAddr]>) {
    for step in 0..backends.len() {
        let backend = backends[first.wrapping_add(step) % backends.len()];
        if let Ok(mut server) = TcpStream::connect(backend).await {
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            // An error means that one side closed the connection; dropping both streams closes the other
            // side.
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
