//! A walk over all sessions of a store.

use std::fmt;

use redis::{Value, cmd};
use session_core::{SessionKey, StoreError, StoreErrorKind};

use crate::{RedisStore, error::unexpected, transport::SocketId};

/// A walk over the keys of all sessions in a store: see [`RedisStore::scan`].
pub struct Scan {
    store: RedisStore,
    /// The names of the servers that were walked to their end.
    walked: Vec<String>,
    place: Option<Place>,
}

/// The place of a walk.
struct Place {
    /// The name of the server.
    server: String,
    cursor: Vec<u8>,
    /// The connection of the first step. A cursor is valid for one process of Redis, because each
    /// process has a random order of its keys. Over another connection, another process may reply.
    connection: Option<SocketId>,
}

impl RedisStore {
    /// Walks over the keys of all sessions, with `SCAN`: for a program of the operator.
    ///
    /// Each step is a short command, so that Redis answers other clients in between. The walk visits
    /// all keys of the database, those of other applications too. On a cluster it visits one node
    /// after the other.
    ///
    /// The walk returns each key that exists from its start to its end, the keys of tombstones too. A
    /// key may come twice. If the connection to a server is lost, the walk fails, and a new walk must
    /// begin. If a node of the cluster is replaced, the walk continues at the node that took its
    /// place. If a failover or the move of a slot comes in between, a later walk finds the missing
    /// keys.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_redis::RedisStore;
    ///
    /// # async fn example(store: RedisStore) -> Result<(), session_core::StoreError> {
    /// let mut scan = store.scan();
    /// while let Some(keys) = scan.next().await? {
    ///     println!("{} keys", keys.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scan(&self) -> Scan {
        Scan { store: self.clone(), walked: Vec::new(), place: None }
    }
}

impl Scan {
    /// Returns the next keys, often about 100 and sometimes none. Returns `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if a server does not answer, or forbids `SCAN`. The next call tries
    /// the same step again. If the connection to the server was lost since the first step, each call
    /// returns an error of the kind [`Unavailable`](StoreErrorKind::Unavailable).
    pub async fn next(&mut self) -> Result<Option<Vec<SessionKey>>, StoreError> {
        let connection = self.store.connection();
        let place = match &mut self.place {
            Some(place) => place,
            none => {
                // Asked after each server, because another node may have taken its place.
                let servers = connection.servers().await?;
                let next = servers.into_iter().find(|server| !self.walked.contains(server));
                let Some(server) = next else { return Ok(None) };
                none.insert(Place { server, cursor: START.to_vec(), connection: None })
            }
        };
        let mut scan = cmd("SCAN");
        scan.arg(&place.cursor[..]).arg("MATCH").arg(pattern(self.store.key_prefix()));
        scan.arg("COUNT").arg(PORTION).arg("TYPE").arg("string");
        let Some((answer, over)) = connection.read_from(&place.server, &scan).await? else {
            self.place = None;
            return Ok(Some(Vec::new()));
        };
        if *place.connection.get_or_insert_with(|| over.clone()) != over {
            return Err(StoreError::new(StoreErrorKind::Unavailable).with_source(INTERRUPTED));
        }
        let Value::Array(answer) = answer else { return Err(unexpected()) };
        let [Value::BulkString(cursor), Value::Array(keys)] = &answer[..] else {
            return Err(unexpected());
        };
        place.cursor.clone_from(cursor);
        if place.cursor == START {
            self.walked.extend(self.place.take().map(|place| place.server));
        }
        let key = |key: &Value| match key {
            Value::BulkString(key) => self.store.session_key(key),
            _ => None,
        };
        Ok(Some(keys.iter().filter_map(key).collect()))
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan")
            .field("server", &self.place.as_ref().map(|place| &place.server))
            .finish_non_exhaustive()
    }
}

/// Returns the pattern of all keys with a prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

const INTERRUPTED: &str =
    "the connection was lost during a walk over the sessions: begin another walk";

/// The cursor of the first step, and the answer of the last.
const START: &[u8] = b"0";

/// The number of keys that Redis looks at in one step.
const PORTION: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_is_matched_literally() {
        assert_eq!(pattern("shop:s:"), "shop:s:*");
        assert_eq!(pattern(r"a*b?[c]\^-"), r"a\*b\?\[c\]\\\^-*");
    }
}
