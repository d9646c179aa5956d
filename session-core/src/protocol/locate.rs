//! Loads of entries, and the IDs in tombstones.

use std::{sync::Arc, time::Duration};

use super::Protocol;
use crate::{
    Entry, EventKind, Record, SessionId, SessionKey, StoreError, StoreErrorKind, Timestamp,
    Tombstone, Watch, Watched, record::Cause,
};

/// A stored session: its key, its ID, and its record as last read.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) key: SessionKey,
    /// The ID, if this request may know the ID.
    pub(crate) id: Option<SessionId>,
    pub(crate) record: Arc<Record>,
    /// The request's cookie holds this ID, not a former one.
    pub(crate) is_presented: bool,
}

impl Located {
    /// Returns `true` if a renewal may give the session another ID. There is one renewal at a time:
    /// the present ID is fresh enough while the former ID still opens the session.
    pub(crate) fn may_renew(&self, now: Timestamp, grace: Duration) -> bool {
        self.id.is_some() && !self.record.id_use.former_opens(now, grace)
    }
}

/// The content of a key, as the protocol sees it.
pub(super) enum Loaded {
    Entry(Entry),
    Missing,
    Unreadable,
}

impl Protocol {
    /// Loads the entry under a key. An unreadable record is reported.
    pub(super) async fn load(&self, key: &SessionKey) -> Result<Loaded, StoreError> {
        let now = self.now();
        let loaded = (*self.store).load(key, now).await;
        self.judge(key, loaded, now)
    }

    /// Loads the entry under a key as [`load`](Self::load) does, and watches the key.
    pub(super) async fn watch(
        &self,
        key: &SessionKey,
    ) -> Result<(Loaded, Option<Watch>), StoreError> {
        let now = self.now();
        let (loaded, watch) = match (*self.store).watch(key, now).await {
            Ok(Watched { entry, watch }) => (Ok(entry), watch),
            Err(error) => (Err(error), None),
        };
        Ok((self.judge(key, loaded, now)?, watch))
    }

    fn judge(
        &self,
        key: &SessionKey,
        loaded: Result<Option<Entry>, StoreError>,
        now: Timestamp,
    ) -> Result<Loaded, StoreError> {
        match loaded {
            // The protocol checks the deadline too, because a store may return expired entries
            // (I5).
            Ok(Some(entry)) if entry.is_live(now) => Ok(Loaded::Entry(entry)),
            Ok(Some(Entry::Session(record))) => {
                self.report(EventKind::Expired, *key, Some(&record));
                Ok(Loaded::Missing)
            }
            Ok(_) => Ok(Loaded::Missing),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                self.report_corrupt(*key, &error);
                Ok(Loaded::Unreadable)
            }
            Err(error) => Err(error),
        }
    }

    /// Loads the entry under a key. An unreadable record counts as missing.
    pub(crate) async fn load_entry(&self, key: &SessionKey) -> Result<Option<Entry>, StoreError> {
        Ok(match self.load(key).await? {
            Loaded::Entry(entry) => Some(entry),
            Loaded::Missing | Loaded::Unreadable => None,
        })
    }

    /// Loads many keys, in portions, so that other tasks run in between. An inner error stands for
    /// a record that cannot be read.
    pub(super) async fn load_many(
        &self,
        keys: &[SessionKey],
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let now = self.now();
        let mut loaded = Vec::with_capacity(keys.len());
        for keys in keys.chunks(super::CHUNK) {
            let answers = (*self.store).load_many(keys, now).await?;
            for (key, answer) in keys.iter().zip(answers) {
                match answer {
                    Ok(entry) => loaded.push(Ok(entry.filter(|entry| entry.is_live(now)))),
                    Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                        self.report_corrupt(*key, &error);
                        loaded.push(Err(error));
                    }
                    Err(error) => return Err(error),
                }
            }
            yield_now().await;
        }
        Ok(loaded)
    }
}

/// Returns the new ID in a tombstone, unsealed with the former ID.
pub(super) fn unseal(former: Option<&SessionId>, tombstone: &Tombstone) -> Option<SessionId> {
    match &tombstone.cause {
        Cause::Renewed { successor, sealed_id }
        | Cause::Rotated { successor, sealed_id: Some(sealed_id), .. } => {
            sealed_id.unseal(former?, *successor)
        }
        Cause::Rotated { .. } | Cause::Ended => None,
    }
}

/// The pace of a loop over an owner's sessions: other tasks run after each few of them.
///
/// Such a loop keeps its keys in B-trees: a hash table moves all of them when it grows.
#[derive(Default)]
pub(super) struct Pace {
    steps: usize,
}

impl Pace {
    pub(super) async fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(super::CHUNK) {
            yield_now().await;
        }
    }
}

/// Lets other tasks run.
pub(super) async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|context| {
        if has_yielded {
            return std::task::Poll::Ready(());
        }
        has_yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
