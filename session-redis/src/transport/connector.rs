use redis::{
    ErrorKind, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisResult, ServerErrorKind,
};

use crate::{
    error::ConnectError,
    server_error,
    tracking::{Tracked, Tracking},
    transport::{access::Endpoint, limits::Limits, socket::Socket},
};

/// A connection, and the state of its change tracking (`CLIENT TRACKING`).
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) connection: Socket,
    pub(crate) tracked: Tracked,
}

impl Link {
    fn untracked(connection: Socket) -> Self {
        Self { connection, tracked: Tracked::default() }
    }
}

/// Connects to a server, and turns on change tracking if there is a near cache. The set-up has a
/// time limit, because all commands wait for the connection.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    tracking: &Tracking,
    limits: Limits,
) -> Result<Link, ConnectError> {
    let address = endpoint.addr().to_string();
    tokio::time::timeout(limits.connect, attempt(endpoint, tracking, limits))
        .await
        .map_err(|_| ConnectError::silent(&address, limits.connect))?
        .map_err(|error| ConnectError::explain(error, &address))
}

async fn attempt(endpoint: &Endpoint, tracking: &Tracking, limits: Limits) -> RedisResult<Link> {
    let mut link = open(endpoint, tracking, limits).await?;
    let name = endpoint.client_name();
    let Some(commands) = name.commands() else { return Ok(link) };
    match link.connection.send_all(&commands).await {
        // Single replies may be errors, if the server is too old for a command or forbids the
        // command.
        Ok(_) => name.on_answer(true),
        Err(error) if error.is_connection_dropped() && name.is_untried() => {
            link.tracked.end();
            link = open(endpoint, tracking, limits).await?;
            match link.connection.send(&redis::cmd("PING")).await {
                Err(error) if !server_error::is_of_server(&error) => return Err(error),
                // Any reply to `PING` proves that the server closed the former connection because
                // of the names.
                _ => name.on_answer(false),
            }
        }
        Err(error) => return Err(error),
    }
    Ok(link)
}

async fn open(endpoint: &Endpoint, tracking: &Tracking, limits: Limits) -> RedisResult<Link> {
    let Some((tracked, listener)) = tracking.begin() else {
        return Socket::connect(endpoint, limits).await.map(Link::untracked);
    };
    // Without `NOLOOP`, because watches wait for the reports of changes by this process too. With
    // `NOLOOP`, moreover, a server whose table is full does not report the keys that it evicts for a
    // command of the connection.
    let mut track = Pipeline::with_capacity(1);
    track.cmd("CLIENT").arg("TRACKING").arg("ON");
    match connect_listening(endpoint, listener, &track, limits).await {
        Ok(connection) => Ok(Link { connection, tracked }),
        Err(refusal) if is_lasting(&refusal) => {
            let connection = Socket::connect(endpoint, limits).await?;
            tracking.complain(endpoint.addr(), &refusal);
            Ok(Link::untracked(connection))
        }
        Err(error) => Err(error),
    }
}

/// Connects with RESP3, and sends the commands that subscribe to messages. The listener receives
/// the messages one after the other, in the task that reads the connection.
pub(crate) async fn connect_listening<E>(
    endpoint: &Endpoint,
    listener: impl Fn(PushInfo) -> Result<(), E> + Send + Sync + 'static,
    commands: &Pipeline,
    limits: Limits,
) -> RedisResult<Socket> {
    let endpoint = endpoint.clone().with_protocol(ProtocolVersion::RESP3);
    let config = Socket::config().set_push_sender(listener);
    let mut connection = Socket::connect_with(&endpoint, limits, config).await?;
    for answer in connection.send_all(commands).await? {
        answer?;
    }
    Ok(connection)
}

/// Returns `true` if the server would always refuse RESP3 or the subscription, but may accept a
/// connection without them. Returns `false` if the server is busy, starting or full, or refuses the
/// client itself, or if the connection fails.
pub(crate) fn is_lasting(refusal: &RedisError) -> bool {
    let is_of_another_kind = match refusal.kind() {
        ErrorKind::Io | ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
        ),
        ErrorKind::Extension => {
            matches!(refusal.code(), Some("BUSY" | "DENIED" | "NOAUTH" | "WRONGPASS"))
        }
        _ => false,
    };
    !is_of_another_kind
        && !refusal.is_connection_dropped()
        && refusal.detail() != Some(server_error::TOO_MANY_CLIENTS)
}
