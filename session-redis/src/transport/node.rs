use std::{convert::Infallible, pin::pin};

use redis::{Cmd, Pipeline, PushInfo, RedisResult, Value};
use tokio::time::{Instant, error::Elapsed, timeout_at};

use crate::{
    RedisState,
    error::ConnectError,
    metrics::{CircuitMetrics, CommandMetrics, Operation},
    near_cache::ReadOrigin,
    tracking::Tracked,
    transport::{
        circuit_breaker::{CircuitBreaker, Pass, Refused},
        connector::{Link, connect_listening},
        failure::{Failure, is_of_stale_connection},
        limits::Limits,
        managed_connection::{Channel, ManagedConnection, Source},
        socket::{Socket, SocketId},
    },
};

/// One server, reached over one multiplexed connection, with a time limit for every command.
pub(crate) struct Node {
    connection: ManagedConnection,
    breaker: CircuitBreaker,
    metrics: CommandMetrics,
    limits: Limits,
}

/// The address of a server that holds sessions.
pub(crate) struct ServerAddress {
    pub(crate) address: String,
    /// The number of failovers so far, as sentinels count. Zero without sentinels.
    pub(crate) epoch: u64,
}

impl Node {
    /// Creates a node. The first command connects, unless [`connect`](Self::connect) was called
    /// before.
    pub(crate) fn new(source: Source, limits: Limits) -> Self {
        let server = source.labels();
        let breaker = CircuitBreaker::new(limits, CircuitMetrics::new(&server));
        let connection = ManagedConnection::new(source, limits);
        Self { connection, breaker, metrics: CommandMetrics::new(server), limits }
    }

    /// Connects, unless the connection is open already.
    pub(crate) async fn connect(&self) -> Result<(), ConnectError> {
        self.connection.connect().await
    }

    /// Returns the address of the server, or the sentinels' name for the primary.
    pub(crate) fn name(&self) -> String {
        self.connection.source().name()
    }

    /// Returns the state of the circuit breaker, without a request to the server.
    pub(crate) fn state(&self) -> RedisState {
        self.breaker.state()
    }

    /// Discards the copies in the near cache that were read from this server.
    #[cfg(feature = "cluster")]
    pub(crate) fn flush_copies(&self) {
        if let Some(link) = self.connection.open() {
            link.tracked.flush();
        }
    }

    #[cfg(feature = "cluster")]
    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.send_seen(command, deadline, &mut ReadOrigin::default()).await
    }

    /// Sends a command, and records its connection in `seen`.
    pub(crate) async fn send_seen(
        &self,
        command: &Cmd,
        deadline: Instant,
        seen: &mut ReadOrigin,
    ) -> Result<Value, Failure> {
        let (exchange, mut socket) = self.begin(Operation::of(command), deadline).await?;
        *seen = exchange.tracked.seen();
        let sent = {
            // Pinned here, so that the timer holds a pointer and the future is not copied.
            let sending = pin!(socket.send(command));
            timeout_at(exchange.limit, sending).await
        };
        exchange.end(sent)
    }

    /// Sends a command, and returns the reply with the connection.
    pub(crate) async fn send_over(
        &self,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<(Value, SocketId), Failure> {
        let (exchange, mut socket) = self.begin(Operation::of(command), deadline).await?;
        let sent = timeout_at(exchange.limit, socket.send(command)).await;
        Ok((exchange.end(sent)?, socket.id()))
    }

    /// Sends a command, and returns `Nil` if the server forbids the command or does not know the
    /// command.
    pub(crate) async fn ask(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let answer = self.send_seen(command, deadline, &mut ReadOrigin::default()).await;
        answer.or_else(|failure| if failure.is_forbidden() { Ok(Value::Nil) } else { Err(failure) })
    }

    pub(crate) async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        let (exchange, mut socket) = self.begin(Operation::PIPELINE, deadline).await?;
        let number = exchange.number;
        let sent = timeout_at(exchange.limit, socket.send_all(commands)).await;
        let answers = exchange.end_all(sent)?;
        for answer in &answers {
            if let Err(error) = answer
                && is_of_stale_connection(error)
            {
                self.connection.on_stale_server(number);
            }
        }
        Ok(answers)
    }

    /// Returns the address of the server, or of the primary that the sentinels name at this time.
    pub(crate) async fn address(&self) -> Result<ServerAddress, ConnectError> {
        let (endpoint, epoch) = self.connection.source().endpoint().await?;
        Ok(ServerAddress { address: endpoint.addr().to_string(), epoch })
    }

    /// Opens a connection beside that of the commands, for the messages that `commands` subscribe
    /// to. Returns the connection with the address of the server.
    pub(crate) async fn listen(
        &self,
        listener: impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static,
        commands: &Pipeline,
    ) -> Result<(ServerAddress, Socket), ConnectError> {
        let limit = self.limits.connect;
        let (endpoint, epoch) = self.connection.source().endpoint().await?;
        let address = endpoint.addr().to_string();
        let listening = connect_listening(&endpoint, listener, commands, self.limits);
        let connection = timeout_at(Instant::now() + limit, listening)
            .await
            .map_err(|_| ConnectError::silent(&address, limit))?
            .map_err(|error| ConnectError::explain(error, &address))?;
        Ok((ServerAddress { address, epoch }, connection))
    }

    /// Asks the circuit breaker for a pass, and waits for a connection. The returned exchange
    /// records the outcome of the command.
    async fn begin(
        &self,
        operation: Operation,
        deadline: Instant,
    ) -> Result<(Exchange<'_>, Socket), Failure> {
        let pass = self.breaker.enter().map_err(|refused| self.refusal(operation, refused))?;
        let sent_at = Instant::now();
        let limit = deadline.min(sent_at + self.limits.response);
        let (channel, number) = self.connection.channel();
        let tracked = Tracked::default();
        let mut exchange =
            Exchange { node: self, operation, pass, number, limit, sent_at, tracked };
        let Link { connection, tracked } = match channel {
            Channel::Open(link) => link,
            // Boxed: most commands do not wait, and would otherwise carry the size of this future.
            Channel::Opening(opening) => {
                match Box::pin(self.connection.opened(opening, number, limit)).await {
                    Ok(link) => link,
                    Err(failure) => return Err(exchange.note(failure)),
                }
            }
        };
        exchange.tracked = tracked;
        Ok((exchange, connection))
    }

    /// Returns the failure of a command that the circuit breaker refused. If the last attempt to
    /// connect failed, the failure names the cause.
    fn refusal(&self, operation: Operation, refused: Refused) -> Failure {
        let error_type = Failure::Refused(refused).error_type();
        self.metrics.on_end(operation, Instant::now(), Some(error_type));
        let error = self.connection.error().filter(|_| refused == Refused::NoAnswers);
        error.map_or(Failure::Refused(refused), Failure::Lost)
    }
}

/// A command or pipeline in progress, from the pass of the circuit breaker to the reply.
struct Exchange<'n> {
    node: &'n Node,
    operation: Operation,
    pass: Pass<'n>,
    number: u64,
    /// The deadline for the reply.
    limit: Instant,
    /// The start of the exchange, shortly before the command is sent.
    sent_at: Instant,
    tracked: Tracked,
}

impl Exchange<'_> {
    fn end<T>(self, sent: Result<RedisResult<T>, Elapsed>) -> Result<T, Failure> {
        match sent {
            Ok(Ok(answer)) => {
                self.node.connection.on_answer(self.number);
                self.tracked.prove(self.sent_at);
                self.node.metrics.on_end(self.operation, self.sent_at, None);
                self.pass.answered();
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.note(Failure::Redis(error))),
            Err(_) => Err(self.note(Failure::Silence)),
        }
    }

    /// Ends the exchange of a pipeline. If all commands failed, the pipeline counts like one failed
    /// command.
    fn end_all(
        self,
        sent: Result<RedisResult<Vec<RedisResult<Value>>>, Elapsed>,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        match sent {
            Ok(Ok(answers)) if answers.iter().all(Result::is_err) => {
                if let Some(Err(error)) = answers.first() {
                    self.note(Failure::Redis(error.clone()));
                }
                Ok(answers)
            }
            sent => self.end(sent),
        }
    }

    /// Records a failure: in the metrics, with the circuit breaker, and with the connection.
    fn note(self, failure: Failure) -> Failure {
        let Self {
            node: Node { connection, metrics, .. }, operation, pass, number, sent_at, ..
        } = self;
        metrics.on_end(operation, sent_at, Some(failure.error_type()));
        let is_open = if failure.is_absence() {
            pass.failed()
        } else if failure.is_of_the_line() {
            // The server may be healthy, so the circuit breaker does not count the failure. The
            // next command uses a new connection.
            drop(pass);
            false
        } else {
            pass.answered();
            false
        };
        match &failure {
            failure if failure.is_silence() => {
                if is_open {
                    connection.on_silence(number);
                }
            }
            failure if failure.is_of_stale_connection() => connection.on_stale_server(number),
            failure if failure.is_io() => connection.on_loss(number),
            Failure::Lost(_) => {}
            _ => connection.on_answer(number),
        }
        failure
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::{
        RedisConfig,
        tracking::Tracking,
        transport::{access::Access, handshake::Wanted},
    };

    /// The node may just have lost its slots, because it is dead.
    #[tokio::test]
    async fn discarding_copies_begins_no_attempt_to_connect() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let accepted = Arc::<AtomicU32>::default();
        let count = Arc::clone(&accepted);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                drop(stream);
            }
        });
        let config = RedisConfig::new(&*url);
        let endpoint = Access::new(&config).unwrap().endpoint_at(&url).unwrap();
        let source = Source::server(endpoint, Tracking::default(), Wanted::ClusterNode);
        let node = Node::new(source, Limits::of(&config));
        assert!(node.connect().await.is_err());
        // Longer than the back-off.
        sleep(Duration::from_secs(1)).await;
        let before = accepted.load(Ordering::Relaxed);
        assert!(before > 0);
        node.flush_copies();
        sleep(Duration::from_millis(200)).await;
        assert_eq!(accepted.load(Ordering::Relaxed), before);
    }
}
