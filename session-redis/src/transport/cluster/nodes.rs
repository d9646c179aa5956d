use std::{convert::Infallible, sync::Arc};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, PushInfo, Value};
use session_core::StoreErrorKind;
use tokio::time::Instant;

use super::{Cluster, Member};
use crate::{
    error::ConnectError,
    transport::{failure::Failure, socket::Socket},
};

impl Cluster {
    /// Sends a command to every node with slots, and returns each reply with the name of the node.
    pub(crate) async fn ask_each(
        &self,
        command: &Cmd,
        deadline: Instant,
    ) -> Vec<(String, Result<Value, Failure>)> {
        // Nobody has asked for the slots yet.
        if self.map().members.is_empty()
            && let Err(error) = self.connect().await
        {
            let failed = |seed: &Arc<Member>| (seed.node.name(), Err(Failure::Lost(error.clone())));
            return self.map().seeds.iter().map(failed).collect();
        }
        let members: Vec<_> = self.map().members.values().cloned().collect();
        let answers = members
            .iter()
            .map(async |member| (member.node.name(), member.node.ask(command, deadline).await));
        let mut answers = join_all(answers).await;
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        answers
    }

    /// Returns the names of all nodes with slots.
    pub(crate) async fn names(&self) -> Result<Vec<String>, ConnectError> {
        if self.map().members.is_empty() {
            self.connect().await?;
        }
        Ok(self.map().members.values().map(|member| member.node.name()).collect())
    }

    /// Opens a connection to each node with slots, for the messages that the commands subscribe to.
    pub(crate) async fn listen<L>(
        &self,
        listener: impl Fn() -> L,
        commands: &Pipeline,
    ) -> Result<Vec<Socket>, ConnectError>
    where
        L: Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static,
    {
        if self.map().members.is_empty() {
            self.connect().await?;
        }
        let members: Vec<_> = self.map().members.values().cloned().collect();
        let mut connections = Vec::with_capacity(members.len());
        for member in members {
            connections.push(member.node.listen(listener(), commands).await?);
        }
        Ok(connections)
    }

    /// Sends a command to the node of this name.
    pub(crate) async fn send_to(
        &self,
        name: &str,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        let named = |member: &&Arc<Member>| member.node.name() == name;
        let member = self.map().members.values().find(named).cloned();
        let member = member.ok_or_else(|| {
            let text = format!("the node {name} has left the cluster, or a replica took its place");
            Failure::Lost(ConnectError::new(StoreErrorKind::Unavailable, text))
        })?;
        let answer = member.node.send(command, deadline).await;
        answer.inspect_err(|failure| drop(self.doubt(&member, failure)))
    }
}
