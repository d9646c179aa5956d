//! A client of Redis, which knows nothing of sessions: how commands reach the server that has their
//! key, over connections that are made again when they are lost.

mod access;
mod authentication;
mod batched_writes;
mod circuit_breaker;
mod client_name;
#[cfg(feature = "cluster")]
mod cluster;
mod connector;
mod failure;
mod handshake;
mod limits;
mod managed_connection;
mod node;
mod script;
#[cfg(feature = "sentinel")]
mod sentinel;
mod socket;

use redis::{Cmd, Pipeline, RedisResult, ServerErrorKind, Value};
use session_core::StoreError;
use tokio::time::Instant;

use crate::{
    RedisConfig,
    config::Place,
    error::{ConnectError, store_error},
    metrics,
    near_cache::{ReadOrigin, Tracking},
    transport::{
        access::Access,
        failure::{Failure, is},
        handshake::Wanted,
        limits::Limits,
        managed_connection::Source,
        node::Node,
    },
};

pub use circuit_breaker::{Circuit, RedisState};
pub(crate) use script::Script;

/// The way to Redis, whatever it consists of: every operation has a deadline, and is sent again at most
/// once, where the first time certainly changed nothing.
pub(crate) struct Connection {
    servers: Servers,
    limits: Limits,
}

enum Servers {
    /// One server, or the one of several that is the primary.
    One(Box<Node>),
    #[cfg(feature = "cluster")]
    Cluster(crate::transport::cluster::Cluster),
}

impl Connection {
    /// The first command connects, unless [`connect`](Self::connect) does. Connections report what others
    /// change, if `tracking` wants that.
    pub(crate) fn new(config: &RedisConfig, tracking: &Tracking) -> Result<Self, ConnectError> {
        let limits = Limits::of(config);
        metrics::describe();
        Ok(Self { servers: Servers::new(config, tracking, limits)?, limits })
    }

    /// Connects, and looks at who answers.
    pub(crate) async fn connect(&self) -> Result<(), ConnectError> {
        match &self.servers {
            Servers::One(node) => node.connect().await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.connect().await,
        }
    }

    /// Runs a command that changes nothing. If the connection turns out to be dead it is run once more,
    /// on a new one.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.read_seen(command, &mut ReadOrigin::default()).await
    }

    /// As [`read`](Self::read), and notes in `seen` over which connection.
    pub(crate) async fn read_seen(
        &self,
        command: &Cmd,
        seen: &mut ReadOrigin,
    ) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline();
        match self.send_seen(command, deadline, seen).await {
            Ok(answer) => Ok(answer),
            // Boxed, as below: most commands are sent once, and would carry the size of the other about.
            Err(failure) if failure.is_dead_connection() => {
                let again = async {
                    self.limits.pause().await;
                    metrics::retried(failure.error_type());
                    self.send_seen(command, deadline, seen).await
                };
                Box::pin(again).await.map_err(Failure::into_store_error)
            }
            Err(failure) => Err(failure.into_store_error()),
        }
    }

    /// Runs a command that may change something.
    pub(crate) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline_of_each();
        match self.write_until(command, deadline).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(Box::pin(self.not_done(failure)).await),
        }
    }

    /// Runs a script, and tells the server what it is if it does not know.
    pub(crate) async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline_of_each();
        match self.send(call, deadline).await {
            Ok(answer) => Ok(answer),
            Err(failure) => {
                let again = async {
                    match self.run_again(failure, script, call, deadline).await {
                        Ok(answer) => Ok(answer),
                        Err(failure) => Err(self.not_done(failure).await),
                    }
                };
                Box::pin(again).await
            }
        }
    }

    async fn run_again(
        &self,
        failure: Failure,
        script: &Script,
        call: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        match self.write_again(failure, call, deadline).await {
            Err(failure) if failure.is(ServerErrorKind::NoScript) => {
                metrics::retried(failure.error_type());
                self.write_until(&script.with_code(call), deadline).await
            }
            answer => answer,
        }
    }

    async fn write_until(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        match self.send(command, deadline).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Box::pin(self.write_again(failure, command, deadline)).await,
        }
    }

    /// Runs a command once more, on a new connection, if a replica refused it and therefore did not carry it
    /// out: the address may lead to the new primary by now.
    async fn write_again(
        &self,
        failure: Failure,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        if failure.is(ServerErrorKind::ReadOnly) {
            metrics::retried(failure.error_type());
            return self.send(command, deadline).await;
        }
        Err(failure)
    }

    /// What a failure means to the protocol, told when it may ask again.
    async fn not_done(&self, failure: Failure) -> StoreError {
        let error = failure.into_store_error();
        self.limits.pause_if_lost([&error]).await;
        error
    }

    /// Runs commands that change nothing, together, as [`read`](Self::read) does with one; each has an
    /// answer of its own.
    pub(crate) async fn read_all(
        &self,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let deadline = self.limits.deadline();
        match &self.servers {
            Servers::One(node) => {
                let commands = pipeline(commands);
                each(match node.send_all(&commands, deadline).await {
                    Err(failure) if failure.is_dead_connection() => {
                        self.limits.pause().await;
                        metrics::retried(failure.error_type());
                        node.send_all(&commands, deadline).await
                    }
                    answers => answers,
                })
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let again = Failure::is_dead_connection;
                Ok(meant(cluster.send_all(commands, deadline, again).await))
            }
        }
    }

    /// Calls a script on many keys, together and in their order, and tells servers what it is; each call
    /// has an answer of its own, and a failure of one does not keep the next from being carried out.
    pub(crate) async fn run_all(
        &self,
        script: &Script,
        mut calls: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match &self.servers {
            Servers::One(node) => {
                script.put_code_into_the_first(&mut calls);
                self.write_all(node, calls).await
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let deadline = self.limits.deadline_of_each();
                let answers = meant(cluster.run_all(script, calls, deadline).await);
                let errors = answers.iter().filter_map(|answer| answer.as_ref().err());
                self.limits.pause_if_lost(errors).await;
                Ok(answers)
            }
        }
    }

    /// Runs two commands that may change something, in one round trip where the second cannot overtake the
    /// first that way; otherwise the second after the first, if that was carried out.
    pub(crate) async fn write_in_order(
        &self,
        first: Cmd,
        second: Cmd,
    ) -> Result<(Result<Value, StoreError>, Result<Value, StoreError>), StoreError> {
        match &self.servers {
            Servers::One(node) => {
                let answers = self.write_all(node, vec![first, second]).await?;
                let [first, second] = answers.try_into().map_err(|_| crate::error::unexpected())?;
                Ok((first, second))
            }
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => {
                let deadline = self.limits.deadline_of_each();
                let both = async {
                    let first = self.write_until(&first, deadline).await?;
                    Ok((first, self.write_until(&second, deadline).await?))
                };
                match both.await {
                    Ok((first, second)) => Ok((Ok(first), Ok(second))),
                    Err(failure) => Err(self.not_done(failure).await),
                }
            }
        }
    }

    /// Runs commands that may change something, together and in their order, on one server.
    pub(crate) async fn write_together(
        &self,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match &self.servers {
            Servers::One(node) => self.write_all(node, commands).await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => {
                Err(StoreError::new(session_core::StoreErrorKind::Misconfigured)
                    .with_source("a cluster has no one server for all keys"))
            }
        }
    }

    async fn write_all(
        &self,
        node: &Node,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        let deadline = self.limits.deadline_of_each();
        let commands = pipeline(commands);
        let answers = each(match node.send_all(&commands, deadline).await {
            Ok(answers) if answers.iter().all(is_read_only) => {
                metrics::retried("READONLY");
                node.send_all(&commands, deadline).await
            }
            answers => answers,
        });
        self.limits.pause_if_lost(answers.as_ref().err()).await;
        answers
    }

    /// Runs a command on each server that this client may not be allowed, and tells which server that is: the
    /// answer of a server that refuses is `Nil`.
    pub(crate) async fn ask_each(&self, command: &Cmd) -> Vec<(String, Result<Value, StoreError>)> {
        let deadline = self.limits.deadline();
        let answers = match &self.servers {
            Servers::One(node) => vec![(node.name(), node.ask(command, deadline).await)],
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.ask_each(command, deadline).await,
        };
        let meant = |(name, answer): (_, Result<_, Failure>)| {
            (name, answer.map_err(Failure::into_store_error))
        };
        answers.into_iter().map(meant).collect()
    }

    /// What is known without asking.
    pub(crate) fn state(&self) -> RedisState {
        match &self.servers {
            Servers::One(node) => node.state(),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.state(),
        }
    }

    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.send_seen(command, deadline, &mut ReadOrigin::default()).await
    }

    async fn send_seen(
        &self,
        command: &Cmd,
        deadline: Instant,
        seen: &mut ReadOrigin,
    ) -> Result<Value, Failure> {
        match &self.servers {
            Servers::One(node) => node.send_seen(command, deadline, seen).await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => Box::pin(cluster.send_seen(command, deadline, seen)).await,
        }
    }
}

impl Servers {
    fn new(
        config: &RedisConfig,
        tracking: &Tracking,
        limits: Limits,
    ) -> Result<Self, ConnectError> {
        let tracking = tracking.clone();
        match &config.place {
            Place::Server(url) => {
                let endpoint = Access::new(config)?.endpoint_at(url)?;
                let source = Source::server(endpoint, tracking, Wanted::Server);
                Ok(Self::One(Box::new(Node::new(source, limits))))
            }
            #[cfg(feature = "sentinel")]
            Place::Sentinel { sentinels, primary, tls } => {
                let sentinels =
                    sentinel::Sentinels::new(config, sentinels, primary, *tls, tracking)?;
                let source = Source::Sentinels(std::sync::Arc::new(sentinels));
                Ok(Self::One(Box::new(Node::new(source, limits))))
            }
            #[cfg(feature = "cluster")]
            Place::Cluster(nodes) => {
                Ok(Self::Cluster(cluster::Cluster::new(config, nodes, tracking)?))
            }
        }
    }
}

fn is_read_only(answer: &RedisResult<Value>) -> bool {
    matches!(answer, Err(error) if is(error, ServerErrorKind::ReadOnly))
}

fn pipeline(commands: Vec<Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline
}

#[cfg(feature = "cluster")]
fn meant(answers: Vec<Result<Value, Failure>>) -> Vec<Result<Value, StoreError>> {
    answers.into_iter().map(|answer| answer.map_err(Failure::into_store_error)).collect()
}

/// Says of each answer what it means to the protocol.
fn each(
    answers: Result<Vec<RedisResult<Value>>, Failure>,
) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
    let answers = answers.map_err(Failure::into_store_error)?;
    Ok(answers.into_iter().map(|answer| answer.map_err(store_error)).collect())
}
