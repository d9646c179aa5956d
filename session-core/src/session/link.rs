use super::Session;
use crate::{
    IndexKey, Limits, SessionError,
    record::{Change, too_large},
};

impl Session {
    /// Links the session to a name of the application, so that
    /// [`revoke_linked`](crate::Sessions::revoke_linked) finds the session: the session of an identity
    /// provider (issuer and `sid`), a device, or a grant of access, for example.
    ///
    /// A link belongs to the login. The next login and the logout drop it. Rotations, renewals and
    /// [`reauthenticate`](Self::reauthenticate) keep it. If one request signs in and links, in whatever
    /// order, the link belongs to the new session. The record holds a hash of the link.
    ///
    /// A login with a link costs one more command, in the same round trip, and one more to remove the
    /// entry later. A link without a login gives the session a fresh ID, as
    /// [`rotate`](Self::rotate) does. A link that the session has already costs nothing.
    ///
    /// # Security
    ///
    /// No acknowledged session is missed: the session enters the link's index before it is stored, as
    /// with the owner's index ([I8]).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyLink`] if the name or the value is empty. Returns
    /// [`SessionError::TooLarge`] if the name is longer than
    /// [`Limits::NAME_BYTES`](crate::Limits::NAME_BYTES), the value longer than
    /// [`Limits::LINK_BYTES`](crate::Limits::LINK_BYTES), or beyond
    /// [`Limits::LINKS`](crate::Limits::LINKS) links of the session or of the request, or
    /// [`Limits::CHANGES`](crate::Limits::CHANGES) changes. Returns [`SessionError::Closed`] after the
    /// response has begun. After an error the session is unchanged.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{Session, SessionError};
    ///
    /// /// `iss` and `sid` are claims of an ID token whose signature has been checked. A `sid` is unique
    /// /// for its issuer alone (OpenID Connect Back-Channel Logout 1.0, 2.1).
    /// fn log_in(session: &Session, user: u64, iss: &str, sid: &str) -> Result<(), SessionError> {
    ///     session.authenticate(user)?;
    ///     session.link("sid", format!("{iss} {sid}"))
    /// }
    /// ```
    ///
    /// [I8]: crate::guarantees#i8-the-index-is-complete
    pub fn link(&self, name: &str, value: impl AsRef<[u8]>) -> Result<(), SessionError> {
        let link = IndexKey::of_link(name, value.as_ref())?;
        let mut state = self.open_state()?;
        let present = state.view().map_or(&[][..], |record| record.links.keys());
        let has_room = |links: &[IndexKey]| links.contains(&link) || links.len() < Limits::LINKS;
        if !(has_room(present) && has_room(state.chosen.links.keys())) {
            return Err(too_large("the number of links", Limits::LINKS));
        }
        if present.contains(&link) {
            // A later login of this request drops the links of the session, but not this one.
            state.chosen.links.add(link);
            return Ok(());
        }
        self.change(state, Change::Link(link), false)
    }
}
