use std::sync::Arc;

use async_lock::OnceCell;
use http::HeaderMap;
use session_core::{Session, SessionError, Sessions};

use crate::SessionCookie;

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    session: OnceCell<Session>,
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
            session: OnceCell::new(),
        }
    }

    /// Loads the session when it is asked for the first time.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, SessionError> {
        let Settings { sessions, cookie } = &*self.settings;
        self.session
            .get_or_try_init(|| sessions.open(cookie.values(headers)))
            .await
    }

    /// The session, if anybody asked for it.
    pub(crate) fn opened(&self) -> Option<&Session> {
        self.session.get()
    }
}
