use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::select_ok;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, Pipeline, RedisResult, Value,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::SockRef},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    metrics::{ServerLabels, WriteMetrics},
    server_error,
    transport::{
        access::Endpoint,
        authentication,
        batched_writes::{BatchedWrites, Received},
        limits::Limits,
    },
};

/// A multiplexed connection, and the tasks that serve the connection until the last clone is
/// dropped.
#[derive(Clone)]
pub(crate) struct Socket {
    connection: MultiplexedConnection,
    received: Arc<Received>,
    tasks: Arc<Tasks>,
}

/// The identity of a connection, the same for all clones of its [`Socket`].
#[derive(Clone)]
pub(crate) struct SocketId(Arc<Received>);

impl PartialEq for SocketId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The tasks of a connection, aborted when the last clone of the connection is dropped.
struct Tasks {
    service: AbortOnDropHandle<()>,
    _authentication: Option<AbortOnDropHandle<()>>,
}

impl Socket {
    /// Connects to a server, within the connect timeout.
    pub(crate) async fn connect(endpoint: &Endpoint, limits: Limits) -> RedisResult<Self> {
        Self::connect_with(endpoint, limits, Self::config()).await
    }

    pub(crate) fn config() -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            // The senders apply their own deadline, the wait for the connection included.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(PIPELINE_BUFFER)
    }

    /// Connects with settings that extend those of [`config`](Self::config).
    pub(crate) async fn connect_with(
        endpoint: &Endpoint,
        limits: Limits,
        config: AsyncConnectionConfig,
    ) -> RedisResult<Self> {
        // The provider has nine tenths of the time, so that an error can name the provider as the
        // cause.
        let begun_at = Instant::now();
        let credentials_until = begun_at + limits.connect.mul_f64(0.9);
        let server = ServerLabels::of(endpoint.addr());
        let attempt = server.on_attempt(begun_at);
        let set_up = SetUp { endpoint, config, credentials_until, limits, server: &server };
        let connecting = async {
            match endpoint.addr() {
                ConnectionAddr::Tcp(host, port) => {
                    let stream = connect_to_host(host, *port, endpoint.tcp_settings()).await?;
                    set_up.over(stream).await
                }
                #[cfg(feature = "tls")]
                ConnectionAddr::TcpTls { host, port, .. } if let Some(tls) = endpoint.tls() => {
                    let stream = connect_to_host(host, *port, endpoint.tcp_settings()).await?;
                    let stream = tls.connect(host, stream).await?;
                    set_up.over(stream).await
                }
                #[cfg(unix)]
                ConnectionAddr::Unix(path) => {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    set_up.over(stream).await
                }
                _ => {
                    Err((ErrorKind::InvalidClientConfig, "there is no way to this address").into())
                }
            }
        };
        let connected = tokio::time::timeout(limits.connect, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
        attempt.end(connected.as_ref().err());
        connected
    }

    pub(crate) fn id(&self) -> SocketId {
        SocketId(Arc::clone(&self.received))
    }

    /// Returns `true` if bytes arrived within the last `span`: the server is reachable then, even
    /// if slow.
    pub(crate) fn was_read_within(&self, span: Duration) -> bool {
        self.received.age() <= span
    }

    /// Closes the connection for all clones. Commands that wait for a reply fail.
    pub(crate) fn close(&self) {
        self.tasks.service.abort();
    }

    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let answer = self.connection.send_packed_command(command).await;
        self.received.on_answer();
        let answer = answer.map_err(server_error::redact).and_then(server_error::extract);
        answer.map_err(|error| server_error::name_command(error, command))
    }

    /// Sends commands in one pipeline, and returns the reply to each.
    pub(crate) async fn send_all(
        &mut self,
        commands: &Pipeline,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let answers = self.connection.send_packed_commands(commands, 0, commands.len()).await;
        self.received.on_answer();
        let answers = answers.map_err(server_error::redact)?.into_iter().map(server_error::extract);
        let named = answers.zip(commands.cmd_iter()).map(|(answer, command)| {
            answer.map_err(|error| server_error::name_command(error, command))
        });
        Ok(named.collect())
    }
}

/// The settings that turn a stream into a connection.
struct SetUp<'e> {
    endpoint: &'e Endpoint,
    config: AsyncConnectionConfig,
    credentials_until: Instant,
    limits: Limits,
    server: &'e ServerLabels,
}

impl SetUp<'_> {
    async fn over<S>(self, mut stream: S) -> RedisResult<Socket>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { endpoint, config, credentials_until, limits, server } = self;
        let mut authenticated = None;
        if let Some(provider) = endpoint.credentials() {
            let credentials = authentication::ask(&**provider, credentials_until).await;
            let credentials = credentials.map_err(io::Error::other)?;
            authentication::authenticate(&mut stream, &credentials).await?;
            authenticated = Some((Arc::clone(provider), credentials));
        }
        let received = Arc::new(Received::new());
        let writes = WriteMetrics::new(server);
        let stream = BatchedWrites::new(stream, Arc::clone(&received), writes);
        let (connection, service) =
            MultiplexedConnection::new_with_config(endpoint.settings(), stream, config)
                .await
                .map_err(server_error::redact)?;
        let authentication = authenticated.map(|(provider, credentials)| {
            AbortOnDropHandle::new(tokio::spawn(authentication::keep_authenticated(
                connection.clone(),
                provider,
                credentials,
                endpoint.addr().to_string(),
                limits.connect,
            )))
        });
        let open = server.on_open();
        let service = async move {
            let _open = open;
            service.await;
        };
        let tasks = Tasks {
            service: AbortOnDropHandle::new(tokio::spawn(service)),
            _authentication: authentication,
        };
        Ok(Socket { connection, received, tasks: Arc::new(tasks) })
    }
}

async fn connect_to_host(host: &str, port: u16, settings: &TcpSettings) -> io::Result<TcpStream> {
    connect_to_any(lookup_host((host, port)).await?.collect(), settings).await
}

/// Connects to all addresses of a host concurrently, and returns the first connection.
async fn connect_to_any(
    addresses: Vec<SocketAddr>,
    settings: &TcpSettings,
) -> io::Result<TcpStream> {
    if addresses.is_empty() {
        return Err(io::ErrorKind::HostUnreachable.into());
    }
    let attempts = addresses.into_iter().map(|address| Box::pin(TcpStream::connect(address)));
    let (stream, _) = select_ok(attempts).await?;
    stream.set_nodelay(settings.nodelay())?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    Ok(stream)
}

/// The number of commands that may wait for the task that writes. With 50, the default of redis-rs,
/// many concurrent requests wait for each other.
const PIPELINE_BUFFER: usize = 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt as _,
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;
    use crate::{RedisConfig, transport::access::Access};

    /// A connection to a silent server is replaced. The former connection must not be kept for
    /// ever.
    #[tokio::test]
    async fn a_connection_ends_with_its_last_clone_whatever_is_under_way() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let config = RedisConfig::new(&*url);
        let endpoint = Access::new(&config).unwrap().endpoint_at(&url).unwrap();
        let limits = Limits::of(&config);
        let server = async { listener.accept().await.unwrap().0 };
        let (wire, mut stream) = tokio::join!(Socket::connect(&endpoint, limits), server);
        let wire = wire.unwrap();
        // More bytes than the system buffers while the server does not read.
        let mut command = redis::cmd("ECHO");
        command.arg(vec![0_u8; SIZE].as_slice());
        let mut clone = wire.clone();
        assert!(timeout(MOMENT, clone.send(&command)).await.is_err());
        drop(clone);
        let under_way = timeout(PATIENCE, stream.read_exact(&mut [0; 1024])).await.unwrap();
        assert!(under_way.is_ok());
        drop(wire);
        let mut read = Vec::new();
        // The client cuts the stream off, so the read may fail.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut read)).await.unwrap();
        assert!(read.len() < SIZE / 2, "{}", read.len());
    }

    #[tokio::test]
    async fn one_address_of_several_is_enough() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Bound, so that another process cannot listen there.
        let nobody = TcpSocket::new_v4().unwrap();
        nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let nowhere = nobody.local_addr().unwrap();
        let addresses = vec![nowhere, listener.local_addr().unwrap()];
        for nodelay in [true, false] {
            let settings = TcpSettings::default().set_nodelay(nodelay);
            let stream = connect_to_any(addresses.clone(), &settings).await.unwrap();
            assert_eq!(stream.nodelay().unwrap(), nodelay);
        }
        assert!(connect_to_any(vec![nowhere, nowhere], &TcpSettings::default()).await.is_err());
        assert!(connect_to_any(Vec::new(), &TcpSettings::default()).await.is_err());
    }

    const SIZE: usize = 32 * 1024 * 1024;
    const MOMENT: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(10);
}
