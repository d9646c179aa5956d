//! The interface of a backend: a place for records, and indexes of sessions.
//!
//! The enums of answers are exhaustive: a store around another store handles every answer.

mod forward;
mod local_reads;
mod session_index;
mod watch;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    Entry, Nonce, Record, Revision, SessionKey, StoreError, StoreErrorKind, Timestamp, Tombstone,
};

pub use {
    local_reads::LocalReads,
    session_index::{IndexEntry, SessionIndex},
    watch::{Watch, WatchOutcome, Watched, Watchers},
};

/// A store of sessions.
///
/// A store needs five verbs, each atomic on its own key. None of them is an upsert (insert or
/// update), so a session that ended stays ended. Each verb receives the time, so a store needs no
/// clock. An entry whose [`Entry::expires_at`] is not after `now` has expired. It counts as
/// missing, even if the store still holds it. A store should remove an expired entry some time
/// later.
///
/// The other verbs are loops over these five. A backend overrides them if it has a faster way.
///
/// The trait is async by the macro `session_core::async_trait`. An implementation uses the same
/// macro.
///
/// A suite of tests states the contract, and every store runs it:
#[cfg_attr(feature = "conformance", doc = "the [conformance suite](super::conformance).")]
#[cfg_attr(not(feature = "conformance"), doc = "the conformance suite (feature `conformance`).")]
/// `examples/map_store/store.rs` is the shortest store to pass, and
/// `examples/sqlite_store/store.rs` is a store on SQL.
///
/// # Errors
///
/// A [`StoreError`] is a fault of the system; missing and expired are answers. A store must return
/// [`Timeout`](StoreErrorKind::Timeout) whenever it cannot know whether the operation was carried
/// out. Then the store must not repeat a `create` or `commit` itself: the protocol repeats the
/// verb, and recognizes its own commit by the nonce.
///
/// The protocol repeats an operation immediately. If many requests share a connection, a store can
/// lose all of their answers together. Such a store should return each error after a short random
/// pause (jitter).
///
/// # Cancel safety
///
/// If a verb's future is dropped, the operation is carried out as a whole, or not at all.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Stores an entry under an empty key: a key without an entry.
    ///
    /// An expired entry may count as present until the store removes it.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError>;

    /// Returns the entry under a key, without changing it. Never answers from [local
    /// reads](Self::local_reads).
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). Returns [`Corrupt`](StoreErrorKind::Corrupt) if the bytes are
    /// not a record.
    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// Replaces a session, if it is still the expected one (compare-and-swap).
    ///
    /// A tombstone is never replaced, whatever its revision. An expired session is not replaced
    /// either. Before [`Expected::expires_at`], a store may skip the check of the deadline.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError>;

    /// Records a use of the session at `now`, and so moves its idle deadline.
    ///
    /// Values and revision stay, so a touch never makes a commit conflict. The recorded use never
    /// moves back in time.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError>;

    /// Deletes the session under a key and returns the entry. Deleting under an empty key succeeds.
    ///
    /// A tombstone is returned and stays until it expires, so a repeated `delete` finds the
    /// session's new key again. Unreadable bytes are deleted, and `None` is returned. A `delete`
    /// must succeed on a full store.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// [Loads](Self::load) many keys, and returns the answers in the order of the keys. An
    /// unreadable record is the error of its own key only.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        load_each(self, keys, now).await
    }

    /// Deletes the session under each key, and blocks each empty key, in their order.
    ///
    /// | entry before | entry after | answer |
    /// | --- | --- | --- |
    /// | a session, readable or not | none | [`Ended::Session`], with the record if readable |
    /// | a tombstone | the same | [`Ended::Tombstone`] |
    /// | none, or an expired one | `marker` | [`Ended::Blocked`] |
    ///
    /// An index may hold a key whose creation is under way. `marker`, a tombstone, makes the
    /// creation fail.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). A failure for one key must not keep the sessions under the
    /// other keys alive. On a full server, for example, a marker cannot be stored, but every
    /// session can be deleted.
    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = Entry::Tombstone(marker.into());
        let mut answers = Vec::with_capacity(keys.len());
        let mut failure = None;
        for key in keys {
            match delete_or_block(self, key, &marker, now).await {
                Ok(answer) => answers.push(answer),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(answers), Err)
    }

    /// Checks that the store answers, for the readiness of a server:
    /// [`Sessions::ping`](crate::Sessions::ping). Changes nothing.
    ///
    /// By default the check is a [load](Self::load) of a key without an entry.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn ping(&self, now: Timestamp) -> Result<(), StoreError> {
        self.load(&NO_SESSION, now).await.map(drop)
    }

    /// Returns the store's local reads. Returns `None` if every read needs I/O.
    fn local_reads(&self) -> Option<&dyn LocalReads> {
        None
    }

    /// [Loads](Self::load) the entry under a key and watches the key from then on, for a
    /// [`Live`](crate::Live) connection. The default body only loads.
    ///
    /// Each later commit and each later deletion of a session under the key completes the
    /// [`Watch`], in whatever process it happens. A touch may complete the watch, and so may a false
    /// report: repeated ones at most double the loads of a connection in the long run. The
    /// caller loads again after one [interval](crate::SessionsBuilder::with_live_interval), so a lost
    /// report only delays the news. A store keeps its watches in [`Watchers`].
    ///
    /// # Errors
    ///
    /// The errors of [`load`](Self::load).
    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        Ok(Watched { entry: self.load(key, now).await?, watch: None })
    }
}

/// Loads one key after the other.
pub(crate) async fn load_each<S: SessionStore + ?Sized>(
    store: &S,
    keys: &[SessionKey],
    now: Timestamp,
) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        match store.load(key, now).await {
            Err(error) if error.kind() != StoreErrorKind::Corrupt => return Err(error),
            answer => answers.push(answer),
        }
    }
    Ok(answers)
}

/// Deletes before blocking, because only a deletion succeeds on a full store.
async fn delete_or_block<S: SessionStore + ?Sized>(
    store: &S,
    key: &SessionKey,
    marker: &Entry,
    now: Timestamp,
) -> Result<Ended, StoreError> {
    for _ in 0..MAX_RACES {
        match store.load(key, now).await {
            Ok(None) => match store.create(key, marker.clone(), now).await? {
                Created::Created => return Ok(Ended::Blocked),
                // An expired entry occupies the key, or another request was faster.
                Created::Exists => match store.delete(key, now).await? {
                    None => {}
                    Some(Entry::Session(record)) => return Ok(Ended::Session(Some(record))),
                    Some(Entry::Tombstone(tombstone)) => return Ok(Ended::Tombstone(tombstone)),
                },
            },
            Ok(Some(Entry::Tombstone(tombstone))) => return Ok(Ended::Tombstone(tombstone)),
            Ok(Some(Entry::Session(_))) => match store.delete(key, now).await? {
                None => {}
                Some(Entry::Session(record)) => return Ok(Ended::Session(Some(record))),
                Some(Entry::Tombstone(tombstone)) => return Ok(Ended::Tombstone(tombstone)),
            },
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                store.delete(key, now).await?;
                return Ok(Ended::Session(None));
            }
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::new(StoreErrorKind::Unavailable)
        .with_source("other requests create and delete the session all the time"))
}

/// The key that a [`ping`](SessionStore::ping) loads. An ID whose hash is zero is not known.
const NO_SESSION: SessionKey = SessionKey::from_bytes([0; SessionKey::LEN]);

/// The number of times that another request may be faster at one key. Two are rare.
const MAX_RACES: usize = 16;

/// The answer of [`SessionStore::create`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Created {
    /// The entry is stored.
    Created,
    /// The key holds an entry already. The present entry stays.
    Exists,
}

/// The session to replace by a [`commit`](SessionStore::commit).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) expires_at: Timestamp,
}

impl Expected {
    /// Returns the expected revision of the session.
    #[must_use]
    pub fn revision(self) -> Revision {
        self.revision
    }

    /// Returns the mark of the commit that wrote the session.
    #[must_use]
    pub fn nonce(self) -> Nonce {
        self.nonce
    }

    /// Returns `true` if the record has the expected revision and nonce. Two records can share one
    /// revision: after a failover to a replica without the last commits, or a restart that lost
    /// them.
    #[must_use]
    pub fn is(self, record: &Record) -> bool {
        record.revision == self.revision && record.nonce == self.nonce
    }

    /// Returns the deadline of the expected session. At one revision only a touch moves the
    /// deadline, and only later, so a store need not check its own deadline before this instant.
    #[must_use]
    pub fn expires_at(self) -> Timestamp {
        self.expires_at
    }
}

impl From<&Record> for Expected {
    fn from(record: &Record) -> Self {
        Self { revision: record.revision, nonce: record.nonce, expires_at: record.expires_at() }
    }
}

impl From<&Entry> for Expected {
    fn from(entry: &Entry) -> Self {
        Self { revision: entry.revision(), nonce: entry.nonce(), expires_at: entry.expires_at() }
    }
}

/// The answer of [`SessionStore::commit`].
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// The new entry is stored.
    Committed,
    /// Another request was faster: the session is at another revision, or has another key. Holds
    /// the stored entry, which is unchanged.
    Conflict(Entry),
    /// The key holds no session, and the store is unchanged.
    Gone,
}

/// The answer of [`SessionStore::touch`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touched {
    /// The deadline was moved.
    Touched,
    /// The key holds no session, and the store is unchanged.
    Gone,
}

/// The answer of [`SessionStore::delete_or_block`] for one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The session under the key is deleted: its record, or `None` if the record was unreadable.
    Session(Option<Arc<Record>>),
    /// The session has another key, and must be deleted there.
    Tombstone(Arc<Tombstone>),
    /// The key was empty, and is blocked now.
    Blocked,
}

/// A complete store: every [`SessionStore`] with an [`SessionIndex`].
pub trait Backend: SessionStore + SessionIndex {}

impl<S: SessionStore + SessionIndex + ?Sized> Backend for S {}
