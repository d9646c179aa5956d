use std::slice;

use redis::{Cmd, Value, cmd};
use session_core::{
    Created, Entry, Family, IndexEntry, IndexKey, SessionIndex, SessionKey, SessionStore as _,
    StoreError, Timestamp, async_trait,
};

use crate::{RedisStore, error::unexpected};

#[async_trait]
impl SessionIndex for RedisStore {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let script = &self.scripts().enter;
        let mut enter = script.call(self.index_key(index), 0);
        add_entry(&mut enter, entry, now);
        match self.connection().run(script, &enter).await? {
            Value::Int(1) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Sends the commands together, in order. Each `enter` is an `EVAL` with the complete script: an
    /// `EVALSHA` of an unknown script would fail, and its repetition would come after the last
    /// command. In a cluster, where the keys may be on different nodes, each command follows the
    /// reply to the one before.
    async fn create_entered(
        &self,
        indexes: &[IndexKey],
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let key = &entry.key;
        let _changing = self.tracking().changing(slice::from_ref(key));
        let enter = |index| {
            let mut enter = self.scripts().enter.eval(self.index_key(index));
            add_entry(&mut enter, entry, now);
            enter
        };
        let mut commands: Vec<_> = indexes.iter().map(enter).collect();
        commands.push(self.create_command(key, &session, now));
        let mut answers = self.connection().write_in_order(commands).await?;
        let created = answers.pop().ok_or_else(unexpected)??;
        let failed = answers.into_iter().find(|entered| !matches!(entered, Ok(Value::Int(1))));
        match (failed, created) {
            (None, Value::Okay) => Ok(Created::Created),
            (None, Value::Nil) => Ok(Created::Exists),
            (failed, created) => {
                if created == Value::Okay {
                    // No client knows the ID. If this deletion fails too, the session expires.
                    let _ = self.delete(key, now).await;
                }
                Err(failed.and_then(Result::err).unwrap_or_else(unexpected))
            }
        }
    }

    /// Returns immediately. A separate task sends the command.
    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in entries.chunks(CHUNK) {
            self.spawn_leave(index, chunk.iter().map(|entry| member(*entry)), now);
        }
        Ok(())
    }

    /// A member of an unknown format must not prevent the revocation of the other sessions.
    /// Such a member is skipped, and removed as by [`leave`](Self::leave).
    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        let mut range = cmd("ZRANGEBYSCORE");
        range.arg(self.index_key(index)).arg(format!("({}", now.as_millis())).arg("+inf");
        range.arg("WITHSCORES");
        let Value::Array(values) = self.connection().read(&range).await? else {
            return Err(unexpected());
        };
        let Members { entries, foreign } = Members::read(values)?;
        if !foreign.is_empty() {
            tracing::warn!(
                target: "session",
                %index,
                count = foreign.len(),
                "an index held members that are no sessions: they are removed"
            );
        }
        for chunk in foreign.chunks(CHUNK) {
            self.spawn_leave(index, chunk, now);
        }
        Ok(entries)
    }
}

impl RedisStore {
    /// Removes members from an index, in a separate task.
    fn spawn_leave(
        &self,
        index: &IndexKey,
        members: impl IntoIterator<Item: AsRef<[u8]>>,
        now: Timestamp,
    ) {
        let mut leave = self.scripts().leave.call(self.index_key(index), 0);
        leave.arg(now.as_millis());
        for member in members {
            leave.arg(member.as_ref());
        }
        let (store, index) = (self.clone(), *index);
        tokio::spawn(async move {
            if let Err(error) = store.connection().run(&store.scripts().leave, &leave).await {
                tracing::debug!(
                    target: "session", %index, %error, "ended sessions left in the index"
                );
            }
        });
    }
}

/// Adds the arguments of the script `enter`.
fn add_entry(command: &mut Cmd, entry: IndexEntry, now: Timestamp) {
    command.arg(&member(entry)[..]).arg(entry.until.as_millis()).arg(now.as_millis());
}

/// The members of an index.
#[derive(Debug, Default, PartialEq)]
struct Members {
    entries: Vec<IndexEntry>,
    /// Members of another length, which this crate has not written.
    foreign: Vec<Vec<u8>>,
}

impl Members {
    /// Reads members with their scores: pairs by RESP3, one after the other by RESP2.
    fn read(values: Vec<Value>) -> Result<Self, StoreError> {
        let mut values = values.into_iter().flat_map(|value| match value {
            Value::Array(pair) => pair,
            value => vec![value],
        });
        let mut members = Self::default();
        while let Some(member) = values.next() {
            let Value::BulkString(member) = member else { return Err(unexpected()) };
            let until = values.next().as_ref().and_then(instant).ok_or_else(unexpected)?;
            match entry(&member, until) {
                Some(entry) => members.entries.push(entry),
                None => members.foreign.push(member),
            }
        }
        Ok(members)
    }
}

/// Returns the member for an entry: the session key, then the family as a big-endian number.
fn member(entry: IndexEntry) -> [u8; MEMBER_LEN] {
    let mut member = [0; MEMBER_LEN];
    let (key, family) = member.split_at_mut(SessionKey::LEN);
    key.copy_from_slice(entry.key.as_bytes());
    family.copy_from_slice(&entry.family.as_u64().to_be_bytes());
    member
}

/// Returns the entry for a member, or `None` if the member has another length.
fn entry(member: &[u8], until: Timestamp) -> Option<IndexEntry> {
    let (key, family) = member.split_first_chunk()?;
    let family = Family::from_u64(u64::from_be_bytes(family.try_into().ok()?));
    Some(IndexEntry::new(SessionKey::from_bytes(*key), family, until))
}

/// Returns the instant for a score. A score is a double, which represents every 48-bit integer
/// exactly.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a score that is no instant becomes the nearest one"
)]
fn instant(score: &Value) -> Option<Timestamp> {
    let millis: f64 = match score {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        Value::Double(millis) => *millis,
        _ => return None,
    };
    Some(Timestamp::from_millis(millis as u64))
}

const MEMBER_LEN: usize = SessionKey::LEN + 8;

/// The maximal number of commands that are sent together.
pub(crate) const CHUNK: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of(number: u8, until: Timestamp) -> IndexEntry {
        let key = SessionKey::from_bytes([number; SessionKey::LEN]);
        let family = Family::from_u64(0x0102_0304_0506_0700 | u64::from(number));
        IndexEntry::new(key, family, until)
    }

    fn bulk(bytes: impl AsRef<[u8]>) -> Value {
        Value::BulkString(bytes.as_ref().to_vec())
    }

    #[test]
    fn member_is_the_key_then_the_family() {
        let member = member(entry_of(9, Timestamp::MAX));
        assert_eq!(member[..16], [9; 16]);
        assert_eq!(member[16..], [1, 2, 3, 4, 5, 6, 7, 9]);
    }

    #[test]
    fn entries_are_read_back_by_either_protocol() {
        let entries = [
            entry_of(1, Timestamp::from_millis(1_700_000_000_001)),
            entry_of(2, Timestamp::from_millis(0)),
            entry_of(3, Timestamp::MAX),
        ];
        let mut flat = Vec::new();
        let mut pairs = Vec::new();
        for entry in entries {
            let millis = entry.until.as_millis();
            flat.extend([bulk(member(entry)), bulk(millis.to_string())]);
            #[expect(clippy::cast_precision_loss, reason = "48 bits fit")]
            pairs.push(Value::Array(vec![bulk(member(entry)), Value::Double(millis as f64)]));
        }
        let expected = Members { entries: entries.to_vec(), foreign: Vec::new() };
        for values in [flat, pairs] {
            assert_eq!(Members::read(values).unwrap(), expected);
        }
    }

    #[test]
    fn members_of_another_length_are_set_apart() {
        let entry = entry_of(1, Timestamp::from_millis(5));
        let foreign = [&b""[..], &[7; 16], &[7; 23], &[7; 25], b"AAAAAAAAAAAAAAAAAAAAAA"];
        let mut values = Vec::new();
        for foreign in foreign {
            values.extend([bulk(foreign), bulk("inf"), bulk(member(entry)), bulk("5")]);
        }
        let members = Members::read(values).unwrap();
        assert_eq!(members.entries, [entry; 5]);
        assert_eq!(members.foreign, foreign);
    }

    /// Skipping a member here could hide a session from a revocation.
    #[test]
    fn answer_unlike_redis_is_an_error() {
        let member = || bulk(member(entry_of(1, Timestamp::MAX)));
        for values in [
            vec![member()],
            vec![member(), bulk("soon")],
            vec![member(), Value::Int(5)],
            vec![Value::Int(5), bulk("5")],
        ] {
            assert!(Members::read(values.clone()).is_err(), "{values:?}");
        }
    }

    #[test]
    fn score_that_is_no_instant_becomes_the_nearest_one() {
        for (score, millis) in [("-inf", 0), ("-3", 0), ("1.5", 1), ("inf", u64::MAX)] {
            assert_eq!(instant(&bulk(score)), Some(Timestamp::from_millis(millis)), "{score}");
        }
    }
}
