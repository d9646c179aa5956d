use redis::{ServerErrorKind, Value, cmd};
use tokio::time::Instant;

use crate::{
    error::ConnectError,
    server_error::{CLUSTER_DISABLED, is_unknown_command},
    transport::cluster::slot::SLOTS,
    transport::{
        failure::{Failure, is},
        limits::Limits,
        node::Node,
    },
};

/// The host and the port of a node.
pub(crate) type Address = (String, u16);

/// A range of slots with one primary, both bounds included.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Range {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) primary: Address,
}

/// Asks a node for the slot ranges of the cluster (`CLUSTER SLOTS`).
pub(crate) async fn slots(
    node: &Node,
    asked: &Address,
    deadline: Instant,
) -> Result<Vec<Range>, Failure> {
    let mut question = cmd("CLUSTER");
    question.arg("SLOTS");
    Ok(ranges(node.send(&question, deadline).await?, asked))
}

fn ranges(answer: Value, asked: &Address) -> Vec<Range> {
    let Value::Array(answer) = answer else { return Vec::new() };
    let range = |range| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &range[..] else {
            return None;
        };
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = match host {
            Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
            Value::SimpleString(host) => host.clone(),
            _ => String::new(),
        };
        let host = match host.as_str() {
            "?" => return None,
            "" => asked.0.clone(),
            _ => host,
        };
        let primary = (host, u16::try_from(*port).ok()?);
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        (first <= last && last < SLOTS).then_some(Range { first, last, primary })
    };
    answer.into_iter().filter_map(range).collect()
}

/// Converts a failed `CLUSTER SLOTS` into an error that advises what to do.
pub(crate) fn no_slots(failure: Failure, (host, port): &Address, limits: Limits) -> ConnectError {
    let address = format!("{host}:{port}");
    match failure {
        Failure::Redis(error) if error.detail() == Some(CLUSTER_DISABLED) => {
            ConnectError::misconfigured(format!(
                "the server at {address} belongs to no cluster: `RedisConfig::new` is for that"
            ))
        }
        Failure::Redis(error) if is(&error, ServerErrorKind::NoPerm) => {
            ConnectError::misconfigured(format!(
                "the user may not ask the node at {address} for `CLUSTER SLOTS`"
            ))
            .with_source(error)
        }
        Failure::Redis(error) if is_unknown_command(&error) => ConnectError::misconfigured(format!(
            "the server at {address} does not know the command `CLUSTER`: `RedisConfig::new` is for \
             a server without it"
        ))
        .with_source(error),
        Failure::Redis(error) => ConnectError::explain(error, &address),
        Failure::Silence => ConnectError::silent(&address, limits.response),
        Failure::Lost(error) => error,
        Failure::Refused(refused) => {
            ConnectError::new(session_core::StoreErrorKind::Unavailable, refused.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_ranges_are_read_from_the_reply_of_a_node() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, nodes: Vec<Value>| {
            let numbers = [Value::Int(first), Value::Int(last)];
            Value::Array(numbers.into_iter().chain(nodes).collect())
        };
        let answer = Value::Array(vec![
            range(0, 99, vec![node(text("10.0.0.1"), 6379), node(text("10.0.0.2"), 6379)]),
            range(100, 199, vec![node(text(""), 6380)]),
            range(200, 299, vec![node(Value::Nil, 6381)]),
            range(300, 399, vec![node(text("?"), 6382)]),
            range(400, 16_384, vec![node(text("10.0.0.1"), 6379)]),
            Value::Nil,
        ]);
        let read =
            |first, last, host: &str, port| Range { first, last, primary: (host.to_owned(), port) };
        assert_eq!(
            ranges(answer, &("asked".to_owned(), 1)),
            [
                read(0, 99, "10.0.0.1", 6379),
                read(100, 199, "asked", 6380),
                read(200, 299, "asked", 6381)
            ]
        );
    }
}
