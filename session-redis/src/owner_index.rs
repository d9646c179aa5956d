use std::slice;

use async_trait::async_trait;
use redis::{Cmd, Value, cmd};
use session_core::{
    Admission, Admitted, Created, Ended, Entry, OwnerIndex, OwnerKey, SessionKey,
    SessionStore as _, StoreError, Timestamp,
};

use crate::{
    RedisStore,
    store::{time_to_live_ms, unexpected},
};

#[async_trait]
impl OwnerIndex for RedisStore {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let script = &self.scripts().enter;
        let mut enter = script.call(self.owner_key(owner), 0);
        entry(&mut enter, key, until, now);
        match self.connection().run(script, &enter).await? {
            Value::Int(1) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        let script = &self.scripts().admit;
        let mut admit = script.call(self.owner_key(owner), 0);
        entry(&mut admit, key, until, now);
        let Admission { max, replaces, pairs, ended } = *admission;
        admit.arg(max.get()).arg(replaces.len()).arg(pairs.len());
        let paired = pairs.iter().flat_map(|(former, key)| [former, key]);
        for named in replaces.iter().chain(paired).chain(ended) {
            text(&mut admit, named);
        }
        match self.connection().run(script, &admit).await? {
            Value::Int(1) => Ok(Admitted::Admitted),
            Value::Array(present) => Ok(Admitted::Full(keys(present)?)),
            _ => Err(unexpected()),
        }
    }

    /// Two commands that are sent together and carried out in their order: the script as a whole, for a
    /// hash that the server does not know would let the second overtake the first. In a cluster, where the
    /// two keys are in different places, one after the other.
    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        record: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let _changing = self.tracking().changing(slice::from_ref(key));
        let mut enter = self.scripts().enter.eval(self.owner_key(owner));
        entry(&mut enter, key, until, now);
        let create = self.create_command(key, &record, now);
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

    /// Answers at once, and leaves the command to itself.
    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in keys.chunks(CHUNK) {
            let mut leave = self.scripts().leave.call(self.owner_key(owner), 0);
            leave.arg(now.as_millis());
            for key in chunk {
                text(&mut leave, key);
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
    ) -> Result<Vec<SessionKey>, StoreError> {
        let mut entries = cmd("ZRANGEBYSCORE");
        entries.arg(self.owner_key(owner)).arg(format!("({}", now.as_millis())).arg("+inf");
        match self.connection().read(&entries).await? {
            Value::Array(present) => keys(present),
            _ => Err(unexpected()),
        }
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut loaded = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let loads = chunk.iter().map(|key| self.get_command(key)).collect();
            for answer in self.connection().read_all(loads).await? {
                loaded.push(match answer {
                    Ok(Value::BulkString(bytes)) => Entry::decode(bytes)
                        .map(|entry| Some(entry).filter(|entry| entry.is_live(now))),
                    Ok(Value::Nil) => Ok(None),
                    Ok(_) => Err(unexpected()),
                    Err(error) => Err(error),
                });
            }
        }
        if loaded.len() == keys.len() { Ok(loaded) } else { Err(unexpected()) }
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let _changing = self.tracking().changing(keys);
        let script = &self.scripts().end;
        let (bytes, time_to_live) = (marker.encode(), time_to_live_ms(&marker, now));
        let mut ended = Vec::with_capacity(keys.len());
        let mut failure = None;
        for chunk in keys.chunks(CHUNK) {
            let end = |key| {
                let mut end = script.call(self.redis_key(key), bytes.len());
                end.arg(&bytes).arg(time_to_live).arg(now.as_millis());
                end
            };
            let ends = chunk.iter().map(end).collect();
            for answer in self.revoke_all(script, ends).await? {
                match answer.and_then(answer_of_end) {
                    Ok(answer) => ended.push(answer),
                    // Told when the others were tried.
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None if ended.len() == keys.len() => Ok(ended),
            None => Err(unexpected()),
        }
    }
}

fn answer_of_end(answer: Value) -> Result<Ended, StoreError> {
    match answer {
        Value::Int(1) => Ok(Ended::Session),
        Value::Nil => Ok(Ended::Barred),
        Value::BulkString(bytes) => match Entry::decode(bytes)? {
            Entry::Moved(tombstone) => Ok(Ended::Moved(tombstone)),
            Entry::Live(_) => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

/// Adds what every entry has.
fn entry(command: &mut Cmd, key: &SessionKey, until: Timestamp, now: Timestamp) {
    text(command, key);
    command.arg(until.as_millis()).arg(now.as_millis());
}

fn text(command: &mut Cmd, key: &SessionKey) {
    key.with_text(|text| {
        command.arg(text);
    });
}

fn keys(values: Vec<Value>) -> Result<Vec<SessionKey>, StoreError> {
    let key = |value| match value {
        Value::BulkString(text) => std::str::from_utf8(&text).ok().and_then(SessionKey::parse),
        _ => None,
    };
    values.into_iter().map(|value| key(value).ok_or_else(unexpected)).collect()
}

/// How many commands are sent together.
const CHUNK: usize = 100;
