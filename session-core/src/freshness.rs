use std::time::Duration;

use crate::{Session, SessionError, Timestamp, change::Change};

impl Session {
    /// Refuses to go on unless the owner signed in at most `max_age` ago: before a change of the
    /// password or the address, or anything else that a session left open must not allow (OWASP ASVS
    /// 5.0, 7.5.1 and 7.5.3).
    ///
    /// A login counts from the call of [`authenticate`](Self::authenticate) on, in the same request too.
    /// A `max_age` of zero lets hardly any pass. A login that lies in the future counts as fresh for
    /// 10 seconds, by which the clocks of servers may differ; beyond that it does not, so that a clock
    /// that was set back keeps none fresh for longer.
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
    ///     // Change it, and end the other sessions.
    ///     Ok(())
    /// }
    /// ```
    pub fn require_fresh(&self, max_age: Duration) -> Result<(), SessionError> {
        let now = self.sessions().now();
        match self.authenticated_at() {
            Some(at) if at <= now + MAX_SKEW && now.since(at) <= max_age => Ok(()),
            _ => Err(SessionError::NotFresh),
        }
    }

    /// Lets the session end at an instant at the latest: when the identity provider's does (OWASP ASVS
    /// 5.0, 7.6.1).
    ///
    /// The end is kept in the session, and only ever made earlier: of several the earliest counts, a later [`set_lifetime`](Self::set_lifetime) does not raise it, and the lifetime still
    /// ends the session where that comes first. A later login does away with it, as what that begins
    /// depends on a new authentication; what one request records of both, before it commits, sets the end of
    /// the new session, in whatever order.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Ended`] if the instant is not in the future. The session is ended then,
    /// as by [`destroy`](Self::destroy). Returns [`SessionError::TooLarge`] beyond
    /// [`Limits::CHANGES`](crate::Limits::CHANGES), and [`SessionError::Closed`] after the response has begun;
    /// no end is set then.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{Session, SessionError, Timestamp};
    ///
    /// /// `exp` is what the identity provider's token says, in seconds.
    /// fn log_in(session: &Session, user: u64, exp: u64) -> Result<(), SessionError> {
    ///     session.authenticate(user)?;
    ///     session.end_by(Timestamp::from_millis(exp.saturating_mul(1_000)))
    /// }
    /// ```
    pub fn end_by(&self, at: Timestamp) -> Result<(), SessionError> {
        if at <= self.sessions().now() {
            self.destroy()?;
            return Err(SessionError::Ended);
        }
        let mut state = self.open_state()?;
        let is_no_later = |end: Timestamp| end <= at;
        let weak = state.view().is_some_and(|record| record.ends_by.is_some_and(is_no_later));
        self.record(&mut state, Change::EndBy(at), weak)
    }
}

/// By how much the clocks of servers may differ before a login counts as one of the future.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(10);
