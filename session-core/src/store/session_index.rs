use async_trait::async_trait;

use crate::{Created, Entry, Family, IndexKey, SessionKey, SessionStore, StoreError, Timestamp};

/// The indexes of sessions: one per owner, and one per [link](crate::Session::link).
///
/// An index holds one [`IndexEntry`] per key under which one of its sessions may live. The key of a
/// live session is always in its indexes ([I8]); keys of ended sessions may be there too. So a key
/// is entered before its record is created, and leaves after the last instant at which a session
/// may live under it. The [indexes of a record](crate::Record::index_keys) never change under one
/// key.
///
/// Each verb is one atomic operation on one index. Two keys never have to change together, so keys
/// may be on different servers. Every verb is idempotent: the protocol repeats it after a
/// [`Timeout`](crate::StoreErrorKind::Timeout).
///
/// # Errors
///
/// A [`StoreError`] has the same meaning as for a [`SessionStore`].
///
/// # Cancel safety
///
/// Dropping a verb's future may leave the operation done or not done.
///
/// [I8]: crate::guarantees#i8-the-index-is-complete
#[async_trait]
pub trait SessionIndex: SessionStore {
    /// Enters a session's key, or extends its entry. An entry is never shortened.
    ///
    /// Removes the entries of this index whose deadline has passed by `now`.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Removes these entries, by key and family, and all entries whose deadline has passed by
    /// `now`.
    ///
    /// The removal is housekeeping: a store may remove the entries after its answer, or fail to
    /// remove them. An entry leaves at its deadline in any case.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Returns the entries of an index that end after `now`, in any order.
    ///
    /// A store may read in pieces, so that a long list delays no other request. The keys of one
    /// [family](IndexEntry::family) must be in one piece: a session that moves meanwhile enters the new
    /// key before it leaves the former one, and every list must find the session (I8).
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError>;

    /// [Enters](Self::enter) a session's key into each index, then [creates](SessionStore::create)
    /// the session. The indexes are those of the [record](crate::Record::index_keys).
    ///
    /// A backend overrides this method if it can do all in one round trip. The order must stay: an
    /// interruption may leave an entry without a session, never the reverse. If storing an entry
    /// fails, the session must not stay.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn create_entered(
        &self,
        indexes: &[IndexKey],
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        for index in indexes {
            self.enter(index, entry, now).await?;
        }
        self.create(&entry.key, session, now).await
    }
}

/// One key in an index.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct IndexEntry {
    /// The key under which the session may live.
    pub key: SessionKey,
    /// The session.
    pub family: Family,
    /// The instant from which on every server counts the session as expired.
    pub until: Timestamp,
}

impl IndexEntry {
    /// Creates an entry from fields read from a store.
    #[must_use]
    pub const fn new(key: SessionKey, family: Family, until: Timestamp) -> Self {
        Self { key, family, until }
    }
}
