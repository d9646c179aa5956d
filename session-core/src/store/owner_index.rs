use async_trait::async_trait;

use crate::{Created, Entry, Family, OwnerKey, SessionKey, SessionStore, StoreError, Timestamp};

/// The sessions of each owner.
///
/// An index holds one [`IndexEntry`] per key under which a session of the owner may live. It may hold
/// keys whose session has ended; no live session is ever missing ([I8]). So a key is entered before
/// its record is created, and leaves when no session can live under it any more.
///
/// Each verb is one atomic operation on one owner. No verb needs two keys to change together, so that
/// keys may be on different servers. Every verb can be repeated after a
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
/// [I8]: crate::guarantees#i8-the-index-of-owners-is-complete
#[async_trait]
pub trait OwnerIndex: SessionStore {
    /// Enters a session's key, or extends its entry. An entry is never shortened.
    ///
    /// Removes the owner's entries that have passed `now`.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn enter(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Removes these entries, by key and family, and those that have passed `now`.
    ///
    /// This is housekeeping: a store may do it after it has answered, or fail to. An entry leaves at
    /// its deadline in any case.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn leave(
        &self,
        owner: &OwnerKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError>;

    /// Returns the owner's entries that end after `now`, in no particular order.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError>;

    /// [Enters](Self::enter) a session's key, then [creates](SessionStore::create) the session.
    ///
    /// A backend overrides this where both take one round trip. The order must stay: an interruption
    /// may leave an entry without a session, never a session without its entry. If the entry cannot be
    /// made, no session may stay.
    ///
    /// # Errors
    ///
    /// See the [trait](Self#errors).
    async fn create_entered(
        &self,
        owner: &OwnerKey,
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.enter(owner, entry, now).await?;
        self.create(&entry.key, session, now).await
    }
}

/// One key in an owner's index.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub struct IndexEntry {
    /// The key under which the session may live.
    pub key: SessionKey,
    /// The session.
    pub family: Family,
    /// The instant from which on no server can find the session alive.
    pub until: Timestamp,
}

impl IndexEntry {
    /// Makes the entry that was read back from a store.
    #[must_use]
    pub const fn new(key: SessionKey, family: Family, until: Timestamp) -> Self {
        Self { key, family, until }
    }
}
