//! The sessions of an application.

mod builder;
mod info;

use std::{fmt, sync::Arc, time::Duration};

pub use {builder::SessionsBuilder, info::SessionInfo};

use crate::{
    Backend, EventKind, Events, Lifetime, Limits, OnReuse, Owner, Session, SessionError,
    SessionKey, SessionLimit,
    protocol::{self, Protocol},
};

/// The sessions of an application: a store, and the rules by which its sessions live.
///
/// The integration of an HTTP framework opens a [`Session`] here for each request that asks for one,
/// and [finishes](Session::finish) it before the response's head leaves.
///
/// A handle: clones are the same sessions.
///
/// # Examples
///
/// ```
/// use session_core::{Backend, Key, Lifetime, SessionError, Sessions};
///
/// const NAME: Key<String> = Key::new("name");
///
/// async fn handle(store: impl Backend) -> Result<(), Box<dyn std::error::Error>> {
///     let sessions = Sessions::builder(store).with_lifetime(Lifetime::strict()).build()?;
///     let session = sessions.open(["the cookie's value".as_bytes()]).await?;
///     session.set(NAME, "Ada")?;
///     let cookie = session.finish().await?;
///     # drop(cookie);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Sessions(Arc<Protocol>);

impl Sessions {
    /// The number of cookies of the session's name that are tried per request.
    pub const MAX_COOKIES: usize = protocol::MAX_COOKIES;

    /// The time for which a session's former key is remembered after a login or a rotation, for the
    /// requests that loaded the session before and commit after: 5 minutes.
    pub const ROTATION_WINDOW: Duration = protocol::ROTATION_WINDOW;

    /// The longest time for which a request holds a session's [lock](Session::locked): 10 minutes.
    pub const MAX_LEASE: Duration = protocol::MAX_LEASE;

    /// Creates sessions in this store, by the default rules.
    #[must_use]
    pub fn new(store: impl Backend) -> Self {
        SessionsBuilder::new(store).build_valid()
    }

    /// Begins to set the rules.
    #[must_use]
    pub fn builder(store: impl Backend) -> SessionsBuilder {
        SessionsBuilder::new(store)
    }

    /// Opens the session of a request, given the values of its cookies of the session's name.
    ///
    /// The first of at most [`MAX_COOKIES`](Self::MAX_COOKIES) that opens a live session is used. If
    /// none does, the session is empty, and a first commit gives it an ID of its own, never the ID that
    /// the client sent ([I3]). A malformed ID costs no I/O.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Store`] if the store failed: an outage is never "no session" ([I7]).
    /// An unreadable record is counted and counts as no session ([I11]).
    ///
    /// [I3]: crate::guarantees#i3-no-adopted-id
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    /// [I11]: crate::guarantees#i11-deployments-survive
    pub async fn open<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
    ) -> Result<Session, SessionError> {
        let lookup = self.0.open(cookies).await?;
        Ok(Session::new(&self.0, lookup))
    }

    /// Does the same as [`open`](Self::open) if that needs no I/O: for a request without a cookie, or
    /// one whose session the store can [read locally](crate::LocalReads). Returns `None` if the session
    /// has to be opened with `open`.
    ///
    /// If local reads can be stale, `is_behind` is called. If it returns `true`, they are not used, so
    /// that the client [reads its own writes](Session::read_your_writes).
    #[must_use]
    pub fn try_open_local<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        is_behind: impl FnOnce() -> bool,
    ) -> Option<Session> {
        let lookup = self.0.open_local(cookies, is_behind)?;
        Some(Session::new(&self.0, lookup))
    }

    /// Lists an owner's sessions, the last used first.
    ///
    /// Costs one round trip for the index, and one per 100 sessions.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyOwner`] or [`SessionError::TooLarge`] if the owner cannot be one,
    /// and [`SessionError::Store`] if the store failed. A session that cannot be read is counted and
    /// left out.
    pub async fn list(&self, owner: impl Into<Owner>) -> Result<Vec<SessionInfo>, SessionError> {
        let owner = Owner::checked(owner)?;
        let list = self.0.list(&owner).await?;
        let info = |(key, record)| SessionInfo { key, record, protocol: Arc::clone(&self.0) };
        Ok(list.into_iter().map(info).collect())
    }

    /// Revokes one session of an owner. Returns `true` if there was one.
    ///
    /// The key of another owner's session and an unknown key are answered alike, and nothing is
    /// touched, so the key may come from a form. A session that this version cannot read is revoked
    /// too. If the store's answer is lost, the operation is repeated once, and a session that is gone
    /// then counts as revoked by this call.
    ///
    /// # Errors
    ///
    /// The errors of [`list`](Self::list), and [`SessionError::Contended`] if the session gets one ID
    /// after the other.
    pub async fn revoke(
        &self,
        owner: impl Into<Owner>,
        key: SessionKey,
    ) -> Result<bool, SessionError> {
        let owner = Owner::checked(owner)?;
        let Some(family) = self.0.family_of(&owner, key).await? else { return Ok(false) };
        let revoked = self
            .0
            .revoke_where(&owner, |entry| entry.family == family, Some(EventKind::Revoked))
            .await?;
        Ok(revoked > 0)
    }

    /// Revokes all sessions of an owner, and returns their number: "sign out everywhere", or a locked
    /// account.
    ///
    /// Later requests find none of them, in any process, and requests under way store nothing any more
    /// ([I2]). A login whose session is not stored yet signs in after this.
    ///
    /// Costs one round trip for the index, and two per 100 sessions.
    ///
    /// # Errors
    ///
    /// The errors of [`revoke`](Self::revoke). Some of the sessions may be revoked then; a repetition
    /// revokes the rest.
    ///
    /// [I2]: crate::guarantees#i2-no-resurrection
    pub async fn revoke_all(&self, owner: impl Into<Owner>) -> Result<usize, SessionError> {
        let owner = Owner::checked(owner)?;
        self.0.revoke_where(&owner, |_| true, Some(EventKind::Revoked)).await
    }

    /// Revokes all sessions of a session's owner but that one, and returns their number: after a change
    /// of the password, for example.
    ///
    /// [Commits](Session::commit) the changes of the request first, so that a login in it counts. A
    /// session without an owner has no others.
    ///
    /// # Errors
    ///
    /// The errors of [`revoke_all`](Self::revoke_all) and of the commit. Returns
    /// [`SessionError::Ended`], and revokes nothing, if the session itself was ended.
    pub async fn revoke_others(&self, session: &Session) -> Result<usize, SessionError> {
        session.commit().await?;
        let (Some(owner), Some(key), Some(family)) =
            (session.owner(), session.key(), session.family())
        else {
            return Ok(0);
        };
        self.0.check_alive(key).await?;
        self.0.revoke_where(&owner, |entry| entry.family != family, Some(EventKind::Revoked)).await
    }

    /// Subscribes to the events of these sessions, as far as this process sees them.
    #[must_use]
    pub fn events(&self) -> Events {
        self.0.events.subscribe()
    }

    /// The default lifetime of a session.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.0.settings.lifetime
    }

    /// The default lifetime of a session without an owner.
    #[must_use]
    pub fn anonymous_lifetime(&self) -> Lifetime {
        self.0.settings.anonymous_lifetime
    }

    /// The limits of a session's size.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.0.settings.limits
    }

    /// The time for which a renewed session's former ID still opens it, after the new one was presented.
    #[must_use]
    pub fn renewal_grace(&self) -> Duration {
        self.0.settings.renewal_grace
    }

    /// The length of the lease of a session's lock.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.0.settings.lease
    }

    /// The limit of an owner's sessions, if there is one.
    #[must_use]
    pub fn session_limit(&self) -> Option<SessionLimit> {
        self.0.settings.session_limit
    }

    /// The reaction to an old ID that is presented after its grace.
    #[must_use]
    pub fn on_reuse(&self) -> OnReuse {
        self.0.settings.reuse
    }

    /// Returns `true` if a request that loaded the session before a login or rotation stores its values
    /// in the session after it.
    #[must_use]
    pub fn carries_over(&self) -> bool {
        self.0.settings.carries_over
    }

    /// The number of events that each subscriber may be behind.
    #[must_use]
    pub fn event_buffer(&self) -> usize {
        self.0.events.buffer()
    }

    /// The number of loads that met a record which could not be read.
    ///
    /// Worth an alert: some are expected after a deployment that was taken back, steady growth is not.
    #[must_use]
    pub fn corrupt_records(&self) -> u64 {
        self.0.corrupt_records()
    }

    /// The number of reads that met a value which is not of the type asked for.
    #[must_use]
    pub fn unreadable_values(&self) -> u64 {
        self.0.unreadable_values()
    }
}

// Here, as a session knows nothing of what is above it.
impl Session {
    /// The sessions of the application, to list and to revoke those of an owner.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions(Arc::clone(self.protocol()))
    }
}

impl<S: Backend> From<S> for Sessions {
    /// Sessions by the default rules.
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.0.store)
            .field("ids", &self.0.ids)
            .field("clock", &self.0.clock)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}
