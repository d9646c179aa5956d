use std::time::Duration;

use serde_json::json;
use session_core::{
    Clock as _, Entry, Record, SessionKey, SessionStore as _, StoreErrorKind, SystemClock,
};
use session_redis::Changes;
use tokio::time::sleep;

use crate::{
    command::Program,
    failure::Failure,
    output::{escaped, owner_json, time, users},
};

impl Program {
    /// Prints the changes of all sessions until the program is ended.
    pub(crate) async fn watch(&self) -> Result<(), Failure> {
        let mut changes = self.store.changes().await?;
        eprintln!("watching the sessions with the prefix {}", escaped(self.prefix.as_bytes()));
        loop {
            let mut lost = 0;
            while let Some(key) = changes.next().await {
                if changes.lost() > lost {
                    lost = changes.lost();
                    eprintln!("warning: too many changes, {lost} are left out");
                }
                self.print_change(key).await?;
            }
            eprintln!(
                "warning: changes are missed, of the last 10 seconds too: a connection was lost or \
                 silent, another server holds sessions now, or Redis was emptied"
            );
            changes = self.subscribe_again().await;
            eprintln!("watching again");
        }
    }

    async fn subscribe_again(&self) -> Changes {
        loop {
            match self.store.changes().await {
                Ok(changes) => return changes,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Prints the state of a session that has changed.
    async fn print_change(&self, key: SessionKey) -> Result<(), Failure> {
        let now = SystemClock.now();
        let (event, session, present_key) = match self.store.load(&key, now).await {
            Ok(None) => ("ended", None, None),
            Ok(Some(Entry::Tombstone(tombstone))) => match tombstone.successor() {
                None => ("ended", None, None),
                Some(successor) => ("moved", None, Some(successor)),
            },
            Ok(Some(Entry::Session(record))) => (event(&record), Some(record), None),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => ("unreadable", None, None),
            Err(error) => {
                eprintln!("warning: the change of {key} is not known: {error}");
                return Ok(());
            }
        };
        let session = session.as_deref();
        let (owner, actor) = (session.and_then(Record::owner), session.and_then(Record::actor));
        let at = time(now);
        let json = json!({
            "at": at,
            "event": event,
            "key": key,
            "present_key": present_key,
            "owner": owner.map(owner_json),
            "actor": actor.map(owner_json),
        });
        self.output.print(&json, || {
            let to = present_key.map(|key| format!("  to {key}")).unwrap_or_default();
            format!("{at}  {event:<10}  {key}{to}{}", users(owner, actor))
        })?;
        Ok(())
    }
}

fn event(record: &Record) -> &'static str {
    let is_new =
        record.revision().as_u64() <= FIRST && record.last_seen_at() == record.created_at();
    if is_new { "created" } else { "changed" }
}

/// The revision of a session that was stored once.
const FIRST: u64 = 1;

/// The time between two attempts to subscribe again.
const PAUSE: Duration = Duration::from_secs(1);
