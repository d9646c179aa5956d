use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::HeaderMap;
use session_core::{CookieChange, Session, SessionError, Sessions, StoreError, StoreErrorKind};
use tokio::sync::OnceCell;

use crate::{SessionCookie, headers};

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    /// What came of loading the session. If that fails it has failed for the whole request: its handler sees one
    /// truth, and the response fits it.
    outcome: OnceCell<Result<Session, StoreError>>,
    asked: AtomicBool,
}

impl Slot {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, outcome: OnceCell::new(), asked: AtomicBool::new(false) }
    }

    /// Loads the session when it is asked for the first time.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, StoreError> {
        self.asked.store(true, Ordering::Relaxed);
        self.outcome.get_or_init(|| self.load(headers)).await.as_ref().map_err(StoreError::clone)
    }

    async fn load(&self, headers: &HeaderMap) -> Result<Session, StoreError> {
        let Settings { sessions, cookie } = &*self.settings;
        let is_marked = || cookie.is_marked(headers);
        if let Some(session) = sessions.open_without_io(cookie.values(headers), is_marked) {
            return Ok(session);
        }
        // Apart from the handler's future, which is moved about and would grow out of the sizes that an
        // allocator is quick with.
        let opened = Box::pin(sessions.open(cookie.values(headers))).await;
        opened.map_err(|error| match error {
            SessionError::Store(error) => error,
            // The store is all that can fail before anything was recorded.
            other => StoreError::new(StoreErrorKind::Unavailable).with_source(other),
        })
    }

    /// Tells the client, and the caches on the way, what came of its session.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, session: &Session, change: &CookieChange) {
        headers::write(headers, &self.settings.cookie, change, session.marker());
    }

    /// Tells whether the session was asked for and could not be loaded.
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.get().is_some_and(Result::is_err)
    }

    /// Tells whether anybody asked for the session, also if it could not be loaded.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The session, if it was loaded.
    pub(crate) fn opened(&self) -> Option<&Session> {
        self.outcome.get()?.as_ref().ok()
    }
}

/// What all requests of one layer share. Counting who holds it, with every request and on every processor, must
/// not take what is in here out of the processors' caches.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Settings {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) cookie: SessionCookie,
}
