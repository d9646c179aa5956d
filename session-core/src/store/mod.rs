//! The interface of a backend: a place for records, and an index of each owner's sessions.
//!
//! The enums of answers are exhaustive: a store that wraps another store handles every answer.

mod forward;
mod local_reads;
mod owner_index;

use std::fmt;

use async_trait::async_trait;

use crate::{
    Entry, Nonce, Record, Revision, SessionKey, StoreError, StoreErrorKind, Timestamp, Tombstone,
};

pub use {
    local_reads::LocalReads,
    owner_index::{IndexEntry, OwnerIndex},
};

/// Keeps sessions.
///
/// A store needs five verbs, each atomic on its own key. None of them inserts *or* updates, so that a
/// session that ended stays ended. Each verb receives the time, so that a store needs no clock: an
/// entry whose [`Entry::expires_at`] is not after `now` has expired and counts as missing, whether the
/// store has removed it or not. A store should remove it some time later.
///
/// The other verbs are loops over these five. A backend overrides them where it is faster.
///
/// The trait is async by the macro `session_core::async_trait`, which an implementation uses as well.
///
/// A suite of tests states the contract, and every store runs it:
#[cfg_attr(feature = "conformance", doc = "the [conformance suite](super::conformance).")]
#[cfg_attr(not(feature = "conformance"), doc = "the conformance suite (feature `conformance`).")]
/// `examples/map_store/store.rs` is the shortest store that passes, and `examples/sqlite_store/store.rs`
/// one on SQL.
///
/// # Errors
///
/// A [`StoreError`] is a fault of the system; missing and expired are answers. A store must return
/// [`Timeout`](StoreErrorKind::Timeout) whenever it cannot know whether the operation was carried out,
/// and must not repeat a `create` or `commit` then: the protocol repeats it, and recognizes its own
/// commit by the nonce.
///
/// The protocol repeats an operation immediately. A store that can lose the answers of many requests
/// together, with a connection that they share, should return each error after a short random pause.
///
/// # Cancel safety
///
/// Dropping a verb's future may leave the operation done or not done, but never half done.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Stores an entry under a key that holds nothing.
    ///
    /// An expired entry that was not removed yet may count as present.
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

    /// Reads the entry under a key, and changes nothing. Never answers from [local
    /// reads](Self::local_reads).
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). Bytes that are no record are
    /// [`Corrupt`](StoreErrorKind::Corrupt).
    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// Replaces a session that is still the expected one.
    ///
    /// A tombstone is never replaced, whatever its revision. An expired session is not replaced
    /// either; before [`Expected::expires_at`] a store need not check that.
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

    /// Records that a request used the session now, which moves its idle deadline.
    ///
    /// Values and revision stay, so that no commit conflicts with it. The recorded use never moves
    /// back in time.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError>;

    /// Deletes the session under a key and returns the entry that was there. Deleting nothing is no
    /// error.
    ///
    /// A tombstone is returned and stays until it expires, so that a repeated `delete` finds again
    /// where the session went. Bytes that are no record are deleted, and `None` is returned. Must work
    /// on a store that is full.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// [Loads](Self::load) many keys, and answers in their order. A record that cannot be read is an
    /// error of its own.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            match self.load(key, now).await {
                Err(error) if error.kind() != StoreErrorKind::Corrupt => return Err(error),
                answer => answers.push(answer),
            }
        }
        Ok(answers)
    }

    /// Deletes the session under each key, and blocks each key that holds none, in their order.
    ///
    /// | entry before | entry after | answer |
    /// | --- | --- | --- |
    /// | a session, readable or not | none | [`Ended::Session`] |
    /// | a tombstone | the same | [`Ended::Moved`] |
    /// | none, or an expired one | `marker` | [`Ended::Blocked`] |
    ///
    /// An index may hold a key whose creation is under way. `marker`, a tombstone, makes that creation
    /// fail.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). A failure for one key must not keep the sessions under the other
    /// keys alive: on a full server, for example, no marker can be left, but every session can be
    /// deleted.
    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let marker = Entry::Moved(marker.into());
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

    /// Returns the store's local reads, if it can answer some reads without I/O.
    fn local_reads(&self) -> Option<&dyn LocalReads> {
        None
    }
}

/// Deletes first: that must work on a full store, where leaving a marker does not.
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
                // An expired entry is in the way, or another request was faster.
                Created::Exists => match store.delete(key, now).await? {
                    None => {}
                    Some(Entry::Live(_)) => return Ok(Ended::Session),
                    Some(Entry::Moved(tombstone)) => return Ok(Ended::Moved(tombstone)),
                },
            },
            Ok(Some(Entry::Moved(tombstone))) => return Ok(Ended::Moved(tombstone)),
            Ok(Some(Entry::Live(_))) => match store.delete(key, now).await? {
                None => {}
                Some(Entry::Live(_)) => return Ok(Ended::Session),
                Some(Entry::Moved(tombstone)) => return Ok(Ended::Moved(tombstone)),
            },
            Err(error) if error.kind() == StoreErrorKind::Corrupt => {
                store.delete(key, now).await?;
                return Ok(Ended::Session);
            }
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::new(StoreErrorKind::Unavailable)
        .with_source("other requests create and delete the session all the time"))
}

/// The number of times that another request may be faster at one key. Two are rare.
const MAX_RACES: usize = 16;

/// The answer of [`SessionStore::create`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Created {
    /// The entry is stored.
    Created,
    /// The key holds an entry already, which stays.
    Exists,
}

/// The session that a [`commit`](SessionStore::commit) replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) expires_at: Timestamp,
}

impl Expected {
    /// The revision at which the session must be.
    #[must_use]
    pub fn revision(self) -> Revision {
        self.revision
    }

    /// The mark of the commit that wrote the session.
    #[must_use]
    pub fn nonce(self) -> Nonce {
        self.nonce
    }

    /// Returns `true` if this is the record, by its revision and its nonce. Two records can have one
    /// revision: after a failover to a replica that lacks the last commits, or a restart that lost
    /// them.
    #[must_use]
    pub fn is(self, record: &Record) -> bool {
        record.revision == self.revision && record.nonce == self.nonce
    }

    /// The deadline of the expected session. At one revision only a touch moves the deadline, and only
    /// later, so a store need not check its own deadline before this instant.
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
    /// Another request was faster: the session is at another revision, or has another key. This is the
    /// entry as it is stored; nothing was changed.
    Conflict(Entry),
    /// The key holds no session, and nothing was stored.
    Gone,
}

/// The answer of [`SessionStore::touch`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touched {
    /// The deadline was moved.
    Touched,
    /// The key holds no session, and nothing was stored.
    Gone,
}

/// The answer of [`SessionStore::delete_or_block`] for one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A session was there and is deleted.
    Session,
    /// The session has another key and has to be ended there.
    Moved(std::sync::Arc<Tombstone>),
    /// No session was there, and none can be created.
    Blocked,
}

/// A complete store: every [`SessionStore`] that is an [`OwnerIndex`] too.
pub trait Backend: SessionStore + OwnerIndex {}

impl<S: SessionStore + OwnerIndex + ?Sized> Backend for S {}
