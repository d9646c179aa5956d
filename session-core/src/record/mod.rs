//! The content of a store: pure data, and functions on it. Nothing here does I/O.

mod change;
mod codec;
pub mod envelope;
mod key;
mod lease;
mod lifetime;
mod limits;
mod owner;
mod owner_key;
mod sealed_id;
mod session_id;
mod session_key;
mod tombstone;
mod values;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::Timestamp;

#[cfg(feature = "json")]
pub use codec::Json;
#[cfg(feature = "uuid")]
pub use session_id::UuidV4;
pub use {
    change::View,
    codec::{Codec, Format, MessagePack, Raw},
    key::Key,
    lifetime::{CookieLifetime, Lifetime},
    limits::Limits,
    owner::Owner,
    owner_key::OwnerKey,
    session_id::{IdGenerator, OsRandom, SessionId},
    session_key::{SessionKey, SessionKeyError},
    tombstone::Tombstone,
};
pub(crate) use {
    change::{Apply, Change, replay},
    lease::Lease,
    sealed_id::SealedId,
    tombstone::Cause,
    values::{Values, decode, encode, too_large},
};

/// The content of one key in a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A session.
    Live(Arc<Record>),
    /// The note that the session has another key now, or that none may be created here.
    Moved(Arc<Tombstone>),
}

impl Entry {
    /// The instant at which the entry expires. From then on it counts as missing.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Live(record) => record.expires_at(),
            Self::Moved(tombstone) => tombstone.expires_at,
        }
    }

    /// Returns `true` if the entry has not expired.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// The number of commits that the session has seen.
    #[must_use]
    pub fn revision(&self) -> Revision {
        match self {
            Self::Live(record) => record.revision,
            Self::Moved(tombstone) => tombstone.revision,
        }
    }

    /// The mark of the commit that wrote the entry.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        match self {
            Self::Live(record) => record.nonce,
            Self::Moved(tombstone) => tombstone.nonce,
        }
    }

    /// The session that the entry belongs to, whatever its key.
    #[must_use]
    pub fn family(&self) -> Family {
        match self {
            Self::Live(record) => record.family,
            Self::Moved(tombstone) => tombstone.family,
        }
    }

    /// The bytes of memory that the entry takes, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Live(record) => {
                size_of::<Record>()
                    + record.values.heap_size()
                    + record.unknown.bytes.len()
                    + record.owner.as_ref().map_or(0, |owner| owner.as_bytes().len())
            }
            Self::Moved(_) => size_of::<Tombstone>(),
        }
    }

    pub(crate) fn id_use(&self) -> IdUse {
        match self {
            Self::Live(record) => record.id_use,
            Self::Moved(tombstone) => tombstone.id_use,
        }
    }
}

/// One session at rest.
///
/// The protocol alone makes and changes records; a store keeps them.
#[derive(Clone, Debug, PartialEq)]
// The fields that every request reads come first and lie together, so that they share cache lines.
#[repr(C)]
pub struct Record {
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) lifetime: Lifetime,
    /// An end that the lifetime does not move.
    pub(crate) ends_by: Option<Timestamp>,
    pub(crate) id_use: IdUse,
    pub(crate) values: Values,
    /// When the present ID was made.
    pub(crate) issued_at: Timestamp,
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) family: Family,
    pub(crate) owner: Option<Owner>,
    pub(crate) authenticated_at: Option<Timestamp>,
    /// The request that holds the session's lock. It is not part of the change log: a replay keeps the
    /// lease of the record that it runs on.
    pub(crate) lease: Option<Lease>,
    pub(crate) unknown: UnknownFields,
}

impl Record {
    /// A session without values that was never stored.
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
            authenticated_at: None,
            lease: None,
            values: Values::default(),
            unknown: UnknownFields::default(),
        }
    }

    /// The number of commits that the session has seen.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The session that the record belongs to, whatever its key.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// The instant at which the session began: its first commit, or its owner's last login.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The instant of the last recorded use, at most [`Lifetime::touch_interval`] before the last use.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at
    }

    /// The instant at which the owner last proved an identity.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.authenticated_at
    }

    /// The user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// The session's lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// The instant at which the session's [lock](crate::Session::locked) lapses unless its holder
    /// prolongs it. May lie in the past.
    #[must_use]
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.lease.map(|lease| lease.until)
    }

    /// The instant at which the session expires if no further request uses it.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        let deadline = self.lifetime.deadline(self.created_at, self.last_seen_at);
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// The instant at which the session expires whatever happens.
    #[must_use]
    pub fn absolute_deadline(&self) -> Timestamp {
        let deadline = self.lifetime.absolute_deadline(self.created_at);
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// Returns the record after a request at `seen_at`, for the `touch` of a store that keeps records
    /// in memory. Never moves the last use back.
    #[must_use]
    pub fn seen(&self, seen_at: Timestamp) -> Self {
        Self { last_seen_at: self.last_seen_at.max(seen_at), ..self.clone() }
    }
}

/// The use of a session's present ID, which decides whether the former one still opens the session.
///
/// ```text
///              renewal                    a request presents the ID
/// Original ──────────────▶ Renewed ─────────────────────────────────▶ Presented(at)
///    ▲     former ID opens, however late     former ID opens until at + grace, then is `Reused`
///    └── login, rotation: the former ID opens nothing
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum IdUse {
    /// No former ID opens the session.
    #[default]
    Original,
    /// A renewal made the ID, and no request has presented it yet.
    Renewed,
    /// A renewal made the ID, and a request presented it first at this instant.
    Presented(Timestamp),
}

impl IdUse {
    /// Returns `true` if the ID before this one still opens the session.
    pub(crate) fn former_opens(self, now: Timestamp, grace: Duration) -> bool {
        match self {
            Self::Original => false,
            Self::Renewed => true,
            Self::Presented(at) => now < at + grace,
        }
    }
}

/// Fields that a later version wrote into a record and this version does not know. A commit writes
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
    /// The number itself.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self((self.0 + 1) & ((1 << 48) - 1))
    }
}

/// A random mark of one commit, by which a commit whose answer was lost is recognized.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Nonce(pub(crate) u64);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:016x})", self.0)
    }
}

/// The identity of a session through all its IDs: a random number that renewals, rotations and logins
/// keep.
///
/// All keys of one family are one session: one line in a list of devices, one place in a
/// [limit](crate::SessionLimit), one revocation. It is no secret.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Family(pub(crate) u64);

impl Family {
    /// Makes the family that was read back from a store.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
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
