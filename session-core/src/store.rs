use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{Copies, Entry, Nonce, Record, Revision, SessionKey, StoreError, Timestamp};

/// Holds sessions.
///
/// Five verbs, each atomic on its own key, none of which could be read as "insert or update": what was
/// ended stays ended. Each verb is told the time, so that a store needs no clock: an entry whose
/// [`Entry::expires_at`] is not after `now` has expired, and counts as missing whether the store has
/// removed it yet or not. A store should remove it by itself some time after that.
///
/// What a store promises is written down in tests that every store runs,
#[cfg_attr(feature = "conformance", doc = "the [conformance suite](crate::conformance).")]
#[cfg_attr(not(feature = "conformance"), doc = "the conformance suite (feature `conformance`).")]
/// The shortest store that passes them is `examples/map_store/store.rs`, a place to start from.
///
/// # Errors
///
/// A [`StoreError`] is a fault of the system. Missing and expired are answers. A store must say
/// [`Timeout`](crate::StoreErrorKind::Timeout) whenever an operation may have been carried out without
/// its knowing, and must not repeat a `create` or `commit` by itself in that case: the protocol does, and
/// recognizes its own commit by the nonce.
///
/// The protocol asks again as soon as it is told. A store that can lose the answers of many requests at one
/// instant, with a connection that they share, tells each after a short pause by chance, so that they do not
/// all come back together.
///
/// # Cancel safety
///
/// A future that is dropped leaves its operation carried out or not, never half carried out.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a session under a key that holds nothing.
    ///
    /// An entry that has expired and was not removed yet may count as something: keys are made of fresh
    /// random IDs, so the protocol meets one here only where it bars a key, which such an entry
    /// bars as well.
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

    /// Reads what is stored under a key, and changes nothing. Never answers from a [copy](Self::copies).
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors). Bytes that are no record are
    /// [`Corrupt`](crate::StoreErrorKind::Corrupt).
    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// Replaces a session that is still the expected one.
    ///
    /// A tombstone is never replaced, whatever its revision. What has expired is not replaced either, and
    /// [`Expected`] may say that it has not.
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

    /// Notes that a request used the session now, and thereby moves its idle deadline.
    ///
    /// Changes neither values nor revision, so that no commit under way conflicts with it, and never
    /// moves the note back in time.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError>;

    /// Removes the session that is stored under a key, and tells what was there. Removing nothing is
    /// fine.
    ///
    /// A tombstone is told and stays, until it expires: if the answer is lost, or what follows fails,
    /// asking again tells again where the session went.
    ///
    /// Must work on bytes that are no record (there is nothing to tell then) and on a store that is
    /// full.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError>;

    /// What the store has at hand. None, for those that always have to ask, and that may be left out.
    fn copies(&self) -> Option<&dyn Copies> {
        None
    }
}

/// What [`SessionStore::create`] answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Created {
    /// The session is stored.
    Created,
    /// The key holds something already, which is left as it is.
    Exists,
}

/// What whoever [commits](SessionStore::commit) knows of the session that is to be replaced.
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

    /// Tells whether this is the record: its revision, and the nonce of the commit that made it. Where a replica
    /// takes over that lacks the last commits, or a restart loses them, there are two records of one revision.
    #[must_use]
    pub fn is(self, record: &Record) -> bool {
        record.revision == self.revision && record.nonce == self.nonce
    }

    /// The deadline that the session had. At the same revision nothing moves it but a touch, which moves it
    /// on: before this instant a store need not look at the deadline that it holds.
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

/// What [`SessionStore::commit`] answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Committed {
    /// The new entry is stored.
    Committed,
    /// Somebody was faster: the session is at another revision or has moved. This is what is stored
    /// now; nothing was changed.
    Conflict(Entry),
    /// The key holds nothing, and nothing was stored.
    Gone,
}

/// What [`SessionStore::touch`] answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Touched {
    /// The deadline was moved.
    Touched,
    /// The key holds no session (nothing, or a tombstone), and nothing was stored.
    Gone,
}

/// Forwards every verb through a pointer.
macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: SessionStore + ?Sized> SessionStore for $pointer {
            async fn create(
                &self,
                key: &SessionKey,
                entry: Entry,
                now: Timestamp,
            ) -> Result<Created, StoreError> {
                (**self).create(key, entry, now).await
            }

            async fn load(
                &self,
                key: &SessionKey,
                now: Timestamp,
            ) -> Result<Option<Entry>, StoreError> {
                (**self).load(key, now).await
            }

            async fn commit(
                &self,
                key: &SessionKey,
                expected: Expected,
                entry: Entry,
                now: Timestamp,
            ) -> Result<Committed, StoreError> {
                (**self).commit(key, expected, entry, now).await
            }

            async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
                (**self).touch(key, now).await
            }

            async fn delete(
                &self,
                key: &SessionKey,
                now: Timestamp,
            ) -> Result<Option<Entry>, StoreError> {
                (**self).delete(key, now).await
            }

            fn copies(&self) -> Option<&dyn Copies> {
                (**self).copies()
            }
        }
    )+};
}

forward!(&'static S, Arc<S>, Box<S>);
