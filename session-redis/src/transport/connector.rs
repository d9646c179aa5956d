use redis::{
    ErrorKind, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisResult, ServerErrorKind,
};

use crate::{
    error::ConnectError,
    near_cache::{Tracked, Tracking},
    server_error,
    transport::{access::Endpoint, limits::Limits, socket::Socket},
};

/// A connection, and whether Redis reports over it what others change.
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

/// Connects to a server and asks it to report changes, if the near cache wants them. All commands
/// wait for the connection, so setting it up has a time limit.
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
        // Some of the answers may be errors: the commands are too new for the server, or forbidden.
        Ok(_) => name.on_answer(true),
        Err(error) if error.is_connection_dropped() && name.is_untried() => {
            link.tracked.end();
            link = open(endpoint, tracking, limits).await?;
            match link.connection.send(&redis::cmd("PING")).await {
                Err(error) if !server_error::is_of_server(&error) => return Err(error),
                // Any answer proves that the server closed the former connection for the names.
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
    // What this process changes over the connection it removes from the cache itself. The server carries
    // out the commands of a connection in their order, so that a later read sees an earlier write.
    let mut track = Pipeline::with_capacity(1);
    track.cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP");
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

/// Connects by RESP3, and sends the commands that ask for messages. The listener receives these, one after
/// the other, where the connection is read.
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

/// Returns `true` if the server would refuse RESP3 or messages the next time as well, and may accept the
/// client without: not if it is busy, starting or full, or refuses the client itself.
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
