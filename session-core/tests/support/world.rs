//! An application on a store controlled by a test, and the browsers of its users.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use session_core::{
    AtLimit, Clock as _, CookieChange, Entry, EventKind, Events, Key, Lifetime, ManualClock, Owner,
    Session, SessionError, SessionId, SessionIndex as _, SessionKey, SessionLimit, Sessions,
    SessionsBuilder, Timestamp,
    testing::{Fault, Verb},
};

use super::{Peek as _, Probe, probe};

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) const VISITS: Key<u64> = Key::new("visits");
pub(crate) const NOTE: Key<String> = Key::new("note");
pub(crate) const TOKEN: Key<String> = Key::new("token");

/// An application's sessions on a store controlled by a test, and the browsers of its users.
pub(crate) struct World {
    pub(crate) store: Arc<Probe>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sessions: Sessions,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|sessions| sessions)
    }

    pub(crate) fn with_lifetime(lifetime: Lifetime) -> Self {
        Self::with(|sessions| sessions.with_lifetime(lifetime))
    }

    pub(crate) fn with(configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder) -> Self {
        let store = Arc::new(probe());
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
        Self { store, clock, sessions: configure(sessions).build().expect("the rules are valid") }
    }

    /// Returns an application that renews IDs of this age.
    pub(crate) fn renewed_after(age: Duration) -> Self {
        Self::with_lifetime(Lifetime::aal2().with_renew_after(age).expect("the age is valid"))
    }

    /// Returns an application with a session limit.
    pub(crate) fn limited(max: usize, at_limit: AtLimit) -> Self {
        let limit = SessionLimit::new(max, at_limit).expect("the limit is valid");
        Self::with(|sessions| sessions.with_session_limit(limit))
    }

    /// Returns a second process on the same store.
    pub(crate) fn other_process(&self) -> Self {
        self.other_process_with(|sessions| sessions.with_lifetime(self.sessions.lifetime()))
    }

    /// Returns a second process on the same store, with other settings.
    pub(crate) fn other_process_with(
        &self,
        configure: impl FnOnce(SessionsBuilder) -> SessionsBuilder,
    ) -> Self {
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
        Self { store, clock, sessions: configure(sessions).build().expect("the rules are valid") }
    }

    /// Returns a second process on the same store, with a session limit.
    pub(crate) fn with_limit(&self, max: usize, at_limit: AtLimit) -> Self {
        let limit = SessionLimit::new(max, at_limit).expect("the limit is valid");
        self.other_process_with(|sessions| sessions.with_session_limit(limit))
    }

    /// Opens the session of a request without a cookie.
    pub(crate) async fn anonymous(&self) -> Session {
        self.sessions.open([]).await.expect("nothing is loaded")
    }

    /// Opens the session of a request with a cookie.
    pub(crate) async fn open(&self, id: &SessionId) -> Session {
        self.try_open(id).await.expect("the store answers")
    }

    pub(crate) async fn try_open(&self, id: &SessionId) -> Result<Session, SessionError> {
        self.sessions.open([id.expose().as_bytes()]).await
    }

    /// Returns `true` if an ID opens a session.
    pub(crate) async fn opens(&self, id: &SessionId) -> bool {
        self.open(id).await.key().is_some()
    }

    /// Returns the ID of a browser that was here before: its session has one visit. Clears the
    /// recorded calls.
    pub(crate) async fn visitor(&self) -> SessionId {
        let session = self.anonymous().await;
        session.set(VISITS, 1).expect("it fits");
        let id = told(session.finish().await.expect("the store answers"));
        self.store.calls();
        id
    }

    /// Returns the ID of a signed-in browser.
    pub(crate) async fn user(&self, owner: &str) -> SessionId {
        let session = self.anonymous().await;
        session.set(VISITS, 1).expect("it fits");
        session.authenticate(owner).expect("it fits");
        let id = told(session.finish().await.expect("the store answers"));
        self.store.calls();
        id
    }

    /// Returns the ID of a browser that is signed in with the link `sid` = `1`.
    pub(crate) async fn linked_user(&self, owner: &str) -> SessionId {
        let id = self
            .begin(|session| {
                session.set(VISITS, 1)?;
                session.authenticate(owner)?;
                session.link("sid", "1")
            })
            .await;
        self.store.calls();
        id
    }

    /// Returns the keys in the list of the link `sid` = `1`.
    pub(crate) async fn linked(&self) -> Vec<SessionKey> {
        let list = self.sessions.list_linked("sid", "1").await.expect("the store answers");
        list.iter().map(|info| info.key()).collect()
    }

    /// Records a change in a request without a cookie. Returns the ID of the new session.
    pub(crate) async fn begin<T>(
        &self,
        record: impl FnOnce(&Session) -> Result<T, SessionError>,
    ) -> SessionId {
        let session = self.anonymous().await;
        record(&session).expect("it is recorded");
        told(session.finish().await.expect("it is stored"))
    }

    /// Signs `ada` in, in a request without a cookie.
    pub(crate) async fn sign_in(&self) -> Result<SessionId, SessionError> {
        let session = self.anonymous().await;
        sign_in(&session)?;
        session.finish().await.map(told)
    }

    /// Runs a request of a cookie without changes. Returns the change of the cookie.
    pub(crate) async fn read(&self, id: &SessionId) -> CookieChange {
        self.open(id).await.finish().await.expect("the store answers")
    }

    /// Records a change in a request with a cookie. Returns the outcome of its response.
    pub(crate) async fn try_change<T>(
        &self,
        id: &SessionId,
        record: impl FnOnce(&Session) -> Result<T, SessionError>,
    ) -> Result<CookieChange, SessionError> {
        let session = self.open(id).await;
        record(&session).expect("it is recorded");
        session.finish().await
    }

    /// Changes the session of a cookie in a request.
    pub(crate) async fn change<T>(
        &self,
        id: &SessionId,
        record: impl FnOnce(&Session) -> Result<T, SessionError>,
    ) {
        let _ = self.try_change(id, record).await.expect("it is stored");
    }

    /// Changes the session of a cookie in a request. Returns the ID in its response.
    pub(crate) async fn moved<T>(
        &self,
        id: &SessionId,
        record: impl FnOnce(&Session) -> Result<T, SessionError>,
    ) -> SessionId {
        told(self.try_change(id, record).await.expect("it is stored"))
    }

    pub(crate) async fn login(&self, id: &SessionId, owner: &str) -> SessionId {
        self.moved(id, |session| session.authenticate(owner)).await
    }

    pub(crate) async fn renew(&self, id: &SessionId) -> SessionId {
        self.moved(id, Session::renew).await
    }

    pub(crate) async fn rotate(&self, id: &SessionId) -> SessionId {
        self.moved(id, Session::rotate).await
    }

    /// Uses a session, and waits until its former ID no longer opens the session.
    pub(crate) async fn use_for_the_grace(&self, id: &SessionId) {
        let _ = self.read(id).await;
        self.wait(self.sessions.renewal_grace());
    }

    pub(crate) async fn log_out(&self, id: &SessionId) {
        self.change(id, Session::destroy).await;
    }

    /// Returns the keys in an owner's list of sessions.
    pub(crate) async fn listed(&self, owner: &str) -> Vec<SessionKey> {
        let list = self.sessions.list(owner).await.expect("the store answers");
        list.iter().map(|info| info.key()).collect()
    }

    /// Returns the keys in an owner's index.
    pub(crate) async fn entered(&self, owner: &str) -> Vec<SessionKey> {
        let entries = self.store.entries(&Owner::from(owner).key(), self.clock.now()).await;
        entries.expect("the store answers").iter().map(|entry| entry.key).collect()
    }

    /// Returns the number of keys in all indexes.
    pub(crate) async fn count_entered(&self) -> usize {
        self.store.count_entered(self.clock.now()).await
    }

    /// Makes a call and its repetition fail.
    pub(crate) fn fail_twice(&self, verb: Verb, fault: Fault) {
        self.store.fail_nth(1, verb, fault);
        self.store.fail_nth(2, verb, fault);
    }

    /// Breaks a move off after its new record is stored, and before its tombstone.
    pub(crate) async fn break_off(&self, id: &SessionId, by: Move) {
        self.fail_twice(Verb::Commit, Fault::UNSENT);
        self.try_change(id, by).await.expect_err("the store does not answer");
    }

    /// Drops a request while the store commits.
    pub(crate) async fn drop_in_commit(&self, session: &Session) {
        self.store.before(Verb::Commit, std::future::pending);
        assert!(session.finish().now_or_never().is_none(), "the store does not answer");
    }

    /// Returns the stored entry of an ID.
    pub(crate) async fn stored(&self, id: &SessionId) -> Option<Entry> {
        self.store.peek(id.key(), self.clock.now()).await
    }

    /// Returns the number of live sessions in the store, and the number of tombstones.
    pub(crate) async fn count(&self) -> (usize, usize) {
        let all = self.store.peek_all(self.clock.now()).await;
        let live = all.iter().filter(|(_, entry)| matches!(entry, Entry::Session(_))).count();
        (live, all.len() - live)
    }

    /// Returns the present instant.
    pub(crate) fn sessions_now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn wait(&self, span: Duration) {
        self.clock.advance(span);
    }
}

/// A change that gives a session another ID.
pub(crate) type Move = fn(&Session) -> Result<(), SessionError>;

/// The moves that close the former ID: a login of `ada` and a rotation.
pub(crate) const CLOSING: [Move; 2] = [sign_in, Session::rotate];

/// All moves.
pub(crate) const MOVES: [Move; 3] = [sign_in, Session::rotate, Session::renew];

/// Records a login of `ada`.
pub(crate) fn sign_in(session: &Session) -> Result<(), SessionError> {
    session.authenticate("ada")
}

/// Finishes a request. Returns the ID in its response.
pub(crate) async fn finish(session: Session) -> SessionId {
    told(session.finish().await.expect("it is stored"))
}

pub(crate) fn keys(ids: &[&SessionId]) -> Vec<SessionKey> {
    ids.iter().map(|id| id.key()).collect()
}

/// Returns the kinds of the events since the last call.
pub(crate) fn kinds(events: &mut Events) -> Vec<EventKind> {
    std::iter::from_fn(|| events.try_next()).map(|event| event.kind).collect()
}

/// Returns the ID in the response to the browser.
pub(crate) fn told(change: CookieChange) -> SessionId {
    match change {
        CookieChange::Set { id, .. } => id,
        other => panic!("the response tells no ID: {other:?}"),
    }
}

/// Returns the whole content of the store, as stored by a store of bytes.
pub(crate) async fn all_bytes_of(world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, entry) in world.store.peek_all(world.clock.now()).await {
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend(entry.encode());
    }
    bytes
}
