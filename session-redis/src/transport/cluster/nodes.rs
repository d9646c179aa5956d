use std::{convert::Infallible, sync::Arc};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, PushInfo, Value};
use tokio::time::Instant;

use super::{Cluster, Member};
use crate::{
    error::ConnectError,
    transport::{
        failure::Failure,
        node::ServerAddress,
        socket::{Socket, SocketId},
    },
};

impl Cluster {
    /// Sends a command to every node with slots, and returns each reply with the name of the node.
    pub(crate) async fn ask_each(
        &self,
        command: &Cmd,
        deadline: Instant,
    ) -> Vec<(String, Result<Value, Failure>)> {
        // The client has not asked for the slots yet.
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

    /// Returns the addresses of all nodes with slots, after a refresh of the slot map.
    pub(crate) async fn addresses(&self) -> Result<Vec<String>, ConnectError> {
        let members = self.present_members().await?;
        Ok(members.iter().map(|member| member.node.name()).collect())
    }

    /// Opens a connection to each node with slots, for the messages that the commands subscribe to.
    /// Returns each connection with the address of the node, after a refresh of the slot map.
    pub(crate) async fn listen<L>(
        &self,
        listener: impl Fn() -> L,
        commands: &Pipeline,
    ) -> Result<Vec<(ServerAddress, Socket)>, ConnectError>
    where
        L: Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static,
    {
        let mut connections = Vec::new();
        for member in self.present_members().await? {
            connections.push(member.node.listen(listener(), commands).await?);
        }
        Ok(connections)
    }

    /// Sends a command to the node of this name, and returns the reply with the connection.
    /// Returns `None` if the cluster has no such node with slots: the node has left, or a replica
    /// took its place.
    pub(crate) async fn send_to(
        &self,
        name: &str,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Option<(Value, SocketId)>, Failure> {
        let is_there = |member: &&Arc<Member>| member.node.name() == name;
        let Some(member) = self.map().members.values().find(is_there).cloned() else {
            return Ok(None);
        };
        let answer = member.node.send_over(command, deadline).await;
        answer.inspect_err(|failure| drop(self.refresh_after(failure, &member))).map(Some)
    }

    /// Returns the nodes with slots, after a refresh of the slot map. Commands refresh the map only
    /// when they fail, so an idle client may know nodes that have died, and none that have joined.
    async fn present_members(&self) -> Result<Vec<Arc<Member>>, ConnectError> {
        if self.map().members.is_empty() {
            self.connect().await?;
        } else if let Some(mut news) = self.begin_refresh(None) {
            // The sender closes the channel, without a value.
            let _ = news.changed().await;
        }
        Ok(self.map().members.values().cloned().collect())
    }
}
