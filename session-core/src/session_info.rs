use std::{fmt, sync::Arc};

use crate::{Codec, Key, Record, Session, SessionKey, Sessions, Timestamp};

/// One session in the list of an owner's, as it was when the list was made.
#[derive(Clone)]
pub struct SessionInfo {
    pub(crate) key: SessionKey,
    pub(crate) record: Arc<Record>,
    pub(crate) sessions: Arc<Sessions>,
}

impl SessionInfo {
    /// The key by which [`Sessions::end_one`] ends the session. Safe to show, in a form for example: it
    /// opens nothing.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// Tells whether this is the session of a request: "this device".
    #[must_use]
    pub fn is(&self, session: &Session) -> bool {
        session.key() == Some(self.key)
    }

    /// When the owner signed in.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// When a request last used the session, up to a tenth of the idle time ago.
    #[must_use]
    pub fn last_seen_at(&self) -> Timestamp {
        self.record.last_seen_at
    }

    /// When the owner last proved who it is.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.record.authenticated_at
    }

    /// When the session ends if no further request comes.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.record.expires_at()
    }

    /// Reads a value of the session, if it is there: a device's name or address, for example.
    ///
    /// One that cannot be decoded counts as missing, as for [`Session::get`].
    ///
    /// # Security
    ///
    /// What a client said about itself is to be shown, and is no proof.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        let value = self.record.values.get(key.name())?;
        self.sessions.decode_or_report::<T, C>(key.name(), value)
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
