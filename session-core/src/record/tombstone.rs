use crate::{Family, Nonce, Revision, SessionKey, Timestamp};

use super::{IdUse, SealedId};

/// The note, under a session's former key, that the session has another key now. As an *end
/// marker*, a tombstone blocks a key: a session can no longer be created under it.
///
/// A tombstone holds no values. A request that loaded the session before it moved finds the new key
/// here.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) family: Family,
    pub(crate) cause: Cause,
    /// The use of this key's ID when the session left the key.
    pub(crate) id_use: IdUse,
    pub(crate) expires_at: Timestamp,
}

impl Tombstone {
    /// Creates an end marker.
    pub(crate) fn end_marker(nonce: Nonce, expires_at: Timestamp) -> Self {
        Self {
            revision: Revision(0),
            nonce,
            family: Family(0),
            cause: Cause::Ended,
            id_use: IdUse::Original,
            expires_at,
        }
    }

    /// Returns the key to which the session moved from this one. Returns `None` for an end marker.
    #[must_use]
    pub fn successor(&self) -> Option<SessionKey> {
        match self.cause {
            Cause::Ended => None,
            Cause::Rotated { successor, .. } | Cause::Renewed { successor, .. } => Some(successor),
        }
    }

    /// Returns `true` if the former ID may still open the session.
    #[must_use]
    pub fn is_renewal(&self) -> bool {
        matches!(self.cause, Cause::Renewed { .. })
    }
}

/// The reason why a key no longer holds a session.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// The session ended, or the key is blocked.
    Ended,
    /// A login or a rotation gave the session another ID. The former ID no longer opens the
    /// session.
    Rotated {
        successor: SessionKey,
        /// The new ID, readable with the former one. Present after the login of a visitor, for a
        /// second login of the same user from the same page (a double click).
        sealed_id: Option<SealedId>,
        /// The session went from one user to another, or from a visitor to an impersonation: a request from
        /// before the login fails.
        changes_user: bool,
    },
    /// A renewal gave the session another ID. The former ID opens the session for a grace time.
    Renewed { successor: SessionKey, sealed_id: SealedId },
}
