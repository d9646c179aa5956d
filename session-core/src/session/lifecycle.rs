//! The life of a session: its owner, its ID, its deadlines and its end.

use std::time::Duration;

use super::{Session, state::Chosen};
use crate::{
    Lifetime, Owner, SessionError, Timestamp,
    clock::MAX_SKEW,
    record::{Authentication, Change},
};

impl Session {
    /// Signs a user in, after a proof of identity: a password, a passkey, an identity provider's
    /// token.
    ///
    /// At the commit the session receives a fresh ID, and the old ID is invalid from then on (OWASP
    /// ASVS 5.0, 7.2.4). The session begins anew:
    ///
    /// | | same owner, or a visitor before | another owner before |
    /// | --- | --- | --- |
    /// | values | stay | are removed |
    /// | lifetime | the [default](crate::SessionsBuilder::with_lifetime), unless this request sets one | the same |
    /// | [end](Self::end_by), [links](Self::link) | none, unless this request sets some | the same |
    ///
    /// "Remember me" therefore needs one branch only. Without [`set_lifetime`](Self::set_lifetime)
    /// the login has the default lifetime, also if the former session of the browser had another.
    ///
    /// If a signed-in user proves the identity again, use [`reauthenticate`](Self::reauthenticate).
    /// After a change of privileges without a proof of identity, use [`rotate`](Self::rotate).
    ///
    /// # Security
    ///
    /// A request may load the session before the login and commit after the login. For up to 5
    /// minutes, the commit stores the request's values in the new session, so that a cart survives
    /// a login in another tab. [Carrying over](crate::SessionsBuilder::with_carry_over) can be
    /// switched off.
    ///
    /// An attacker who planted the visitor's ID can write values in this way. After a login, check
    /// the values that matter again. The late request never reads the new session, never receives
    /// its ID, and never changes its owner, lifetime or end.
    ///
    /// If the late request signs in or rotates too, the commit returns [`SessionError::Ended`]. The
    /// exception is a double click: a second login of the same user on the same visitor's session
    /// joins the first login.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyOwner`] for an empty owner, and [`SessionError::Closed`] after
    /// the response has begun. Returns [`SessionError::TooLarge`] if the owner is longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES), or if the request made more changes
    /// than [`Limits::CHANGES`](crate::Limits::CHANGES). After an error the session is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{Lifetime, Session, SessionError};
    ///
    /// /// The password has been checked.
    /// fn log_in(session: &Session, user: u64, remember: bool) -> Result<(), SessionError> {
    ///     session.authenticate(user)?;
    ///     if remember {
    ///         session.set_lifetime(Lifetime::remember_me())?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn authenticate(&self, owner: impl Into<Owner>) -> Result<(), SessionError> {
        let owner = Owner::checked(owner)?;
        let (at, lifetime) = (self.protocol().now(), self.protocol().settings.lifetime);
        let state = self.open_state()?;
        let Chosen { lifetime: chosen, end, links } = state.chosen.clone();
        let lifetime = chosen.unwrap_or(lifetime);
        let login = Authentication { owner, at, lifetime, end, links };
        self.change(state, Change::Authenticate(login), false)
    }

    /// Records that the owner of the session has proved the identity again, by a password for
    /// example, so that [`require_fresh`](Self::require_fresh) passes ("sudo mode").
    ///
    /// Only the time of the proof and the ID change. Values, lifetime, [end](Self::end_by) and the
    /// absolute deadline stay, so that a session never outlives its login.
    ///
    /// # Security
    ///
    /// At the commit the session receives a fresh ID, and the old ID is invalid from then on (OWASP
    /// ASVS 5.0, 7.2.4). A stolen ID therefore gains nothing from the proof: a request that loaded
    /// the session before never becomes fresh, and never receives the new ID.
    ///
    /// A [`Live`](crate::Live) connection stays open, if the user was signed in when it began. It reads
    /// and writes the session after the proof too, and never receives the new ID. An attacker may have
    /// opened one with a stolen ID: [revoke](crate::Sessions::revoke_all) the user's sessions to close
    /// it, or switch [carrying over](crate::SessionsBuilder::with_carry_over) off.
    ///
    /// `owner` is the user whose password was checked. If the browser has signed in as another user
    /// meanwhile, in another tab, the call is refused.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::NotFresh`] unless the session belongs to `owner`, and
    /// [`SessionError::Acting`] if a user [acts as](Self::act_as) the owner. Returns
    /// [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged. The commit returns [`SessionError::Ended`] if another login, reauthentication or
    /// rotation came first.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{Session, SessionError};
    ///
    /// /// The password of `user` has been checked.
    /// fn confirm(session: &Session, user: u64) -> Result<(), SessionError> {
    ///     session.reauthenticate(user)
    /// }
    /// ```
    pub fn reauthenticate(&self, owner: impl Into<Owner>) -> Result<(), SessionError> {
        let change = Change::Reauthenticate { owner: owner.into(), at: self.protocol().now() };
        let state = self.open_state()?;
        change.check_user(state.view().map(|record| &**record))?;
        self.change(state, change, false)
    }

    /// Gives the session a fresh ID at the commit, for a change of privileges. The old ID is
    /// invalid from then on. All other parts of the session stay.
    ///
    /// A session that is not stored yet receives its first ID at the commit anyway.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. The commit returns
    /// [`SessionError::Ended`] if another login or rotation came first.
    pub fn rotate(&self) -> Result<(), SessionError> {
        let state = self.open_state()?;
        if state.located().is_none() {
            return Ok(());
        }
        self.change(state, Change::Rotate, false)
    }

    /// Gives the session a fresh ID at the commit, to limit the lifetime of each ID.
    ///
    /// The old ID opens the session until a client has presented the new ID, and for the
    /// [grace](crate::SessionsBuilder::with_renewal_grace) after that. The user therefore stays
    /// signed in after a lost response, and during parallel requests.
    ///
    /// The call is ignored for a session that is not stored, and while the old ID of the last
    /// renewal is still valid. [`Lifetime::with_renew_after`] renews without a call.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged.
    pub fn renew(&self) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let grace = self.protocol().settings.renewal_grace;
        let now = self.protocol().now();
        if !state.located().is_some_and(|located| located.may_renew(now, grace)) {
            return Ok(());
        }
        self.change(state, Change::Renew, false)
    }

    /// Sets the lifetime of this session: "remember me". The lifetime holds until the next login,
    /// which begins with the default lifetime. An [end](Self::end_by) stays. While the owner
    /// [acts as](Self::act_as) a user, the idle time is at most that of the actor's login.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let only_confirms = state
            .view()
            .is_some_and(|record| record.lifetime == record.permitted_lifetime(lifetime));
        self.change(state, Change::SetLifetime(lifetime), only_confirms)
    }

    /// Sets the instant at which the session ends at the latest: the end of the identity provider's
    /// session, for example (OWASP ASVS 5.0, 7.6.1).
    ///
    /// Of several ends the earliest counts, and a later [`set_lifetime`](Self::set_lifetime) does
    /// not move the end. A later login removes the end. If one request signs in and sets an end, in
    /// whatever order, the end belongs to the new session. An instant in the past ends the session
    /// at the commit, which returns [`SessionError::Ended`]. While the owner [acts as](Self::act_as)
    /// a user, the end is that of the impersonation.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. After an error the session is
    /// unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{Session, SessionError, Timestamp};
    ///
    /// /// `exp` is the expiry of the identity provider's token, in seconds.
    /// fn log_in(session: &Session, user: u64, exp: u64) -> Result<(), SessionError> {
    ///     session.authenticate(user)?;
    ///     session.end_by(Timestamp::from_secs(exp))
    /// }
    /// ```
    pub fn end_by(&self, at: Timestamp) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let is_no_later = |end: Timestamp| end <= at;
        let only_confirms =
            state.view().is_some_and(|record| record.ends_by.is_some_and(is_no_later));
        self.change(state, Change::EndBy(at), only_confirms)
    }

    /// Returns an error unless the owner signed in, or
    /// [proved the identity again](Self::reauthenticate), at most `max_age` ago.
    ///
    /// Call this before any act that an abandoned browser must not allow, such as a change of the
    /// password or address (OWASP ASVS 5.0, 7.5.1 and 7.5.3).
    ///
    /// A proof counts from the call of [`authenticate`](Self::authenticate) or `reauthenticate` on, in
    /// the same request too. With a `max_age` of zero nearly every request is refused. The clocks of
    /// servers may differ: a login up to 10 seconds in the future counts as fresh, and a login further
    /// in the future is refused.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::NotFresh`], for a session without an owner too. Returns
    /// [`SessionError::Acting`] if a user [acts as](Self::act_as) the owner, whenever that user signed in.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use session_core::{Session, SessionError};
    ///
    /// fn change_password(session: &Session) -> Result<(), SessionError> {
    ///     session.require_fresh(Duration::from_secs(5 * 60))?;
    ///     // Change it, and revoke the other sessions.
    ///     Ok(())
    /// }
    /// ```
    pub fn require_fresh(&self, max_age: Duration) -> Result<(), SessionError> {
        let now = self.protocol().now();
        let record = self.view().ok_or(SessionError::NotFresh)?;
        if record.actor.is_some() {
            return Err(SessionError::Acting);
        }
        match record.authenticated_at {
            Some(at) if at <= now + MAX_SKEW && now.since(at) <= max_age => Ok(()),
            _ => Err(SessionError::NotFresh),
        }
    }

    /// Destroys the session at the commit. The store deletes the session, for later requests and
    /// for requests under way ([I2]), and the response removes the cookie.
    ///
    /// Later writes of this request belong to a new session with a new ID: a farewell for the next
    /// page, for example.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Closed`] after the response has begun.
    ///
    /// [I2]: crate::guarantees#i2-no-resurrection
    pub fn destroy(&self) -> Result<(), SessionError> {
        let dropped = self.open_state()?.destroy();
        drop(dropped);
        Ok(())
    }

    /// Discards all changes since the last commit, including a [`destroy`](Self::destroy).
    ///
    /// If a commit failed and its outcome is unknown, the store may have stored the discarded
    /// changes. The request then continues as if another request had made them.
    pub fn discard(&self) {
        let dropped = self.state().discard();
        drop(dropped);
    }
}
