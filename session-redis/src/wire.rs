use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use futures_util::future::select_ok;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{gathering::Gathering, node::Limits};

/// A connection over which many send at once, and the task that serves it for as long as there is a clone.
#[derive(Clone)]
pub(crate) struct Wire {
    connection: MultiplexedConnection,
    /// None where redis-rs has it.
    _service: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Wire {
    /// Connects to a server, in the time that this may take.
    pub(crate) async fn connect(client: &Client, limits: Limits) -> Result<Self, RedisError> {
        Self::connect_with(client, limits, Self::config(limits)).await
    }

    pub(crate) fn config(limits: Limits) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limits.connect))
            // Timed by those who send, together with the wait for the connection.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
    }

    /// The same by settings that [`config`](Self::config) made and that were added to.
    pub(crate) async fn connect_with(
        client: &Client,
        limits: Limits,
        config: AsyncConnectionConfig,
    ) -> Result<Self, RedisError> {
        let connecting = async {
            match client.get_connection_info().addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let stream = connect_tcp(client, host, *port).await?;
                    Self::over(stream, client, config).await
                }
                #[cfg(unix)]
                ConnectionAddr::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Self::over(stream, client, config).await
                }
                // What redis-rs makes of certificates it does not give away.
                _ => {
                    let connection = client.get_multiplexed_async_connection_with_config(&config);
                    Ok(Self { connection: connection.await?, _service: None })
                }
            }
        };
        tokio::time::timeout(limits.connect, connecting)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn over<S>(stream: S, client: &Client, config: AsyncConnectionConfig) -> RedisResult<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let settings = client.get_connection_info().redis_settings();
        let stream = Gathering::new(stream);
        let (connection, service) =
            MultiplexedConnection::new_with_config(settings, stream, config).await?;
        let service = Arc::new(AbortOnDropHandle::new(tokio::spawn(service)));
        Ok(Self { connection, _service: Some(service) })
    }
}

impl Deref for Wire {
    type Target = MultiplexedConnection;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl DerefMut for Wire {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

/// Connects to whichever of a host's addresses answers first, as redis-rs does.
async fn connect_tcp(client: &Client, host: &str, port: u16) -> RedisResult<TcpStream> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(std::io::Error::from(std::io::ErrorKind::HostUnreachable).into());
    }
    let attempts = addresses.into_iter().map(|address| Box::pin(TcpStream::connect(address)));
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(client.get_connection_info().tcp_settings().nodelay())?;
    Ok(stream)
}

/// How many commands may wait to be written to the connection. redis-rs' default of 50 makes many
/// requests at once wait for each other.
const PIPELINE_BUFFER: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::timeout,
    };

    use super::*;
    use crate::RedisConfig;

    /// Otherwise each connection that is replaced because the server is silent would be kept for ever.
    #[tokio::test]
    async fn a_connection_ends_with_its_last_clone_whatever_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
        let limits = Limits::of(&RedisConfig::new("redis://host"));
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What redis-rs says of itself, in two commands.
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
            stream
        };
        let (wire, mut stream) = tokio::join!(Wire::connect(&client, limits), server);
        let wire = wire.unwrap();
        // More than the system takes of what nobody reads.
        let mut command = redis::cmd("ECHO");
        command.arg(vec![0_u8; SIZE].as_slice());
        let mut clone = wire.clone();
        assert!(timeout(MOMENT, clone.send_packed_command(&command)).await.is_err());
        drop(clone);
        assert!(timeout(MOMENT, stream.read_exact(&mut [0; 1024])).await.unwrap().is_ok());
        drop(wire);
        let mut read = Vec::new();
        // Cut off.
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut read)).await.unwrap();
        assert!(read.len() < SIZE / 2, "{}", read.len());
    }

    const SIZE: usize = 32 * 1024 * 1024;
    const MOMENT: Duration = Duration::from_millis(50);
}
