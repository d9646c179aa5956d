use std::{fmt, sync::Arc};

use crate::{Lifetime, Owner, SessionKey, Timestamp, lease::Lease, values::Values};

/// What a store holds under one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A session.
    Live(Arc<Record>),
    /// The note that the session moved to another key.
    Moved(Arc<Tombstone>),
}

impl Entry {
    /// The instant from which on the entry is as good as gone.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Self::Live(record) => record.expires_at(),
            Self::Moved(tombstone) => tombstone.expires_at,
        }
    }

    /// Tells whether the entry has not expired yet.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at()
    }

    /// How often the session was committed before.
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

    /// The bytes of memory that the entry takes, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Live(record) => {
                size_of::<Record>()
                    + record.values.heap_size()
                    + record.owner.as_ref().map_or(0, |owner| owner.as_bytes().len())
            }
            Self::Moved(_) => size_of::<Tombstone>(),
        }
    }
}

/// One session at rest.
///
/// Made and changed by the protocol alone; a store keeps it and answers questions about it.
#[derive(Clone, Debug, PartialEq)]
// What every request reads comes first and lies together: of a session that nobody used for a while, each line of the
// processor's cache is waited for.
#[repr(C)]
pub struct Record {
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
    pub(crate) lifetime: Lifetime,
    /// An end that the lifetime does not move.
    pub(crate) ends_by: Option<Timestamp>,
    pub(crate) values: Values,
    /// When the present ID was made.
    pub(crate) issued_at: Timestamp,
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) owner: Option<Owner>,
    pub(crate) authenticated_at: Option<Timestamp>,
    /// Whose turn it is, where requests lock the session. No change of the log: a replay on a newer
    /// record keeps that record's.
    pub(crate) lease: Option<Lease>,
    /// The session's key before, from when it got another ID to the next commit. As long as a session is
    /// under that key too, both are one.
    pub(crate) predecessor: Option<SessionKey>,
    /// The lifetime is that of sessions without an owner: a login replaces it.
    pub(crate) provisional: bool,
}

impl Record {
    /// A session without values that begins now and was never stored.
    pub(crate) fn new(now: Timestamp, lifetime: Lifetime) -> Self {
        Self {
            revision: Revision(0),
            nonce: Nonce(0),
            created_at: now,
            last_seen_at: now,
            issued_at: now,
            lifetime,
            provisional: false,
            ends_by: None,
            owner: None,
            authenticated_at: None,
            lease: None,
            predecessor: None,
            values: Values::default(),
        }
    }

    /// How often the session was committed before.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// When the session began: when it was first stored, or when its owner signed in.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When a request last used the session, up to a tenth of the idle time ago.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        self.last_seen_at
    }

    /// When the owner last signed in.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.authenticated_at
    }

    /// Whose session it is.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// How long the session lives.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Until when a request has [locked](crate::Session::lock) the session, unless it releases the lock
    /// before. May lie in the past.
    #[must_use]
    pub fn locked_until(&self) -> Option<Timestamp> {
        self.lease.map(|lease| lease.until)
    }

    /// The instant from which on the session has ended, if no request comes.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        let deadline = self.lifetime.deadline(self.created_at, self.last_seen_at);
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// The instant from which on the session has ended, whatever comes.
    #[must_use]
    pub fn absolute_deadline(&self) -> Timestamp {
        let deadline = self.created_at + self.lifetime.absolute();
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// The record after a request at `seen_at`, for the `touch` of a store that keeps records as they
    /// are. Never moves the note of the last request back.
    #[must_use]
    pub fn seen(&self, seen_at: Timestamp) -> Self {
        Self { last_seen_at: self.last_seen_at.max(seen_at), ..self.clone() }
    }
}

/// The note, under a session's former key, that it has a new one, or that nothing shall live there.
///
/// It holds no values. A request that loaded the session before it moved carries its changes over to
/// the new key, and one that ends the session ends it there. After a login it opens nothing; after a
/// renewal it opens the session for a grace time. One without a successor, an end marker, bars a key whose
/// session was ended before it was created.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) successor: Option<SessionKey>,
    pub(crate) expires_at: Timestamp,
    pub(crate) grace: Option<Grace>,
}

impl Tombstone {
    /// A note that nothing shall live under a key.
    pub(crate) fn end_marker(nonce: Nonce, expires_at: Timestamp) -> Self {
        Self { revision: Revision(0), nonce, successor: None, expires_at, grace: None }
    }

    /// The key that the session has now; none if it has ended.
    #[must_use]
    pub fn successor(&self) -> Option<SessionKey> {
        self.successor
    }

    /// Until when the former ID opens the session, if it does.
    #[must_use]
    pub fn opens_until(&self) -> Option<Timestamp> {
        self.grace.as_ref().map(|grace| grace.until)
    }
}

/// What a renewal leaves behind, so that the former ID works on for a while.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grace {
    pub(crate) until: Timestamp,
    /// The new ID, readable only with the former one.
    pub(crate) sealed_id: crate::seal::SealedId,
}

/// Counts the commits of a session. At most 48 bits.
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

/// Marks a commit, so that one whose answer was lost is recognized.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Nonce(pub(crate) u64);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nonce({:016x})", self.0)
    }
}
