use std::net::SocketAddr;

use integration_tests::RedisServer;
use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A proxy in front of a Redis. While it is closed, the connection to the client stays open and silent.
pub(crate) struct Stopcock {
    addr: SocketAddr,
    is_open: watch::Sender<bool>,
    acceptor: JoinHandle<()>,
}

impl Stopcock {
    pub(crate) async fn before(redis: &RedisServer) -> Self {
        let server = format!("{}:{}", redis.host(), redis.port());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (is_open, state) = watch::channel(true);
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, state) = (server.clone(), state.clone());
                tokio::spawn(async move {
                    let server = TcpStream::connect(server).await?;
                    forward(client, server, state).await
                });
            }
        });
        Self { addr, is_open, acceptor }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub(crate) fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Stopcock {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    mut is_open: watch::Receiver<bool>,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = io::copy(&mut from_client, &mut to_server);
    let back = async move {
        let mut buffer = [0; 4096];
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 || is_open.wait_for(|is_open| *is_open).await.is_err() {
                return Ok(());
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    tokio::select! {
        copied = there => copied.map(drop),
        done = back => done,
    }
}
