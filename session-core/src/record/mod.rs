//! The content of a store: pure data, and functions on data, without I/O.

mod change;
mod codec;
pub mod envelope;
mod index_key;
mod key;
mod lease;
mod lifetime;
mod limits;
mod links;
mod owner;
mod realm;
mod sealed_id;
mod session_id;
mod session_key;
mod tombstone;
mod values;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::Timestamp;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "uuid")]
pub use session_id::UuidV4;
pub use {
    change::View,
    codec::{Codec, Format, MessagePack, Raw},
    index_key::IndexKey,
    key::Key,
    lifetime::{CookieLifetime, Lifetime},
    limits::Limits,
    owner::Owner,
    session_id::{IdGenerator, OsRandom, SessionId},
    session_key::{SessionKey, SessionKeyError},
    tombstone::Tombstone,
};
pub(crate) use {
    change::{Apply, Authentication, Change, replay},
    lease::Lease,
    links::Links,
    realm::Realm,
    sealed_id::SealedId,
    tombstone::Cause,
    values::{Values, decode, encode, too_large},
};

/// The content of one key in a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A session.
    Session(Arc<Record>),
    /// A tombstone: the session has another key now, or the key is blocked.
    Tombstone(Arc<Tombstone>),
}

impl Entry {
    /// Returns the instant at which the entry expires. From then on the entry counts as missing.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Session(record) => record.expires_at(),
            Self::Tombstone(tombstone) => tombstone.expires_at,
        }
    }

    /// Returns `true` if the entry has not expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// Returns the number of commits of the session.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Session(record) => record.revision,
            Self::Tombstone(tombstone) => tombstone.revision,
        }
    }

    /// Returns the mark of the commit that wrote the entry.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        match self {
            Self::Session(record) => record.nonce,
            Self::Tombstone(tombstone) => tombstone.nonce,
        }
    }

    /// Returns the session of the entry, the same under all of its keys.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Session(record) => record.family,
            Self::Tombstone(tombstone) => tombstone.family,
        }
    }

    /// Returns the approximate size of the entry in memory, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Session(record) => record.memory_bytes(),
            Self::Tombstone(_) => size_of::<Tombstone>(),
        }
    }

    pub(crate) fn id_use(&self) -> IdUse {
        match self {
            Self::Session(record) => record.id_use,
            Self::Tombstone(tombstone) => tombstone.id_use,
        }
    }
}

/// One stored session.
///
/// Only the protocol creates and changes records; a store keeps them.
#[derive(Clone, Debug, PartialEq)]
// The fields read by every request come first and lie together, in order to share cache lines.
#[repr(C)]
pub struct Record {
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) lifetime: Lifetime,
    /// An end set by the application, independent of the lifetime.
    pub(crate) ends_by: Option<Timestamp>,
    pub(crate) id_use: IdUse,
    pub(crate) values: Values,
    /// The instant at which the present ID was generated.
    pub(crate) issued_at: Timestamp,
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) family: Family,
    pub(crate) owner: Option<Owner>,
    /// The session of the user who acts as the owner, as it was before.
    pub(crate) actor: Option<Arc<Record>>,
    /// The links of the present login.
    pub(crate) links: Links,
    pub(crate) authenticated_at: Option<Timestamp>,
    /// The lock of the session. The lease is outside of the change log: a replay keeps the lease of
    /// the newer record.
    pub(crate) lease: Option<Lease>,
    pub(crate) unknown: UnknownFields,
}

impl Record {
    /// Creates a session without values, not stored yet.
    pub(crate) fn new(now: Timestamp, lifetime: Lifetime) -> Self {
        Self {
            revision: Revision(0),
            nonce: Nonce(0),
            family: Family(0),
            created_at: now,
            last_seen_at: now,
            issued_at: now,
            lifetime,
            ends_by: None,
            id_use: IdUse::Original,
            owner: None,
            actor: None,
            links: Links::default(),
            authenticated_at: None,
            lease: None,
            values: Values::default(),
            unknown: UnknownFields::default(),
        }
    }

    /// Returns the number of commits of the session.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the session of the record, the same under all of its keys.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Returns the instant at which the session began: its first commit, or its owner's last login.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// Returns the instant of the last recorded use, at most [`Lifetime::touch_interval`] before
    /// the last use.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at
    }

    /// Returns the instant at which the owner last proved an identity.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.authenticated_at
    }

    /// Returns the user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// Returns the user who [acts as](crate::Session::act_as) the owner. Returns `None` if the owner
    /// has signed in.
    #[must_use]
    pub fn actor(&self) -> Option<&Owner> {
        self.actor.as_ref()?.owner.as_ref()
    }

    /// Returns the signed-in user: the actor, or else the owner.
    pub(crate) fn signed_in(&self) -> Option<&Owner> {
        self.actor().or(self.owner.as_ref())
    }

    /// Returns the lifetime, shortened to that of the actor's login if a user acts as the owner.
    pub(crate) fn permitted_lifetime(&self, lifetime: Lifetime) -> Lifetime {
        self.actor.as_ref().map_or(lifetime, |login| lifetime.within(login.lifetime))
    }

    /// Returns `true` if two records have the same owner, and the same actor.
    pub(crate) fn is_of_same_user(&self, other: &Self) -> bool {
        (self.owner(), self.actor()) == (other.owner(), other.actor())
    }

    /// Returns the keys of the indexes that list the session, each once: of its owner, then of its
    /// [links](crate::Session::link), then of the actor and the actor's links.
    ///
    /// The keys stay the same for as long as the session has one key. A login, and any other change
    /// of an owner or a link, gives the session another key.
    #[must_use]
    pub fn index_keys(&self) -> Vec<IndexKey> {
        let mut keys: Vec<_> = self.owner.iter().map(Owner::key).collect();
        keys.extend_from_slice(self.links.keys());
        if let Some(login) = &self.actor {
            // The login and the impersonation may have the same link.
            let mut seen: BTreeSet<_> = keys.iter().copied().collect();
            keys.extend(login.index_keys().into_iter().filter(|key| seen.insert(*key)));
        }
        keys
    }

    /// Returns the session's values in the order of their names: the name, the format, and the bytes
    /// that the codec wrote. For a program that shows sessions of other applications.
    pub fn encoded_values(&self) -> impl Iterator<Item = (&str, Format, &[u8])> {
        self.values.names().map(|name| {
            let value = self.values.get(name).unwrap_or_default();
            match value.split_first() {
                Some((format, bytes)) => (name, Format::from_byte(*format), bytes),
                None => (name, Format::RAW, value),
            }
        })
    }

    /// Returns the session's lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Returns the instant at which the session's [lock](crate::Session::locked) lapses unless its
    /// holder prolongs it. The instant may lie in the past.
    #[must_use]
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.lease.map(|lease| lease.until)
    }

    /// Returns the instant at which the session expires if it is not used again.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        let deadline = self.lifetime.deadline(self.created_at, self.last_seen_at);
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// Returns the instant at which the session expires, however often requests use it.
    #[must_use]
    pub fn absolute_deadline(&self) -> Timestamp {
        let deadline = self.lifetime.absolute_deadline(self.created_at);
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.values.heap_size()
            + self.unknown.bytes.len()
            + self.owner.as_ref().map_or(0, |owner| owner.as_bytes().len())
            + size_of_val(self.links.keys())
            + self.actor.as_ref().map_or(0, |login| login.memory_bytes())
    }

    /// Returns the record after a request at `seen_at`, for the `touch` of a store in memory. Never
    /// moves the last use back.
    #[must_use]
    pub fn seen(&self, seen_at: Timestamp) -> Self {
        Self { last_seen_at: self.last_seen_at.max(seen_at), ..self.clone() }
    }
}

/// The use of a session's present ID. It decides whether the former ID still opens the session.
///
/// ```text
///              renewal                    a request presents the ID
/// Original ──────────────▶ Renewed ─────────────────────────────────▶ Presented(at)
///    ▲     former ID opens, however late     former ID opens until at + grace, then is `Reused`
///    └── login, rotation: the former ID opens nothing
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum IdUse {
    /// The present ID is the only one to open the session.
    #[default]
    Original,
    /// A renewal generated the ID, and a request has yet to present it.
    Renewed,
    /// A renewal generated the ID, and a request presented it first at this instant.
    Presented(Timestamp),
}

impl IdUse {
    /// Returns `true` if the former ID still opens the session.
    pub(crate) fn former_opens(self, now: Timestamp, grace: Duration) -> bool {
        match self {
            Self::Original => false,
            Self::Renewed => true,
            Self::Presented(at) => now < at + grace,
        }
    }
}

/// Fields written into a record by a later version and unknown to this version. A commit writes
/// them back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct UnknownFields {
    pub(crate) count: u32,
    /// MessagePack: name, value, name, value.
    pub(crate) bytes: Bytes,
}

/// The number of commits of a session. At most 48 bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub(crate) u64);

impl Revision {
    /// Returns the revision as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self((self.0 + 1) & ((1 << 48) - 1))
    }
}

/// A random mark of one commit. By the nonce, the protocol recognizes its own commit if the answer
/// was lost.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Nonce(pub(crate) u64);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:016x})", self.0)
    }
}

/// The identity of a session through all its IDs: a random number, kept by renewals, rotations and
/// logins.
///
/// All keys of one family are one session: one line in a list of devices, one place in a
/// [limit](crate::SessionLimit), one revocation. A family is not secret.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Family(pub(crate) u64);

impl Family {
    /// Creates a family from a number read from a store.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Returns the family as a number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Family({:016x})", self.0)
    }
}
