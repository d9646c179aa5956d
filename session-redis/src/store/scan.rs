//! A walk over all sessions of a store.

use std::fmt;

use redis::{Value, cmd};
use session_core::{SessionKey, StoreError};

use crate::{RedisStore, error::unexpected};

/// A walk over the keys of all sessions in a store: see [`RedisStore::scan`].
pub struct Scan {
    store: RedisStore,
    /// The servers that are still to be walked, the present one last. `None` before the start.
    servers: Option<Vec<String>>,
    /// The place in the present server.
    cursor: Vec<u8>,
}

impl RedisStore {
    /// Walks over the keys of all sessions, with `SCAN`: for a program of the operator.
    ///
    /// Each step is a short command, so that Redis answers other clients in between. The walk visits
    /// all keys of the database, those of other applications too. On a cluster it visits one node
    /// after the other.
    ///
    /// The walk returns each key that exists from its start to its end, the keys of tombstones too. A
    /// key may come twice. If a failover comes in between, a later walk finds the missing keys.
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
        Scan { store: self.clone(), servers: None, cursor: START.to_vec() }
    }
}

impl Scan {
    /// Returns the next keys, often about 100 and sometimes none. Returns `None` at the end.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if a server does not answer, or forbids `SCAN`. The next call tries
    /// the same step again.
    pub async fn next(&mut self) -> Result<Option<Vec<SessionKey>>, StoreError> {
        let connection = self.store.connection();
        let servers = match &mut self.servers {
            Some(servers) => servers,
            unknown => unknown.insert(connection.server_names().await?),
        };
        let Some(server) = servers.last() else { return Ok(None) };
        let mut scan = cmd("SCAN");
        scan.arg(&self.cursor[..]).arg("MATCH").arg(pattern(self.store.key_prefix()));
        scan.arg("COUNT").arg(PORTION).arg("TYPE").arg("string");
        let Value::Array(answer) = connection.read_from(server, &scan).await? else {
            return Err(unexpected());
        };
        let [Value::BulkString(cursor), Value::Array(keys)] = &answer[..] else {
            return Err(unexpected());
        };
        self.cursor.clone_from(cursor);
        if self.cursor == START {
            servers.pop();
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
        f.debug_struct("Scan").field("servers", &self.servers).finish_non_exhaustive()
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
