use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{
    Client, Cmd, Pipeline, RedisResult, ServerError, Value,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
};
use tokio::time::Instant;

use crate::{
    RedisConfig, RedisState,
    breaker::Breaker,
    check::{self, Wanted},
    error::ConnectError,
    failure::{Failure, is_of_the_connection},
};

/// One multiplexed connection to one server that comes back by itself, with a time limit on everything.
///
/// redis-rs' manager reconnects after an input or output error. What it does not notice is replaced
/// here: a connection that stays silent, one whose set-up the server refused (the manager would repeat
/// that answer for ever), and one to a server that became a replica.
pub(crate) struct Node {
    source: Source,
    line: Mutex<Line>,
    /// How many commands in a row got no answer.
    silences: AtomicU32,
    breaker: Breaker,
    limits: Limits,
}

/// How long things may take, and how much may come to nothing or wait.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
    pub(crate) operation: Duration,
    pub(crate) failures: u32,
    pub(crate) waiting: usize,
}

impl Limits {
    pub(crate) fn of(config: &RedisConfig) -> Self {
        Self {
            connect: config.connect_timeout,
            response: config.response_timeout,
            operation: config.operation_timeout,
            failures: config.max_failures,
            waiting: config.max_waiting,
        }
    }

    pub(crate) fn deadline(self) -> Instant {
        Instant::now() + self.operation
    }
}

/// Where a node's connections come from.
enum Source {
    Address(Box<Address>),
    #[cfg(feature = "sentinel")]
    Sentinels(std::sync::Arc<crate::sentinel::Sentinels>),
}

struct Address {
    client: Client,
    settings: ConnectionManagerConfig,
}

/// The connection in use.
struct Line {
    channel: Channel,
    /// Counts the connections, so that a command which fails late does not replace a newer one.
    number: u64,
    opened_at: Instant,
}

#[derive(Clone)]
enum Channel {
    Managed(ConnectionManager),
    #[cfg(feature = "sentinel")]
    Found(crate::sentinel::Search),
}

impl Channel {
    /// A connection that can be asked for another one without being used.
    async fn pipe(&self) -> Result<Pipe, Failure> {
        match self {
            Self::Managed(manager) => Ok(Pipe::Managed(manager.clone())),
            #[cfg(feature = "sentinel")]
            Self::Found(search) => search.result().await.map(Pipe::Direct).map_err(Failure::Lost),
        }
    }

    /// Whether nothing but a new line helps after an error of input or output.
    fn needs_another(&self) -> bool {
        match self {
            Self::Managed(_) => false,
            #[cfg(feature = "sentinel")]
            Self::Found(_) => true,
        }
    }
}

/// What commands are sent over.
#[derive(Clone)]
pub(crate) enum Pipe {
    Managed(ConnectionManager),
    #[cfg_attr(not(feature = "sentinel"), expect(dead_code, reason = "found by Sentinel"))]
    Direct(MultiplexedConnection),
}

impl Pipe {
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Managed(manager) => manager.send_packed_command(command).await,
            Self::Direct(connection) => connection.send_packed_command(command).await,
        }
    }

    pub(crate) async fn send_all(
        &mut self,
        commands: &Pipeline,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let count = commands.len();
        let answers = match self {
            Self::Managed(manager) => manager.send_packed_commands(commands, 0, count).await?,
            Self::Direct(connection) => connection.send_packed_commands(commands, 0, count).await?,
        };
        // What the server refuses comes back as a value of its own kind.
        Ok(answers.into_iter().map(Value::extract_error).collect())
    }
}

impl Node {
    /// Connects to the server at one address, and looks at who answers.
    pub(crate) async fn open(
        client: Client,
        wanted: Wanted,
        limits: Limits,
    ) -> Result<Self, ConnectError> {
        let address = client.get_connection_info().addr().to_string();
        let settings = settings(limits);
        let connecting = ConnectionManager::new_with_config(client.clone(), settings.clone());
        let manager = tokio::time::timeout(limits.connect, connecting)
            .await
            .map_err(|_| ConnectError::silent(&address, limits.connect))?
            .map_err(|error| ConnectError::explain(error, &address))?;
        let mut pipe = Pipe::Managed(manager.clone());
        check::check(&mut pipe, &address, wanted, limits.response).await?;
        let source = Source::Address(Box::new(Address { client, settings }));
        Ok(Self::new(source, Channel::Managed(manager), limits))
    }

    /// A node whose first command connects.
    #[cfg(feature = "cluster")]
    pub(crate) fn lazy(client: Client, limits: Limits) -> RedisResult<Self> {
        let settings = settings(limits);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), settings.clone())?;
        let source = Source::Address(Box::new(Address { client, settings }));
        Ok(Self::new(source, Channel::Managed(manager), limits))
    }

    /// Connects to whatever the sentinels call the primary, now and each time the connection is lost.
    #[cfg(feature = "sentinel")]
    pub(crate) async fn find(
        sentinels: crate::sentinel::Sentinels,
        limits: Limits,
    ) -> Result<Self, ConnectError> {
        let sentinels = std::sync::Arc::new(sentinels);
        let search = crate::sentinel::Search::found(sentinels.find().await?);
        Ok(Self::new(Source::Sentinels(sentinels), Channel::Found(search), limits))
    }

    fn new(source: Source, channel: Channel, limits: Limits) -> Self {
        let line = Mutex::new(Line { channel, number: 0, opened_at: Instant::now() });
        let breaker = Breaker::new(limits);
        Self { source, line, silences: AtomicU32::new(0), breaker, limits }
    }

    /// What is known without asking.
    pub(crate) fn state(&self) -> RedisState {
        self.breaker.state()
    }

    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let send = async |mut pipe: Pipe| pipe.send(command).await.and_then(Value::extract_error);
        self.exchange(send, deadline).await
    }

    /// Sends a command that this client may not be allowed: what the server refuses is the answer, and says
    /// nothing about the connection.
    pub(crate) async fn ask(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let send = async |mut pipe: Pipe| match pipe.send(command).await? {
            Value::ServerError(refusal) if is_forbidden(&refusal) => {
                Ok(Value::ServerError(refusal))
            }
            answer => answer.extract_error(),
        };
        self.exchange(send, deadline).await
    }

    pub(crate) async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        let number = self.line().number;
        let send = async |mut pipe: Pipe| pipe.send_all(commands).await;
        let answers = self.exchange(send, deadline).await?;
        for answer in &answers {
            if let Err(error) = answer
                && is_of_the_connection(error)
            {
                self.replace(number, MIN_AGE);
            }
        }
        Ok(answers)
    }

    /// Sends something over the present connection, and watches over it.
    async fn exchange<T>(
        &self,
        send: impl AsyncFnOnce(Pipe) -> RedisResult<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let pass = self.breaker.enter().map_err(Failure::Refused)?;
        let (channel, number) = self.channel();
        let limit = deadline.min(Instant::now() + self.limits.response);
        let found = tokio::time::timeout_at(limit, channel.pipe()).await;
        let pipe = match found.unwrap_or_else(|_| Err(Failure::not_connected())) {
            Ok(pipe) => pipe,
            Err(failure) => {
                pass.failed();
                return Err(failure);
            }
        };
        let answer = match tokio::time::timeout_at(limit, send(pipe)).await {
            Ok(answer) => answer.map_err(Failure::Redis),
            Err(_) => Err(Failure::Silence),
        };
        match &answer {
            Err(failure) if failure.is_absence() => pass.failed(),
            // The server may be well, and the next command goes over a new connection.
            Err(failure) if failure.is_of_the_line() => drop(pass),
            Ok(_) | Err(_) => pass.answered(),
        }
        match &answer {
            Err(failure) if failure.is_silence() => self.note_silence(number),
            Err(failure)
                if failure.is_of_the_connection()
                    || (failure.is_io() && channel.needs_another()) =>
            {
                self.replace(number, MIN_AGE);
            }
            Ok(_) | Err(_) if self.silences.load(Ordering::Relaxed) == 0 => {}
            Ok(_) | Err(_) => {
                let line = self.line();
                if line.number == number {
                    self.silences.store(0, Ordering::Relaxed);
                }
            }
        }
        answer
    }

    /// The present connection, or a new one in place of one that was not found.
    fn channel(&self) -> (Channel, u64) {
        let (channel, number) = {
            let line = self.line();
            (line.channel.clone(), line.number)
        };
        #[cfg(feature = "sentinel")]
        if matches!(&channel, Channel::Found(search) if search.has_failed()) {
            self.replace(number, MIN_AGE);
            let line = self.line();
            return (line.channel.clone(), line.number);
        }
        (channel, number)
    }

    fn note_silence(&self, number: u64) {
        let silences = {
            let line = self.line();
            if line.number != number {
                return;
            }
            // Counted while nobody can replace the line.
            self.silences.fetch_add(1, Ordering::Relaxed) + 1
        };
        if silences >= MAX_SILENCES {
            // A new connection may need all of its time to be set up.
            self.replace(number, self.limits.connect + self.limits.response);
        }
    }

    /// Puts a new connection in place of the one with this number, if that is so old; not more often
    /// than a server in trouble bears.
    fn replace(&self, number: u64, min_age: Duration) {
        let mut line = self.line();
        if line.number != number || line.opened_at.elapsed() < min_age {
            return;
        }
        let channel = match &self.source {
            Source::Address(address) => {
                let lazy = ConnectionManager::new_lazy_with_config(
                    address.client.clone(),
                    address.settings.clone(),
                );
                let Ok(manager) = lazy else { return };
                // It connects with its first command, and only while somebody waits for that.
                let mut first = manager.clone();
                tokio::spawn(async move { first.send_packed_command(&redis::cmd("PING")).await });
                Channel::Managed(manager)
            }
            #[cfg(feature = "sentinel")]
            Source::Sentinels(sentinels) => match &line.channel {
                // It ends by itself.
                Channel::Found(search) if search.is_under_way() => return,
                _ => Channel::Found(crate::sentinel::Search::start(sentinels)),
            },
        };
        *line = Line { channel, number: number + 1, opened_at: Instant::now() };
        self.silences.store(0, Ordering::Relaxed);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Every change is one assignment.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that the command is refused to this user, or is none that the server has.
fn is_forbidden(refusal: &ServerError) -> bool {
    refusal.code() == "NOPERM"
        || refusal.details().is_some_and(|details| details.contains("unknown command"))
}

fn settings(limits: Limits) -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(limits.connect))
        // Timed here, together with the wait for the connection.
        .set_response_timeout(None)
        // While Redis is away each command tries to connect, and fails at once if it cannot, instead
        // of waiting in line behind a growing pause: back is back.
        .set_number_of_retries(0)
        .set_pipeline_buffer_size(PIPELINE_BUFFER)
}

/// How many commands may wait to be written to the connection. redis-rs' default of 50 makes many
/// requests at once wait for each other.
pub(crate) const PIPELINE_BUFFER: usize = 1024;

/// How many commands in a row may stay without an answer before a new connection is tried.
const MAX_SILENCES: u32 = 3;

/// How long a connection is given before it is replaced.
pub(crate) const MIN_AGE: Duration = Duration::from_millis(100);
