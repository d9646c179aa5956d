use std::{fmt, sync::Arc};

use crate::{Codec, Key, Owner, Record, Session, SessionKey, Timestamp, protocol::Protocol};

/// One session in the list of an owner's or a link's sessions, at the time of the list.
#[derive(Clone)]
pub struct SessionInfo {
    pub(super) key: SessionKey,
    pub(super) record: Arc<Record>,
    pub(super) protocol: Arc<Protocol>,
}

impl SessionInfo {
    /// Returns the key by which [`Sessions::revoke`](crate::Sessions::revoke) revokes the session.
    /// A page may show the key, in a form for example, because a key does not open a session.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// Returns `true` if this is the session of a request: "this device".
    #[must_use]
    pub fn is(&self, session: &Session) -> bool {
        session.family() == Some(self.record.family)
    }

    /// Returns the user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.record.owner.as_ref()
    }

    /// Returns the user who [acts as](Session::act_as) the owner. Returns `None` if the owner has signed
    /// in.
    #[must_use]
    pub fn actor(&self) -> Option<&Owner> {
        self.record.actor()
    }

    /// Returns the instant at which the owner signed in.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// Returns the instant of the last recorded use, at most
    /// [`Lifetime::touch_interval`](crate::Lifetime::touch_interval) before the last use.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        self.record.last_seen_at
    }

    /// Returns the instant at which the owner last proved an identity.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.record.authenticated_at
    }

    /// Returns the instant at which the session expires unless a further request comes.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.record.expires_at()
    }

    /// Reads a value of the session: a device's name or address, for example. Returns `None` if the
    /// value is missing, or if it cannot be decoded.
    ///
    /// # Security
    ///
    /// A value that the client has sent about itself is for display only, and is not a proof.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        let value = self.record.values.get(key.name())?;
        self.protocol.decode_or_report::<T, C>(key.name(), value)
    }
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("key", &self.key)
            .field("created_at", &self.record.created_at)
            .field("last_seen_at", &self.record.last_seen_at)
            .finish_non_exhaustive()
    }
}
