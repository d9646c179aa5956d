use std::{collections::HashMap, sync::Arc};

use futures_util::future::join_all;
use redis::{Cmd, Pipeline, ServerErrorKind, Value, cmd};
use session_core::StoreErrorKind;
use tokio::time::Instant;

use super::{Cluster, Member, slot::slot_of, topology::Address};
use crate::{
    error::ConnectError,
    metrics,
    near_cache::ReadOrigin,
    transport::{
        Script,
        failure::{Failure, is},
    },
};

impl Cluster {
    /// Sends a command to the node that owns the slot of its key, and follows redirections.
    async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
        self.send_seen(command, deadline, &mut ReadOrigin::default()).await
    }

    /// Sends a command as [`send`](Self::send) does, and records the connection of a read in
    /// `seen`.
    pub(crate) async fn send_seen(
        &self,
        command: &Cmd,
        deadline: Instant,
        seen: &mut ReadOrigin,
    ) -> Result<Value, Failure> {
        let slot = slot_of(command);
        let mut member = self.find_owner(slot, deadline).await?;
        let mut asking = false;
        let mut may_wait = true;
        for _ in 0..MAX_REDIRECTIONS {
            let answer = if asking {
                // The record must not be cached: the key may leave this node again before the node
                // owns the slot.
                *seen = ReadOrigin::default();
                ask(&member, command, deadline).await
            } else {
                member.node.send_seen(command, deadline, seen).await
            };
            let failure = match answer {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            match redirection(&failure, &member) {
                Some((false, to)) => {
                    metrics::retried(failure.error_type());
                    member = self.moved(slot, &member, to)?;
                    asking = false;
                }
                Some((true, to)) => {
                    metrics::retried(failure.error_type());
                    member = self.member(to)?;
                    asking = true;
                }
                None => {
                    let news = self.refresh_after(&failure, &member);
                    // The command was not sent. By now another node may own the slot.
                    if let Some(mut news) = news.filter(|_| failure.was_not_sent() && may_wait) {
                        may_wait = false;
                        // The sender closes the channel, without a value.
                        let _ = tokio::time::timeout_at(deadline, news.changed()).await;
                        let owner = self.find_owner(slot, deadline).await?;
                        if owner.address != member.address {
                            metrics::retried(failure.error_type());
                            member = owner;
                            continue;
                        }
                    }
                    return Err(failure);
                }
            }
        }
        Err(Failure::Lost(ConnectError::new(
            StoreErrorKind::Unavailable,
            "the nodes of the cluster refer to each other in circles",
        )))
    }

    /// Sends many commands, in one pipeline per node and in their order, and returns one reply per
    /// command. A command is sent again if a node redirected the command, or if `again` returns
    /// `true` for the failure.
    pub(crate) async fn send_all(
        &self,
        commands: Vec<Cmd>,
        deadline: Instant,
        again: impl Fn(&Failure) -> bool,
    ) -> Vec<Result<Value, Failure>> {
        let mut answers: Vec<Option<Result<Value, Failure>>> = vec![None; commands.len()];
        let mut groups: HashMap<Address, (Arc<Member>, Vec<usize>)> = HashMap::new();
        for (number, command) in commands.iter().enumerate() {
            match self.find_owner(slot_of(command), deadline).await {
                Ok(member) => groups
                    .entry(member.address.clone())
                    .or_insert_with(|| (member, Vec::new()))
                    .1
                    .push(number),
                Err(failure) => answers[number] = Some(Err(failure)),
            }
        }
        let sent = groups.into_values().map(async |(member, numbers)| {
            let mut together = Pipeline::with_capacity(numbers.len());
            for number in &numbers {
                together.add_command(commands[*number].clone());
            }
            let answers = member.node.send_all(&together, deadline).await;
            (member, numbers, answers)
        });
        let mut repeated = Vec::new();
        for (member, numbers, sent) in join_all(sent).await {
            let sent: Vec<Result<Value, Failure>> = match sent {
                Ok(sent) => sent.into_iter().map(|answer| answer.map_err(Failure::Redis)).collect(),
                Err(failure) => vec![Err(failure); numbers.len()],
            };
            for (number, answer) in numbers.into_iter().zip(sent) {
                if let Err(failure) = &answer {
                    if redirection(failure, &member).is_some() || again(failure) {
                        metrics::retried(failure.error_type());
                        repeated.push(number);
                        continue;
                    }
                    self.refresh_after(failure, &member);
                }
                answers[number] = Some(answer);
            }
        }
        let sent = repeated.iter().map(|number| self.send(&commands[*number], deadline));
        for (number, answer) in repeated.iter().zip(join_all(sent).await) {
            answers[*number] = Some(answer);
        }
        answers.into_iter().map(|answer| answer.unwrap_or(Err(Failure::Silence))).collect()
    }

    /// Calls a script on many keys. If a call fails because the node does not know the script, the
    /// call is repeated with the code.
    pub(crate) async fn run_all(
        &self,
        script: &Script,
        calls: Vec<Cmd>,
        deadline: Instant,
    ) -> Vec<Result<Value, Failure>> {
        let mut answers = self.send_all(calls.clone(), deadline, |_| false).await;
        let unknown = |answer: &Result<Value, Failure>| matches!(answer, Err(failure) if failure.is(ServerErrorKind::NoScript));
        let again: Vec<usize> = (0..answers.len()).filter(|at| unknown(&answers[*at])).collect();
        again.iter().for_each(|_| metrics::retried("NOSCRIPT"));
        let with_code = again.iter().map(|at| script.with_code(&calls[*at])).collect();
        let repeated = self.send_all(with_code, deadline, |_| false).await;
        for (at, answer) in again.into_iter().zip(repeated) {
            answers[at] = answer;
        }
        answers
    }
}

/// Sends a command to a node that is importing the slot. `ASKING` and the command form one
/// pipeline, because other requests share the connection.
async fn ask(member: &Member, command: &Cmd, deadline: Instant) -> Result<Value, Failure> {
    let mut both = Pipeline::with_capacity(2);
    both.add_command(cmd("ASKING")).add_command(command.clone());
    let answers = member.node.send_all(&both, deadline).await?;
    let answer = answers.into_iter().nth(1);
    answer.unwrap_or(Ok(Value::Nil)).map_err(Failure::Redis)
}

/// Returns whether a redirection is for this command only (`ASK`), and the node to send the command
/// to.
fn redirection(failure: &Failure, from: &Member) -> Option<(bool, Address)> {
    let Failure::Redis(error) = failure else { return None };
    let once = is(error, ServerErrorKind::Ask);
    if !once && !is(error, ServerErrorKind::Moved) {
        return None;
    }
    let (place, _) = error.redirect_node()?;
    let (host, port) = place.rsplit_once(':')?;
    // The host is empty if the node does not know the address that clients use, and `?` if the node
    // should announce a host name but has none. The host of the redirecting node then applies.
    let host = if matches!(host, "" | "?") { &from.address.0 } else { host };
    Some((once, (host.to_owned(), port.parse().ok()?)))
}

/// The most attempts to send one command: to the wrong node, to the owner, to the node that imports
/// the slot, and again if the slot moves meanwhile.
const MAX_REDIRECTIONS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedisConfig, tracking::Tracking};

    #[tokio::test]
    async fn redirection_without_a_host_leads_to_the_same_host() {
        let config = RedisConfig::new("redis://host");
        let urls = ["redis://asked:1".to_owned()];
        let cluster = Cluster::new(&config, &urls, Tracking::default()).unwrap();
        let member = cluster.member_in(&mut cluster.map(), ("asked".to_owned(), 1)).unwrap();
        for (answer, to) in [
            ("-MOVED 5 ?:7\r\n", (false, ("asked".to_owned(), 7))),
            ("-ASK 5 :7\r\n", (true, ("asked".to_owned(), 7))),
            ("-MOVED 5 other:7\r\n", (false, ("other".to_owned(), 7))),
        ] {
            let error = redis::parse_redis_value(answer.as_bytes()).unwrap().extract_error();
            let redirection = redirection(&Failure::Redis(error.unwrap_err()), &member);
            assert_eq!(redirection, Some(to), "{answer}");
        }
    }
}
