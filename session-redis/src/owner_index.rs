use std::slice;

use async_trait::async_trait;
use redis::{Cmd, Value, cmd};
use session_core::{
    Created, Entry, Family, IndexEntry, OwnerIndex, OwnerKey, SessionKey, SessionStore as _,
    StoreError, Timestamp,
};

use crate::{RedisStore, store::unexpected};

#[async_trait]
impl OwnerIndex for RedisStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let script = &self.scripts().enter;
        let mut enter = script.call(self.owner_key(owner), 0);
        add_entry(&mut enter, entry, now);
        match self.connection().run(script, &enter).await? {
            Value::Int(1) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Two commands that are sent together and carried out in their order: the script as a whole, for a
    /// hash that the server does not know would let the second overtake the first. In a cluster, where the
    /// two keys are in different places, one after the other.
    async fn create_entered(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let key = &entry.key;
        let _changing = self.tracking().changing(slice::from_ref(key));
        let mut enter = self.scripts().enter.eval(self.owner_key(owner));
        add_entry(&mut enter, entry, now);
        let create = self.create_command(key, &session, now);
        let (entered, created) = self.connection().write_in_order(enter, create).await?;
        match (entered, created?) {
            (Ok(Value::Int(1)), Value::Okay) => Ok(Created::Created),
            (Ok(Value::Int(1)), Value::Nil) => Ok(Created::Exists),
            (entered, created) => {
                if created == Value::Okay {
                    // Nobody knows its ID, and it ends by itself if this fails too.
                    let _ = self.delete(key, now).await;
                }
                Err(entered.err().unwrap_or_else(unexpected))
            }
        }
    }

    /// Returns immediately, and sends the command from a task of its own.
    async fn leave(
        &self,
        owner: &OwnerKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in entries.chunks(CHUNK) {
            let mut leave = self.scripts().leave.call(self.owner_key(owner), 0);
            leave.arg(now.as_millis());
            for entry in chunk {
                leave.arg(&member(*entry)[..]);
            }
            let (store, owner) = (self.clone(), *owner);
            tokio::spawn(async move {
                if let Err(error) = store.connection().run(&store.scripts().leave, &leave).await {
                    tracing::debug!(
                        target: "session", %owner, %error, "ended sessions left in the index"
                    );
                }
            });
        }
        Ok(())
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        let mut range = cmd("ZRANGEBYSCORE");
        range.arg(self.owner_key(owner)).arg(format!("({}", now.as_millis())).arg("+inf");
        range.arg("WITHSCORES");
        match self.connection().read(&range).await? {
            Value::Array(present) => Ok(entries(present)),
            _ => Err(unexpected()),
        }
    }
}

/// Adds the arguments of the script that enters a session.
fn add_entry(command: &mut Cmd, entry: IndexEntry, now: Timestamp) {
    command.arg(&member(entry)[..]).arg(entry.until.as_millis()).arg(now.as_millis());
}

/// The member of an index that stands for a session: its key and its family.
fn member(entry: IndexEntry) -> [u8; MEMBER_LEN] {
    let mut member = [0; MEMBER_LEN];
    let (key, family) = member.split_at_mut(SessionKey::LEN);
    key.copy_from_slice(entry.key.as_bytes());
    family.copy_from_slice(&entry.family.as_u64().to_be_bytes());
    member
}

/// Reads members and their scores. A member that is none of ours is passed over: it must not keep the
/// sessions of its owner from being revoked.
fn entries(values: Vec<Value>) -> Vec<IndexEntry> {
    // RESP3 answers in pairs, RESP2 in one list.
    let flat = values.into_iter().flat_map(|value| match value {
        Value::Array(pair) => pair,
        value => vec![value],
    });
    let mut values = flat;
    let mut entries = Vec::new();
    while let (Some(member), Some(score)) = (values.next(), values.next()) {
        entries.extend(entry(&member, &score));
    }
    entries
}

fn entry(member: &Value, score: &Value) -> Option<IndexEntry> {
    let Value::BulkString(member) = member else { return None };
    let member: &[u8; MEMBER_LEN] = member.as_slice().try_into().ok()?;
    let (key, family) = member.split_first_chunk::<{ SessionKey::LEN }>()?;
    let millis = match score {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        Value::Double(score) => *score,
        _ => return None,
    };
    Some(IndexEntry {
        key: SessionKey::from_bytes(*key),
        family: Family::from_u64(u64::from_be_bytes(family.try_into().ok()?)),
        until: Timestamp::from_millis(millis_of(millis)),
    })
}

/// A score is a double, which holds every 48-bit integer.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a score is an instant; another number is cut to the nearest one"
)]
fn millis_of(score: f64) -> u64 {
    score as u64
}

const MEMBER_LEN: usize = SessionKey::LEN + 8;

/// The number of commands that are sent together.
pub(crate) const CHUNK: usize = 100;
