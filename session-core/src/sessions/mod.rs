//! The sessions of an application.

mod builder;
mod info;

use std::{fmt, sync::Arc, time::Duration};

pub use {builder::SessionsBuilder, info::SessionInfo};

use crate::{
    Backend, Events, IndexEntry, IndexKey, Lifetime, Limits, OnReuse, Owner, Session, SessionError,
    SessionKey, SessionLimit, StoreError,
    metrics::Operation,
    protocol::{self, CookieLookup, Protocol},
    record::Realm,
};

/// The sessions of an application: a store, and the settings of its sessions.
///
/// The integration of an HTTP framework opens a [`Session`] for each request that uses its session,
/// and [finishes](Session::finish) the session before the response's head leaves.
///
/// This is a handle: clones are the same sessions.
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
pub struct Sessions {
    protocol: Arc<Protocol>,
    realm: Realm,
}

impl Sessions {
    /// The number of cookies of the session's name that are looked up per request.
    pub const MAX_COOKIES: usize = protocol::MAX_COOKIES;

    /// The lifetime of the tombstone that a login or a rotation leaves under a session's former
    /// key: 5 minutes. Requests that loaded the session before the move find the tombstone when
    /// they commit.
    pub const ROTATION_WINDOW: Duration = protocol::ROTATION_WINDOW;

    /// The longest time for which a request holds a session's [lock](Session::locked): 10 minutes.
    pub const MAX_LEASE: Duration = protocol::MAX_LEASE;

    /// Creates sessions in this store, with the default settings.
    #[must_use]
    pub fn new(store: impl Backend) -> Self {
        SessionsBuilder::new(store).build_valid()
    }

    /// Returns a builder, to change the settings.
    #[must_use]
    pub fn builder(store: impl Backend) -> SessionsBuilder {
        SessionsBuilder::new(store)
    }

    /// Returns the same sessions in a realm: an ID of one realm opens nothing in another.
    ///
    /// The realms share everything else: the store, the settings, the owners, their
    /// [list](Self::list) and their [limit](SessionLimit). [`revoke_all`](Self::revoke_all) revokes
    /// an owner's sessions of all realms. A realm inside of a realm is a realm of its own, and every
    /// text is the name of one. If the name changes, the sessions of the realm open no more.
    ///
    /// An integration has one realm per transport and per name of a cookie, so that the ID of a
    /// visitor opens nothing as the ID of an administrator.
    ///
    /// # Security
    ///
    /// If the number 7 is one user in one realm and another user in another, the two share a list of
    /// sessions. Such applications need two stores, or two prefixes in one store.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_core::{Backend, Sessions};
    /// fn realms(store: impl Backend) -> (Sessions, Sessions) {
    ///     let sessions = Sessions::new(store);
    ///     (sessions.in_realm("shop"), sessions.in_realm("administration"))
    /// }
    /// ```
    #[must_use]
    pub fn in_realm(&self, name: &str) -> Self {
        Self { protocol: Arc::clone(&self.protocol), realm: self.realm.inner(name) }
    }

    /// Returns `true` if both are handles of the same sessions, in the same realm.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.protocol, &other.protocol) && self.realm == other.realm
    }

    /// Opens the session of a request, given the values of its cookies of the session's name.
    ///
    /// Of at most [`MAX_COOKIES`](Self::MAX_COOKIES) cookies, the first that opens a live session
    /// is used. Otherwise the session is empty, and its first commit creates a new ID, never the ID
    /// that the client sent ([I3]). A malformed ID is refused without I/O.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Store`] if the store failed: an outage never looks like a missing
    /// session ([I7]). An unreadable record is [counted](Self::corrupt_records), and treated as a
    /// missing session ([I11]).
    ///
    /// [I3]: crate::guarantees#i3-no-adopted-id
    /// [I7]: crate::guarantees#i7-an-outage-is-not-a-logout
    /// [I11]: crate::guarantees#i11-deployments-survive
    pub async fn open<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
    ) -> Result<Session, SessionError> {
        let lookup = self
            .protocol
            .metrics
            .measured(Operation::Open, self.protocol.open(self.realm, cookies))
            .await?;
        self.protocol.metrics.on_open(|| lookup.result());
        Ok(Session::new(&self.protocol, self.realm, lookup))
    }

    /// Does the same as [`open`](Self::open) without I/O: for a request without a cookie, or with a
    /// session that the store can [read locally](crate::LocalReads). Returns `None` if the caller
    /// has to call `open`.
    ///
    /// If local reads can be stale, `is_behind` is called. If `is_behind` returns `true`, the local
    /// reads are skipped, so that the client [reads its own writes](Session::read_your_writes).
    #[must_use]
    pub fn try_open_local<'c>(
        &self,
        cookies: impl IntoIterator<Item = &'c [u8]>,
        is_behind: impl FnOnce() -> bool,
    ) -> Option<Session> {
        let mut lookup = CookieLookup::default();
        self.protocol.open_local(&mut lookup, self.realm, cookies, is_behind)?;
        self.protocol.metrics.on_open(|| lookup.result());
        Some(Session::new(&self.protocol, self.realm, lookup))
    }

    /// Returns an owner's sessions, the last used first.
    ///
    /// The call costs one round trip for the index, and one per 100 sessions.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyOwner`] or [`SessionError::TooLarge`] if the owner is empty or
    /// too long, and [`SessionError::Store`] if the store failed. A session that cannot be read is
    /// [counted](Self::corrupt_records) and left out.
    pub async fn list(&self, owner: impl Into<Owner>) -> Result<Vec<SessionInfo>, SessionError> {
        let owner = Owner::checked(owner)?;
        self.list_of(&owner.key()).await
    }

    /// Returns the sessions with a [link](Session::link), the last used first. The sessions may
    /// belong to several owners.
    ///
    /// The call costs as many round trips as [`list`](Self::list).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyLink`] or [`SessionError::TooLarge`] if the name or the value is
    /// empty or too long, and [`SessionError::Store`] if the store failed. A session that cannot be
    /// read is [counted](Self::corrupt_records) and left out.
    pub async fn list_linked(
        &self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<Vec<SessionInfo>, SessionError> {
        let link = IndexKey::of_link(name, value.as_ref())?;
        self.list_of(&link).await
    }

    async fn list_of(&self, index: &IndexKey) -> Result<Vec<SessionInfo>, SessionError> {
        let info = |key, record| SessionInfo { key, record, protocol: Arc::clone(&self.protocol) };
        let listing = self.protocol.list(index, info);
        Ok(self.protocol.metrics.measured(Operation::List, listing).await?)
    }

    /// Revokes one session of an owner. Returns `true` if the session existed.
    ///
    /// The key may come from a form. For an unknown key, and for the key of another owner's
    /// session, the call returns `false` and revokes nothing. A session that this version cannot
    /// read is revoked too. If the store's answer is lost, the operation is repeated once. If the
    /// session is gone then, it counts as revoked by this call.
    ///
    /// # Errors
    ///
    /// The errors of [`list`](Self::list), and [`SessionError::Contended`] if the session receives
    /// one new ID after the other.
    pub async fn revoke(
        &self,
        owner: impl Into<Owner>,
        key: SessionKey,
    ) -> Result<bool, SessionError> {
        let owner = Owner::checked(owner)?;
        let index = owner.key();
        let Some(family) = self.protocol.family_of(&index, key).await? else { return Ok(false) };
        let is_selected = |entry: &IndexEntry| entry.family == family;
        Ok(self.revoke_where(&index, Some(&owner), is_selected).await? > 0)
    }

    /// Revokes the session of a key, whatever its owner: for a program of the operator. Returns
    /// `true` if the session existed.
    ///
    /// A session that this version cannot read is revoked too.
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::Store`] if the store failed, and [`SessionError::Contended`] if the
    /// session receives one new ID after the other.
    ///
    /// # Security
    ///
    /// The call checks no owner. For a key from a user's form, call [`revoke`](Self::revoke), or one
    /// user could sign out another.
    pub async fn revoke_any(&self, key: SessionKey) -> Result<bool, SessionError> {
        self.protocol.metrics.measured(Operation::Revoke, self.protocol.revoke_any(key)).await
    }

    /// Revokes all sessions of an owner, and returns their number: "sign out everywhere", or a
    /// locked account.
    ///
    /// The sessions are gone for later requests in all processes, and requests under way cannot
    /// store changes any more ([I2]). A login whose session is not stored yet counts as later, and
    /// succeeds.
    ///
    /// The call costs one round trip for the index, and two per 100 sessions.
    ///
    /// # Errors
    ///
    /// The errors of [`revoke`](Self::revoke). After an error, some of the sessions may be revoked.
    /// A repetition revokes the others.
    ///
    /// [I2]: crate::guarantees#i2-no-resurrection
    pub async fn revoke_all(&self, owner: impl Into<Owner>) -> Result<usize, SessionError> {
        let owner = Owner::checked(owner)?;
        self.revoke_where(&owner.key(), Some(&owner), |_| true).await
    }

    /// Revokes all sessions with a [link](Session::link), and returns their number: the back-channel
    /// logout of OpenID Connect, for example.
    ///
    /// The promises and the costs are those of [`revoke_all`](Self::revoke_all).
    ///
    /// # Errors
    ///
    /// The errors of [`list_linked`](Self::list_linked), and [`SessionError::Contended`] if a session
    /// receives one new ID after the other. After an error, some of the sessions may be revoked. A
    /// repetition revokes the others.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_core::{SessionError, Sessions};
    ///
    /// /// `iss` and `sid` are claims of a logout token whose signature has been checked.
    /// async fn end_linked(sessions: &Sessions, iss: &str, sid: &str) -> Result<(), SessionError> {
    ///     sessions.revoke_linked("sid", format!("{iss} {sid}")).await?;
    ///     Ok(())
    /// }
    /// ```
    pub async fn revoke_linked(
        &self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<usize, SessionError> {
        let link = IndexKey::of_link(name, value.as_ref())?;
        self.revoke_where(&link, None, |_| true).await
    }

    /// Revokes all other sessions of a session's owner, and returns their number: after a change of
    /// the password, for example.
    ///
    /// [Commits](Session::commit) the changes of the request first, so that a login of the request
    /// counts. For a session without an owner, the number is zero.
    ///
    /// # Errors
    ///
    /// The errors of [`revoke_all`](Self::revoke_all) and of the commit. If the session itself was
    /// ended, returns [`SessionError::Ended`], and all sessions stay.
    pub async fn revoke_others(&self, session: &Session) -> Result<usize, SessionError> {
        session.commit().await?;
        let (Some(owner), Some(key), Some(family)) =
            (session.owner(), session.key(), session.family())
        else {
            return Ok(0);
        };
        self.protocol.check_alive(key).await?;
        let is_selected = |entry: &IndexEntry| entry.family != family;
        self.revoke_where(&owner.key(), Some(&owner), is_selected).await
    }

    async fn revoke_where(
        &self,
        index: &IndexKey,
        owner: Option<&Owner>,
        is_selected: impl Fn(&IndexEntry) -> bool,
    ) -> Result<usize, SessionError> {
        let revoking = self.protocol.revoke_where(index, owner, is_selected);
        self.protocol.metrics.measured(Operation::Revoke, revoking).await
    }

    /// Checks that the store answers: for the readiness of a server, by which a load balancer sends
    /// requests to other servers meanwhile. Costs one round trip, and changes nothing.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if a session could not be read at the moment.
    ///
    /// # Examples
    ///
    /// ```
    /// # use session_core::Sessions;
    /// async fn is_ready(sessions: &Sessions) -> bool {
    ///     sessions.ping().await.is_ok()
    /// }
    /// ```
    pub async fn ping(&self) -> Result<(), StoreError> {
        (*self.protocol.store).ping(self.protocol.now()).await
    }

    /// Subscribes to the events of these sessions that occur in this process.
    #[must_use]
    pub fn events(&self) -> Events {
        self.protocol.events.subscribe()
    }

    /// Returns the default lifetime of a session.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.protocol.settings.lifetime
    }

    /// Returns the default lifetime of a session without an owner.
    #[must_use]
    pub fn anonymous_lifetime(&self) -> Lifetime {
        self.protocol.settings.anonymous_lifetime
    }

    /// Returns the limits of a session's size.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.protocol.settings.limits
    }

    /// Returns the time for which a renewed session's former ID still opens the session, after a
    /// client has presented the new ID.
    #[must_use]
    pub fn renewal_grace(&self) -> Duration {
        self.protocol.settings.renewal_grace
    }

    /// Returns the length of the lease of a session's lock.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.protocol.settings.lease
    }

    /// Returns the longest time between two loads by a [`Live`](crate::Live) connection.
    #[must_use]
    pub fn live_interval(&self) -> Duration {
        self.protocol.settings.live_interval
    }

    /// Returns the limit of an owner's sessions, if set.
    #[must_use]
    pub fn session_limit(&self) -> Option<SessionLimit> {
        self.protocol.settings.session_limit
    }

    /// Returns the reaction to an old ID that is presented after its grace.
    #[must_use]
    pub fn on_reuse(&self) -> OnReuse {
        self.protocol.settings.reuse
    }

    /// Returns `true` if a request that loaded the session before a login or rotation stores its
    /// values in the session after it.
    #[must_use]
    pub fn carries_over(&self) -> bool {
        self.protocol.settings.carries_over
    }

    /// Returns the number of events that each subscriber may be behind.
    #[must_use]
    pub fn event_buffer(&self) -> usize {
        self.protocol.events.buffer()
    }

    /// Returns the number of loads of unreadable records.
    ///
    /// Steady growth is worth an alert. After a deployment that was rolled back, some unreadable
    /// records are normal.
    #[must_use]
    pub fn corrupt_records(&self) -> u64 {
        self.protocol.corrupt_records()
    }

    /// Returns the number of reads of a value whose type or format is not the key's.
    #[must_use]
    pub fn unreadable_values(&self) -> u64 {
        self.protocol.unreadable_values()
    }
}

// The method is in this module because the module of `Session` is independent of the modules above
// it.
impl Session {
    /// Returns the sessions of the application, to list or revoke the sessions of an owner.
    #[must_use]
    pub fn sessions(&self) -> Sessions {
        Sessions { protocol: Arc::clone(self.protocol()), realm: self.realm() }
    }
}

impl<S: Backend> From<S> for Sessions {
    /// Creates sessions with the default settings.
    fn from(store: S) -> Self {
        Self::new(store)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.protocol.store)
            .field("ids", &self.protocol.ids)
            .field("clock", &self.protocol.clock)
            .field("settings", &self.protocol.settings)
            .finish_non_exhaustive()
    }
}
