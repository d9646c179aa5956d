use crate::{Family, Nonce, Revision, SessionKey, Timestamp};

use super::{IdUse, SealedId};

/// The note, under a session's former key, that the session has another key now; or, as an *end
/// marker*, that no session may be created under the key.
///
/// It holds no values. A request that loaded the session before it moved finds the new key here.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    pub(crate) revision: Revision,
    pub(crate) nonce: Nonce,
    pub(crate) family: Family,
    pub(crate) cause: Cause,
    /// The use of the ID of this key when the session left it.
    pub(crate) id_use: IdUse,
    pub(crate) expires_at: Timestamp,
}

impl Tombstone {
    /// Makes an end marker.
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

    /// The key that the session has now. Returns `None` for an end marker.
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

/// The reason why a key holds no session any more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    /// The session ended, or may not begin here.
    Ended,
    /// A login or a rotation gave the session another ID. The former one opens nothing.
    Rotated {
        successor: SessionKey,
        /// The new ID, readable with the former one: after the login of a visitor, for a second login
        /// of the same user from the same page (a double click).
        sealed_id: Option<SealedId>,
        /// The session went from one user to another: nothing of a request from before belongs to it.
        changes_owner: bool,
    },
    /// A renewal gave the session another ID. The former one opens it for a grace time.
    Renewed { successor: SessionKey, sealed_id: SealedId },
}
