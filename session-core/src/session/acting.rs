//! Impersonation: support staff act as a user, see the user's pages, and stay known. (RFC 8693, 1.1
//! calls this delegation, because the actor stays known.)
//!
//! ```text
//!  ada, signed in ──act_as("grace")──▶ owner grace, actor ada ──stop_acting()──▶ ada, signed in
//!        │                                    │ authenticate, destroy, the end of the time,
//!        ▼                                    ▼ a revocation of either
//!   her record  ───kept aside in───▶    the impersonation ends, together with the login of ada
//! ```

use std::time::Duration;

use super::Session;
use crate::{Owner, SessionError, record::Change};

impl Session {
    /// The longest time for which a user acts as another: 12 hours.
    pub const MAX_ACTING: Duration = Duration::from_secs(12 * 3600);

    /// Makes the owner of the session, such as a member of the support staff, act as a user
    /// (impersonation). From then on [`owner`](Self::owner) returns the user, and
    /// [`actor`](Self::actor) the former owner.
    ///
    /// The impersonation starts without values and [links](Self::link), and the values of the actor are
    /// kept aside. [`stop_acting`](Self::stop_acting) restores them, with the lifetime and the end of
    /// the actor's login. The impersonation ends after `time`, or with the actor's login, whichever
    /// comes first; the actor is signed out then. A `time` longer than
    /// [`MAX_ACTING`](Self::MAX_ACTING) is shortened. If the impersonation is over before the commit,
    /// as with a `time` of zero, the commit returns [`SessionError::Ended`], and the session stays as it
    /// was.
    ///
    /// While the owner acts, [`end_by`](Self::end_by) and [`set_lifetime`](Self::set_lifetime) change
    /// the impersonation alone. They never move its end beyond `time`, nor its idle time and its
    /// deadline beyond those of the actor's login. A login of the request ends the impersonation. A [`destroy`](Self::destroy)
    /// ends the impersonation and the actor's login. Open [`Live`](crate::Live) connections close when
    /// the impersonation starts, and when it ends.
    ///
    /// # Security
    ///
    /// Check the rights of the actor first, and [`require_fresh`](Self::require_fresh).
    ///
    /// The session receives a fresh ID, when the impersonation starts and when it stops. The lists of both
    /// users show the session, a revocation of either ends it, and each [`Event`](crate::Event) names
    /// both. The session counts for the [limit](crate::SessionLimit) of the actor, and not for that of
    /// the user. `require_fresh` refuses always, so that the actor cannot change the user's password
    /// behind it.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::CannotAct`] if the session has no owner, or if `user` is the owner, and
    /// [`SessionError::Acting`] if the owner acts as a user already. Returns [`SessionError::EmptyOwner`] for an empty user,
    /// [`SessionError::TooLarge`] if the user is longer than
    /// [`Limits::OWNER_BYTES`](crate::Limits::OWNER_BYTES) or beyond
    /// [`Limits::CHANGES`](crate::Limits::CHANGES), and [`SessionError::Closed`] after the response has
    /// begun. After an error the session is unchanged. The commit returns [`SessionError::Ended`] if
    /// another login or rotation came first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use session_core::{Session, SessionError};
    ///
    /// /// The application has checked that the owner of the session is of the support staff.
    /// fn help(session: &Session, user: u64) -> Result<(), SessionError> {
    ///     session.require_fresh(Duration::from_secs(15 * 60))?;
    ///     session.act_as(user, Duration::from_secs(30 * 60))
    /// }
    ///
    /// fn banner(session: &Session) -> Option<String> {
    ///     let actor = session.actor()?;
    ///     Some(format!("user {} acts as you", actor.as_str().unwrap_or("?")))
    /// }
    /// ```
    pub fn act_as(&self, user: impl Into<Owner>, time: Duration) -> Result<(), SessionError> {
        let user = Owner::checked(user)?;
        let until = self.protocol().now() + time.min(Self::MAX_ACTING);
        let (state, change) = (self.open_state()?, Change::ActAs { user, until });
        change.check_user(state.view().map(|record| &**record))?;
        self.change(state, change, false)
    }

    /// Returns the user who [acts as](Self::act_as) the owner. Returns `None` if the owner has signed
    /// in.
    #[must_use]
    pub fn actor(&self) -> Option<Owner> {
        self.state().view()?.actor().cloned()
    }

    /// Goes back from an [`act_as`](Self::act_as) to the actor's own session. The values of the
    /// impersonation are removed, and the session receives a fresh ID.
    ///
    /// The call is ignored if nobody acts.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::TooLarge`] beyond [`Limits::CHANGES`](crate::Limits::CHANGES), and
    /// [`SessionError::Closed`] after the response has begun. The commit returns
    /// [`SessionError::Ended`] if another login or rotation came first.
    pub fn stop_acting(&self) -> Result<(), SessionError> {
        let state = self.open_state()?;
        if state.view().and_then(|record| record.actor()).is_none() {
            return Ok(());
        }
        self.change(state, Change::StopActing, false)
    }
}
