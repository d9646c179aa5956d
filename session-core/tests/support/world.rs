use std::{sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Entry, Key, Lifetime, ManualClock, Session, SessionError,
    SessionId, SessionLimit, Sessions, SessionsBuilder, Timestamp,
};

use super::{Peek as _, Probe, probe};

pub(crate) const VISITS: Key<u64> = Key::new("visits");
pub(crate) const NOTE: Key<String> = Key::new("note");

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
