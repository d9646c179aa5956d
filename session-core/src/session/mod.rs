//! The session of one request, for the application.

mod acting;
mod client_cookie;
mod commit;
mod committed;
mod cookie_change;
mod flash;
mod into_value;
mod issued;
mod lifecycle;
mod link;
mod live;
mod lock;
mod log;
mod state;
mod values;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use {
    cookie_change::CookieChange,
    flash::{Flash, FlashLevel},
    into_value::IntoValue,
    live::Live,
};

use state::State;

use crate::{
    Lifetime, Owner, Record, SessionError, SessionKey, Timestamp,
    protocol::{CookieLookup, Located, Protocol},
    record::{Change, Realm},
};

/// The session of one request: a snapshot to read, and a log of the request's changes.
///
/// Reads and changes work in memory. The request sees its own changes immediately. Other requests
/// see all of them together after the [`commit`](Self::commit), in the order of the calls. An
/// integration such as `session-axum` commits when the handler has returned.
///
/// Clones are the same session.
///
/// # Security
///
/// Do not pass a clone into the closure of an [`update`](Self::update): the session would keep
/// itself alive until the next commit. The closure receives a [`View`](crate::View) instead.
#[derive(Clone)]
pub struct Session(Arc<Shared>);

struct Shared {
    protocol: Arc<Protocol>,
    /// The realm of the session's IDs.
    realm: Realm,
    state: Mutex<State>,
    /// The lock of commits: clones commit one after the other. The lock is unfair, because a fair
    /// lock allocates.
    committing: futures_util::lock::Mutex<()>,
}

impl Session {
    pub(crate) fn new(protocol: &Arc<Protocol>, realm: Realm, lookup: CookieLookup) -> Self {
        Self(Arc::new(Shared {
            protocol: Arc::clone(protocol),
            realm,
            state: Mutex::new(State::new(lookup)),
            committing: futures_util::lock::Mutex::new(()),
        }))
    }

    /// Returns the key under which the session is stored, or `None` if the session is not stored.
    /// The key is safe to log.
    ///
    /// [`authenticate`](Self::authenticate), [`rotate`](Self::rotate) and [`renew`](Self::renew)
    /// change the key at the commit.
    #[must_use]
    pub fn key(&self) -> Option<SessionKey> {
        self.state().located().map(|located| located.key)
    }

    /// Returns `true` if the client presented an ID without a session. The session may have
    /// expired, or may have been ended by a logout, by the user on another device or by an
    /// administrator. Use this for a message such as "You have been signed out".
    ///
    /// The client keeps the ID until a response sets or removes it. A redirect that writes nothing to
    /// the session keeps it too, so that the page after the redirect can show the message.
    ///
    /// The result does not prove a former session: a client can send any ID.
    #[must_use]
    pub fn had_unknown_id(&self) -> bool {
        self.state().cookie.is_unknown
    }

    /// Returns the user to whom the session belongs.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.state().view()?.owner.clone()
    }

    /// Returns the user to whom the session belongs, as a number, a UUID or any other type that
    /// parses from text. Returns `None` before a login, or if the owner is not of that type.
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

    /// Returns the instant at which the owner last proved an identity.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<Timestamp> {
        self.state().view()?.authenticated_at
    }

    /// Returns the instant at which the session began: the first commit, or the owner's last login.
    #[must_use]
    pub fn created_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.created_at)
    }

    /// Returns the instant at which the session expires unless a further request comes.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        Some(self.state().view()?.expires_at())
    }

    /// Returns the session's lifetime.
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

    pub(crate) fn realm(&self) -> Realm {
        self.0.realm
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent even after a panic: the application's code runs outside the lock,
        // and each step changes the state completely.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, SessionError> {
        let state = self.state();
        if state.is_closed { Err(SessionError::Closed) } else { Ok(state) }
    }

    fn committing(&self) -> &futures_util::lock::Mutex<()> {
        &self.0.committing
    }

    /// Returns the record as this request sees it. The caller reads it without the lock, because
    /// decoding runs code of the application.
    fn view(&self) -> Option<Arc<Record>> {
        self.state().view().cloned()
    }

    /// Records a change, if it fits into the log.
    fn change(
        &self,
        mut state: MutexGuard<'_, State>,
        change: Change,
        only_confirms: bool,
    ) -> Result<(), SessionError> {
        state.check_room()?;
        let dropped = state.record(self.protocol(), change, only_confirms);
        // The lock is released first, because the drop of a closure may run code of the
        // application.
        drop(state);
        drop(dropped);
        Ok(())
    }

    /// Continues with the stored session.
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
