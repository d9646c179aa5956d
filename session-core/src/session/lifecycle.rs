//! The life of a session: its owner, its ID, its deadlines and its end.

use std::time::Duration;

use super::Session;
use crate::{
    Lifetime, Owner, SessionError, Timestamp, clock::MAX_SKEW, protocol::Located, record::Change,
};

impl Session {
    /// Signs a user in, after a proof of identity: a password, a passkey, an identity provider's token.
    ///
    /// At the commit the session gets a fresh ID, and the old one opens nothing from then on (OWASP
    /// ASVS 5.0, 7.2.4). The session begins anew:
    ///
    /// | | same owner, or a visitor before | another owner before |
    /// | --- | --- | --- |
    /// | values | stay | are removed |
    /// | lifetime | the [default](crate::SessionsBuilder::with_lifetime), unless this request sets one | the same |
    /// | [end](Self::end_by) | none, unless this request sets one | the same |
    ///
    /// So "remember me" needs no second branch: without [`set_lifetime`](Self::set_lifetime) the login
    /// has the default lifetime, whoever used the browser before.
    ///
    /// After a change of privileges without a proof of identity, use [`rotate`](Self::rotate).
    ///
    /// # Security
    ///
    /// A request that loaded the session before the login and commits after it stores its values in the
    /// new session, for up to 5 minutes, unless
    /// [carrying over](crate::SessionsBuilder::with_carry_over) is off: a cart is not lost by a login in
    /// another tab. Someone who planted the visitor's ID can use this to write values, so check values
    /// that matter again after a login. Such a request never reads the new session, never learns its
    /// ID, and never changes its owner, lifetime or end. If it signs in or rotates itself, it fails with
    /// [`SessionError::Ended`]; only a second login of the same user on the same visitor's session, as
    /// a double click sends it, joins the first.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyOwner`] for an empty owner, [`SessionError::TooLarge`] if the owner
    /// is longer than [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES) or the request made more
    /// changes than [`Limits::CHANGES`](crate::Limits::CHANGES), and [`SessionError::Closed`] after the
    /// response has begun. Nothing is changed then.
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
        let mut state = self.open_state()?;
        // A lifetime and an end that this request has set are meant for the session that the login
        // begins, in whatever order they are set.
        let mut chosen = None;
        let mut end = None;
        for change in state.log() {
            match change {
                Change::Authenticate { lifetime, .. } => chosen = Some(*lifetime),
                Change::SetLifetime(lifetime) => chosen = Some(*lifetime),
                Change::EndBy(at) => end = Some(end.map_or(*at, |end: Timestamp| end.min(*at))),
                _ => {}
            }
        }
        let lifetime = chosen.unwrap_or(lifetime);
        let mut changes = vec![Change::Authenticate { owner, at, lifetime }];
        changes.extend(end.map(Change::EndBy));
        state.check_room(changes.len())?;
        // The login ends the session that the cookie named, whether this version can read it or not.
        state.delete_unreadable();
        self.change(state, changes, false)
    }

    /// Gives the session a fresh ID at the commit, and nothing else: after a change of privileges. The
    /// old ID opens nothing from then on.
    ///
    /// A session that is not stored yet gets its first ID at the commit anyway.
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
        self.change(state, [Change::Rotate], false)
    }

    /// Gives the session a fresh ID at the commit, so that an ID is not valid for long. The old ID
    /// opens the session until a client has presented the new one, and for the
    /// [grace](crate::SessionsBuilder::with_renewal_grace) after that: a lost response and parallel
    /// requests sign nobody out.
    ///
    /// Does nothing for a session that is not stored, and while the old ID of the last renewal still
    /// opens it. [`Lifetime::with_renew_after`] renews without a call.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn renew(&self) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let grace = self.protocol().settings.renewal_grace;
        let now = self.protocol().now();
        let is_due = |located: &Located| !located.record.id_use.former_opens(now, grace);
        if !state.located().is_some_and(is_due) {
            return Ok(());
        }
        self.change(state, [Change::Renew], false)
    }

    /// Sets the lifetime of this session: "remember me". It holds until the next login, which begins
    /// with the default lifetime. An [end](Self::end_by) stays.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), SessionError> {
        let state = self.open_state()?;
        let only_confirms = state.view().is_some_and(|record| record.lifetime == lifetime);
        self.change(state, [Change::SetLifetime(lifetime)], only_confirms)
    }

    /// Lets the session end at an instant at the latest: when the identity provider's session does
    /// (OWASP ASVS 5.0, 7.6.1).
    ///
    /// Of several ends the earliest counts, and a later [`set_lifetime`](Self::set_lifetime) does not
    /// move it. A later login removes it; if one request signs in and sets an end, in whatever order,
    /// the end is that of the new session. An instant in the past ends the session at the commit, which
    /// returns [`SessionError::Ended`].
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. Nothing is changed then.
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
        self.change(state, [Change::EndBy(at)], only_confirms)
    }

    /// Refuses to go on unless the owner signed in at most `max_age` ago: before a change of the
    /// password or the address, or any act that an abandoned browser must not allow (OWASP ASVS 5.0,
    /// 7.5.1 and 7.5.3).
    ///
    /// A login counts from the call of [`authenticate`](Self::authenticate) on, in the same request
    /// too. With a `max_age` of zero nearly every request is refused. A login of the future is fresh for
    /// 10 seconds, by which the clocks of servers may differ, and not beyond that.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::NotFresh`], for a session without an owner too.
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
        match self.authenticated_at() {
            Some(at) if at <= now + MAX_SKEW && now.since(at) <= max_age => Ok(()),
            _ => Err(SessionError::NotFresh),
        }
    }

    /// Destroys the session at the commit: it is deleted from the store, for every later request and
    /// every one under way ([I2]), and the cookie is removed.
    ///
    /// Later writes of this request belong to a new session with an ID of its own, as a farewell on
    /// the next page does.
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

    /// Gives up all changes since the last commit, a [`destroy`](Self::destroy) too.
    pub fn discard(&self) {
        let dropped = self.state().discard();
        drop(dropped);
    }
}
