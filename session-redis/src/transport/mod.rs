//! A client of Redis that is independent of sessions. The client routes each command to the server
//! of its key, and replaces lost connections.

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

use std::convert::Infallible;

use redis::{Cmd, Pipeline, PushInfo, RedisResult, ServerErrorKind, Value};
use session_core::StoreError;
use tokio::time::Instant;

use crate::{
    RedisConfig,
    config::Place,
    error::{ConnectError, store_error},
    metrics,
    near_cache::ReadOrigin,
    tracking::Tracking,
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
pub(crate) use {
    node::ServerAddress,
    script::Script,
    socket::{Socket, SocketId},
};

/// The client of one server, of a primary behind sentinels, or of a cluster.
///
/// Every operation has a deadline. A command is repeated only if the earlier attempt certainly
/// changed nothing, for example after a refusal. After the loss of a connection, only commands that
/// read are repeated.
pub(crate) struct Connection {
    servers: Servers,
    limits: Limits,
}

enum Servers {
    /// One server, or the primary that sentinels name.
    One(Box<Node>),
    #[cfg(feature = "cluster")]
    Cluster(crate::transport::cluster::Cluster),
}

impl Connection {
    /// Creates a client. The first command connects, unless [`connect`](Self::connect) was called
    /// before. If `tracking` is enabled, servers report changes by other clients over the
    /// connections.
    pub(crate) fn new(config: &RedisConfig, tracking: &Tracking) -> Result<Self, ConnectError> {
        let limits = Limits::of(config);
        metrics::describe();
        Ok(Self { servers: Servers::new(config, tracking, limits)?, limits })
    }

    /// Connects, and checks that the servers can hold sessions.
    pub(crate) async fn connect(&self) -> Result<(), ConnectError> {
        match &self.servers {
            Servers::One(node) => node.connect().await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.connect().await,
        }
    }

    /// Sends a command that changes nothing. If the connection turns out to be dead, the command is
    /// sent once more, over a new connection.
    pub(crate) async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.read_seen(command, &mut ReadOrigin::default()).await
    }

    /// Sends a command as [`read`](Self::read) does, and records the connection in `seen`.
    pub(crate) async fn read_seen(
        &self,
        command: &Cmd,
        seen: &mut ReadOrigin,
    ) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline();
        match self.send_seen(command, deadline, seen).await {
            Ok(answer) => Ok(answer),
            // Boxed, as below: most commands are sent once, and would otherwise carry the size of
            // the repetition.
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

    /// Sends a command that may change data.
    pub(crate) async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        let deadline = self.limits.deadline_of_each();
        match self.write_until(command, deadline).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(Box::pin(self.not_done(failure)).await),
        }
    }

    /// Calls a script by its hash, and sends the code if the server does not know the script.
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

    /// Sends a command once more, over a new connection, if a replica refused the command. The
    /// refused command changed nothing, and by now the address may lead to the new primary.
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

    /// Converts a failure into a store error. If a reply was lost, pauses before the session
    /// protocol repeats the operation.
    async fn not_done(&self, failure: Failure) -> StoreError {
        let error = failure.into_store_error();
        self.limits.pause_if_lost([&error]).await;
        error
    }

    /// Sends commands that change nothing, in one pipeline per server, and returns a reply for
    /// each. A lost connection is handled as by [`read`](Self::read).
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

    /// Calls a script on many keys, in one pipeline per server and in their order. A single server
    /// receives the code with the first call, and a node of a cluster on demand. Each call has its
    /// own reply, and the calls after a failed call still run.
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

    /// Sends commands that may change data, in this order. A single server receives them in one
    /// round trip. In a cluster, each command is sent after the one before has succeeded.
    pub(crate) async fn write_in_order(
        &self,
        commands: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match &self.servers {
            Servers::One(node) => self.write_all(node, commands).await,
            #[cfg(feature = "cluster")]
            Servers::Cluster(_) => {
                let deadline = self.limits.deadline_of_each();
                let mut answers = Vec::with_capacity(commands.len());
                for command in &commands {
                    match self.write_until(command, deadline).await {
                        Ok(answer) => answers.push(Ok(answer)),
                        Err(failure) => return Err(self.not_done(failure).await),
                    }
                }
                Ok(answers)
            }
        }
    }

    /// Sends commands that may change data to one server, in one pipeline and in their order. Fails
    /// in a cluster.
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

    /// Returns the names of the servers that hold sessions. A cluster is asked for its nodes.
    pub(crate) async fn servers(&self) -> Result<Vec<String>, StoreError> {
        match &self.servers {
            Servers::One(node) => Ok(vec![node.name()]),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => Ok(cluster.addresses().await?),
        }
    }

    /// Returns the addresses of the servers that hold sessions. Sentinels are asked for the primary,
    /// and a cluster for its nodes.
    pub(crate) async fn addresses(&self) -> Result<Vec<ServerAddress>, StoreError> {
        match &self.servers {
            Servers::One(node) => Ok(vec![node.address().await?]),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => {
                let addresses = cluster.addresses().await?.into_iter();
                Ok(addresses.map(|address| ServerAddress { address, epoch: 0 }).collect())
            }
        }
    }

    /// Sends a command that changes nothing to the server of this name, and repeats it as
    /// [`read`](Self::read) does. Returns the reply with the connection, or `None` if the cluster has
    /// no such node any more.
    pub(crate) async fn read_from(
        &self,
        #[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "there is one"))]
        server: &str,
        command: &Cmd,
    ) -> Result<Option<(Value, SocketId)>, StoreError> {
        let deadline = self.limits.deadline();
        let send = async || match &self.servers {
            Servers::One(node) => node.send_over(command, deadline).await.map(Some),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.send_to(server, command, deadline).await,
        };
        match send().await {
            Err(failure) if failure.is_dead_connection() => {
                self.limits.pause().await;
                metrics::retried(failure.error_type());
                send().await
            }
            answer => answer,
        }
        .map_err(Failure::into_store_error)
    }

    /// Opens a connection to each server that holds sessions, and sends commands that subscribe to
    /// messages. `listener` makes the receiver of one connection's messages. Returns each connection
    /// with the address of its server.
    pub(crate) async fn listen<L>(
        &self,
        listener: impl Fn() -> L,
        commands: &Pipeline,
    ) -> Result<Vec<(ServerAddress, Socket)>, ConnectError>
    where
        L: Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static,
    {
        match &self.servers {
            Servers::One(node) => Ok(vec![node.listen(listener(), commands).await?]),
            #[cfg(feature = "cluster")]
            Servers::Cluster(cluster) => cluster.listen(listener, commands).await,
        }
    }

    /// Sends a command to each server, and returns each reply with the name of the server. The
    /// reply is `Nil` if the server forbids the command or does not know the command.
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

    /// Returns the state of the circuit breaker, without a request to Redis.
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

/// Converts the error in each reply into a store error.
fn each(
    answers: Result<Vec<RedisResult<Value>>, Failure>,
) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
    let answers = answers.map_err(Failure::into_store_error)?;
    Ok(answers.into_iter().map(|answer| answer.map_err(store_error)).collect())
}
