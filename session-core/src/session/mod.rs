//! The session of one request, as an application holds it.

mod client_cookie;
mod commit;
mod cookie_change;
mod into_value;
mod lifecycle;
mod lock;
mod log;
mod state;
mod values;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use {cookie_change::CookieChange, into_value::IntoValue};

use state::State;

use crate::{
    Lifetime, Owner, Record, SessionError, SessionKey, Timestamp,
    protocol::{CookieLookup, Located, Protocol},
    record::Change,
};

/// The session of one request: a snapshot to read, and a log of the request's changes.
///
/// Reading and changing touches no store. The request sees its own changes immediately; others see
/// them together after the [`commit`](Self::commit), in the order of the calls. An integration such as
/// `session-axum` commits when the handler has returned.
///
/// Clones are the same session.
///
/// # Security
///
/// Pass no clone into the closure of an [`update`](Self::update): the session would keep itself alive
/// until the next commit. The closure gets a [`View`](crate::View) instead.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    protocol: Arc<Protocol>,
    state: Mutex<State>,
    /// Held during a commit, so that clones commit one after the other. It is an unfair lock, as a fair
    /// one allocates.
    committing: futures_util::lock::Mutex<()>,
}

impl Session {
    pub(crate) fn new(protocol: &Arc<Protocol>, lookup: CookieLookup) -> Self {
        Self(Arc::new(Shared {
            protocol: Arc::clone(protocol),
            state: Mutex::new(State::new(lookup)),
            committing: futures_util::lock::Mutex::new(()),
        }))
    }

    /// The key under which the session is stored, safe to log. Returns `None` if it is not stored.
    ///
    /// [`authenticate`](Self::authenticate), [`rotate`](Self::rotate) and [`renew`](Self::renew) change
    /// it at the commit.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        self.state().located().map(|located| located.key)
    }

    /// Returns `true` if the client came with an ID that opens nothing: its session has expired, or was
    /// ended by a logout, by the user on another device or by an administrator. For a note such as "You
    /// have been signed out".
    ///
    /// This does not prove that there was a session: a client can send any ID.
    #[must_use]
    pub fn had_unknown_id(&self) -> bool {
        self.state().cookie.is_unknown
    }

    /// The user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.state().view()?.owner.clone()
    }

    /// The user to whom the session belongs, as a number, a UUID or any other type that parses from
    /// text. Returns `None` if nobody has signed in, or if the owner is not of that type.
    ///
    /// ```
    /// # fn handler(session: session_core::Session) {
    /// if let Some(user) = session.owner_as::<u64>() {
    ///     println!("user {user} is signed in");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn owner_as<T: std::str::FromStr>(&self) -> Option<T> {
        self.state().view()?.owner.as_ref()?.parse()
    }

    /// The instant at which the owner last proved an identity.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.state().view()?.authenticated_at
    }

    /// The instant at which the session began: its first commit, or its owner's last login.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.created_at)
    }

    /// The instant at which the session expires if no further request comes.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.expires_at())
    }

    /// The session's lifetime.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        let lifetime = self.state().view().map(|record| record.lifetime);
        lifetime.unwrap_or(self.protocol().settings.anonymous_lifetime)
    }

    pub(crate) fn family(&self) -> Option<crate::Family> {
        self.state().located().map(|located| located.record.family)
    }

    pub(crate) fn protocol(&self) -> &Arc<Protocol> {
        &self.0.protocol
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code of the application runs under the lock, and no step leaves the state half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        if state.is_closed { Err(SessionError::Closed) } else { Ok(state) }
    }

    fn committing(&self) -> &futures_util::lock::Mutex<()> {
        &self.0.committing
    }

    /// The record as this request sees it, to be read without the lock: decoding runs code of the
    /// application.
    fn view(&self) -> Option<Arc<Record>> {
        self.state().view().cloned()
    }

    /// Makes changes, if all of them fit into the log.
    fn change(
        &self,
        mut state: MutexGuard<'_, State>,
        changes: impl IntoIterator<Item = Change, IntoIter: ExactSizeIterator>,
        only_confirms: bool,
    ) -> Result<(), SessionError> {
        let changes = changes.into_iter();
        state.check_room(changes.len())?;
        let mut dropped = Vec::new();
        for change in changes {
            dropped.append(&mut state.record(self.protocol(), change, only_confirms));
        }
        // In this order: a dropped closure may hold anything of the application.
        drop(state);
        drop(dropped);
        Ok(())
    }

    /// Goes on with the session as it is stored now.
    fn settle(&self, located: Located) {
        let dropped = self.state().settle(located);
        drop(dropped);
    }

    fn drop_changes(&self) {
        let dropped = self.state().take_changes();
        drop(dropped);
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Session")
            .field("key", &state.located().map(|located| located.key))
            .field("changes", &state.log())
            .finish_non_exhaustive()
    }
}
