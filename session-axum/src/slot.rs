use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_lock::OnceCell;
use http::HeaderMap;
use session_core::{Session, SessionError, Sessions};

use crate::SessionCookie;

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    session: OnceCell<Session>,
    asked: AtomicBool,
}

/// What all requests of one layer share.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) cookie: SessionCookie,
}

impl Slot {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, session: OnceCell::new(), asked: AtomicBool::new(false) }
    }

    /// Loads the session when it is asked for the first time.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, SessionError> {
        self.asked.store(true, Ordering::Relaxed);
        let Settings { sessions, cookie } = &*self.settings;
        self.session.get_or_try_init(|| sessions.open(cookie.values(headers))).await
    }

    /// Tells whether anybody asked for the session, also if it could not be loaded.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The session, if it was loaded.
    pub(crate) fn opened(&self) -> Option<&Session> {
        self.session.get()
    }
}
