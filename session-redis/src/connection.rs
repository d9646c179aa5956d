use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, RetryMethod, ServerErrorKind, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use session_core::{StoreError, StoreErrorKind};
use tokio::time::Instant;

use crate::{
    RedisConfig,
    error::{store_error, timeout},
    script::Script,
};

/// One multiplexed connection that comes back by itself, with a time limit on everything.
///
/// redis-rs' manager reconnects after an input or output error. What it does not notice is replaced
/// here: a connection that stays silent, one whose set-up the server refused (the manager would repeat
/// that answer for ever), and one to a server that became a replica.
pub(crate) struct Connection {
    client: Client,
    settings: ConnectionManagerConfig,
    line: Mutex<Line>,
    /// How many commands in a row got no answer.
    silences: AtomicU32,
    connect_timeout: Duration,
    response_timeout: Duration,
    operation_timeout: Duration,
}

/// The connection in use.
struct Line {
    manager: ConnectionManager,
    /// Counts the connections, so that a command which fails late does not replace a newer one.
    number: u64,
    opened_at: Instant,
}

impl Connection {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let client = Client::open(config.url.as_str()).map_err(|error| {
            // The error's own text may quote the URL, and with it the password.
            StoreError::new(StoreErrorKind::Misconfigured)
                .with_source(format!("the URL of Redis cannot be used: {}", error.category()))
        })?;
        #[cfg(feature = "tls")]
        choose_crypto_provider();
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            // Timed here, together with the wait for the connection.
            .set_response_timeout(None)
            // While Redis is away each command tries to connect, and fails at once if it cannot, instead
            // of waiting in line behind a growing pause: back is back.
            .set_number_of_retries(0)
            .set_pipeline_buffer_size(PIPELINE_BUFFER);
        let connecting = ConnectionManager::new_with_config(client.clone(), settings.clone());
        let manager = tokio::time::timeout(config.connect_timeout, connecting)
            .await
            .map_err(|_| timeout())?
            .map_err(store_error)?;
        let line = Mutex::new(Line { manager, number: 0, opened_at: Instant::now() });
        Ok(Self {
            client,
            settings,
            line,
            silences: AtomicU32::new(0),
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            operation_timeout: config.operation_timeout,
        })
    }

    /// Runs a command that changes nothing. If the connection turns out to be dead it is run once more,
    /// on a new one.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.deadline();
        let answer = match self.send(command, deadline).await {
            Err(Failure::Redis(error)) if is_dead_connection(&error) => {
                self.send(command, deadline).await
            }
            answer => answer,
        };
        answer.map_err(Failure::into_store_error)
    }

    /// Runs a command that may change something.
    pub(crate) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.write_until(command, self.deadline()).await.map_err(Failure::into_store_error)
    }

    /// Runs a script, and tells the server what it is if it does not know.
    pub(crate) async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.deadline();
        let answer = match self.write_until(call, deadline).await {
            Err(failure) if failure.is(ServerErrorKind::NoScript) => {
                match self.write_until(&script.load(), deadline).await {
                    Ok(_) => self.write_until(call, deadline).await,
                    Err(failure) => Err(failure),
                }
            }
            answer => answer,
        };
        answer.map_err(Failure::into_store_error)
    }

    /// Runs a command once, and once more on a new connection if a replica refused it and therefore did
    /// not carry it out: the address may lead to the new primary by now.
    async fn write_until(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        match self.send(command, deadline).await {
            Err(failure) if failure.is(ServerErrorKind::ReadOnly) => {
                self.send(command, deadline).await
            }
            answer => answer,
        }
    }

    /// Runs commands that change nothing, together, as [`read`](Self::read) does with one; each has an
    /// answer of its own.
    pub(crate) async fn read_all(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let deadline = self.deadline();
        let answers = match self.send_all(commands, deadline).await {
            Err(Failure::Redis(error)) if is_dead_connection(&error) => {
                self.send_all(commands, deadline).await
            }
            answers => answers,
        };
        each(answers)
    }

    /// Runs commands that may change something, together and in their order; each has an answer of its own,
    /// and a failure of one does not keep the next from being carried out.
    pub(crate) async fn write_all(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let deadline = self.deadline();
        let answers = match self.send_all(commands, deadline).await {
            Ok(answers) if answers.iter().all(is_read_only) => {
                self.send_all(commands, deadline).await
            }
            answers => answers,
        };
        each(answers)
    }

    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        let send = async |mut manager: ConnectionManager| {
            // What the server refuses comes back as a value of its own kind.
            manager.send_packed_command(command).await.and_then(Value::extract_error)
        };
        self.exchange(send, deadline).await
    }

    async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        let count = commands.len();
        let send = async |mut manager: ConnectionManager| {
            let answers = manager.send_packed_commands(commands, 0, count).await?;
            Ok(answers.into_iter().map(Value::extract_error).collect::<Vec<_>>())
        };
        let number = self.line().number;
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
        send: impl AsyncFnOnce(ConnectionManager) -> RedisResult<T>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let (manager, number) = {
            let line = self.line();
            (line.manager.clone(), line.number)
        };
        let limit = deadline.min(Instant::now() + self.response_timeout);
        let answer = match tokio::time::timeout_at(limit, send(manager)).await {
            Ok(answer) => answer.map_err(Failure::Redis),
            Err(_) => Err(Failure::Silence),
        };
        match &answer {
            Err(failure) if failure.is_silence() => self.note_silence(number),
            Err(failure) if failure.is_of_the_connection() => self.replace(number, MIN_AGE),
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

    fn deadline(&self) -> Instant {
        Instant::now() + self.operation_timeout
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
            self.replace(number, self.connect_timeout + self.response_timeout);
        }
    }

    /// Puts a new connection in place of the one with this number, if that is so old; not more often
    /// than a server in trouble bears.
    fn replace(&self, number: u64, min_age: Duration) {
        let mut line = self.line();
        if line.number != number || line.opened_at.elapsed() < min_age {
            return;
        }
        let settings = self.settings.clone();
        if let Ok(manager) = ConnectionManager::new_lazy_with_config(self.client.clone(), settings)
        {
            // It connects with its first command, and only while somebody waits for that.
            let mut first = manager.clone();
            tokio::spawn(async move { first.send_packed_command(&redis::cmd("PING")).await });
            *line = Line { manager, number: number + 1, opened_at: Instant::now() };
            self.silences.store(0, Ordering::Relaxed);
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Every change is one assignment.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why an operation has no answer.
enum Failure {
    Redis(RedisError),
    /// It took too long.
    Silence,
}

impl Failure {
    fn is(&self, kind: ServerErrorKind) -> bool {
        matches!(self, Self::Redis(error) if is(error, kind))
    }

    fn is_silence(&self) -> bool {
        match self {
            Self::Redis(error) => error.is_timeout(),
            Self::Silence => true,
        }
    }

    /// Tells an error of the connection that redis-rs does not mend from one that concerns a command.
    fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Redis(error) if is_of_the_connection(error))
    }

    fn into_store_error(self) -> StoreError {
        match self {
            Self::Redis(error) => store_error(error),
            Self::Silence => timeout(),
        }
    }
}

fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == ErrorKind::Server(kind)
}

fn is_of_the_connection(error: &RedisError) -> bool {
    !error.is_io_error()
        && !is(error, ServerErrorKind::NoScript)
        && !matches!(
            error.code(),
            Some(
                "BUSY" | "CLUSTERDOWN" | "MISCONF" | "NOREPLICAS" | "OOM" | "TRYAGAIN" | "WRONGTYPE"
            )
        )
        // How a script's error reads up to Redis 6.2.
        && !error.detail().is_some_and(|detail| detail.contains("unning script"))
}

fn is_read_only(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if is(error, ServerErrorKind::ReadOnly))
}

/// Says of each answer what it means to the protocol.
fn each(
    answers: Result<Vec<RedisResult<Value>>, Failure>,
) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
    let answers = answers.map_err(Failure::into_store_error)?;
    Ok(answers.into_iter().map(|answer| answer.map_err(store_error)).collect())
}

fn is_dead_connection(error: &RedisError) -> bool {
    error.is_connection_dropped() && matches!(error.retry_method(), RetryMethod::Reconnect)
}

/// Without a provider rustls panics, and with two it cannot choose: unless the application has chosen,
/// this is ring.
#[cfg(feature = "tls")]
fn choose_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost only to somebody who chose at the same moment.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// How many commands may wait to be written to the connection. redis-rs' default of 50 makes many
/// requests at once wait for each other.
const PIPELINE_BUFFER: usize = 1024;

/// How many commands in a row may stay without an answer before a new connection is tried.
const MAX_SILENCES: u32 = 3;

/// How long a connection is given before it is replaced.
const MIN_AGE: Duration = Duration::from_millis(100);
