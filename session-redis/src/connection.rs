use redis::{Cmd, Pipeline, RedisResult, ServerErrorKind, Value};
use session_core::StoreError;
use tokio::time::Instant;

use crate::{
    RedisConfig,
    access::Access,
    check::Wanted,
    config::Place,
    error::store_error,
    failure::{Failure, is},
    node::{Limits, Node},
    script::Script,
};

/// The way to Redis, whatever it consists of: every operation has a deadline, and is sent again at most
/// once, where the first time certainly changed nothing.
pub(crate) struct Connection {
    servers: Servers,
    limits: Limits,
}

enum Servers {
    /// One server, or the one of several that is the primary.
    One(Node),
}

impl Connection {
    pub(crate) async fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let limits = Limits::of(config);
        let servers = Servers::open(config, limits).await?;
        Ok(Self { servers, limits })
    }

    /// Runs a command that changes nothing. If the connection turns out to be dead it is run once more,
    /// on a new one.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline();
        let answer = match self.send(command, deadline).await {
            Err(failure) if failure.is_dead_connection() => self.send(command, deadline).await,
            answer => answer,
        };
        answer.map_err(Failure::into_store_error)
    }

    /// Runs a command that may change something.
    pub(crate) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline();
        self.write_until(command, deadline).await.map_err(Failure::into_store_error)
    }

    /// Runs a script, and tells the server what it is if it does not know.
    pub(crate) async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline();
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
        let deadline = self.limits.deadline();
        let answers = match self.send_all(commands, deadline).await {
            Err(failure) if failure.is_dead_connection() => self.send_all(commands, deadline).await,
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
        let deadline = self.limits.deadline();
        let answers = match self.send_all(commands, deadline).await {
            Ok(answers) if answers.iter().all(is_read_only) => {
                self.send_all(commands, deadline).await
            }
            answers => answers,
        };
        each(answers)
    }

    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        match &self.servers {
            Servers::One(node) => node.send(command, deadline).await,
        }
    }

    async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<RedisResult<Value>>, Failure> {
        match &self.servers {
            Servers::One(node) => node.send_all(commands, deadline).await,
        }
    }
}

impl Servers {
    async fn open(config: &RedisConfig, limits: Limits) -> Result<Self, StoreError> {
        #[cfg(feature = "tls")]
        choose_crypto_provider();
        match &config.place {
            Place::Server(url) => {
                let client = Access::new(config).client_at(url)?;
                Ok(Self::One(Node::open(client, Wanted::Server, limits).await?))
            }
            #[cfg(feature = "sentinel")]
            Place::Sentinel { sentinels, primary } => {
                let sentinels = crate::sentinel::Sentinels::new(config, sentinels, primary)?;
                Ok(Self::One(Node::find(sentinels, limits).await?))
            }
        }
    }
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

/// Without a provider rustls panics, and with two it cannot choose: unless the application has chosen,
/// this is ring.
#[cfg(feature = "tls")]
fn choose_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // ConnectError only to somebody who chose at the same moment.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
