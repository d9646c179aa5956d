use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use http::HeaderMap;
use session_core::{CookieChange, Session, SessionError, Sessions, StoreError, StoreErrorKind};
use tokio::sync::Mutex;

use crate::{SessionCookie, headers};

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    /// What came of loading the session. If that fails it has failed for the whole request: its handler sees one
    /// truth, and the response fits it.
    outcome: OnceLock<Result<Session, StoreError>>,
    /// Held by the one who loads it, if there are several.
    loading: Mutex<()>,
    asked: AtomicBool,
}

impl Slot {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        let (outcome, loading) = (OnceLock::new(), Mutex::const_new(()));
        Self { settings, outcome, loading, asked: AtomicBool::new(false) }
    }

    /// Loads the session when it is asked for the first time.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, StoreError> {
        self.asked.store(true, Ordering::Relaxed);
        let outcome = match self.outcome.get() {
            Some(outcome) => outcome,
            // Also while another one loads it: the first outcome is that of all.
            None => match self.open_without_io(headers) {
                Some(session) => self.outcome.get_or_init(|| Ok(session)),
                // Apart from the handler's future, which is moved about and would grow out of the sizes that
                // an allocator is quick with.
                None => Box::pin(self.load(headers)).await,
            },
        };
        outcome.as_ref().map_err(StoreError::clone)
    }

    fn open_without_io(&self, headers: &HeaderMap) -> Option<Session> {
        let Settings { sessions, cookie } = &*self.settings;
        sessions.open_without_io(cookie.values(headers), || cookie.is_marked(headers))
    }

    async fn load(&self, headers: &HeaderMap) -> &Result<Session, StoreError> {
        let _loading = self.loading.lock().await;
        if let Some(outcome) = self.outcome.get() {
            return outcome;
        }
        let Settings { sessions, cookie } = &*self.settings;
        let opened = sessions.open(cookie.values(headers)).await;
        let outcome = opened.map_err(|error| match error {
            SessionError::Store(error) => error,
            // The store is all that can fail before anything was recorded.
            other => StoreError::new(StoreErrorKind::Unavailable).with_source(other),
        });
        self.outcome.get_or_init(|| outcome)
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
