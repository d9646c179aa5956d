use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures_util::lock::Mutex;
use http::HeaderMap;
use session_core::{Session, SessionError, Sessions};

use crate::SessionCookie;

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    session: OnceLock<Session>,
    opening: Mutex<()>,
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
        Self {
            settings,
            session: OnceLock::new(),
            opening: Mutex::new(()),
            asked: AtomicBool::new(false),
        }
    }

    /// Loads the session when it is asked for the first time.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, SessionError> {
        self.asked.store(true, Ordering::Relaxed);
        let _opening = self.opening.lock().await;
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        let Settings { sessions, cookie } = &*self.settings;
        // Apart from the handler's future, which is moved about and would grow out of the sizes that an
        // allocator is quick with.
        let session = Box::pin(sessions.open(cookie.values(headers))).await?;
        Ok(self.session.get_or_init(|| session))
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
