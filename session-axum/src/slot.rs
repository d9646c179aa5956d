use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures_util::lock::Mutex;
use http::HeaderMap;
use session_core::{CookieChange, Session, SessionError, Sessions, StoreError, StoreErrorKind};

use crate::{SessionCookie, headers};

/// What the layer leaves in a request for whoever asks for the session, and looks at afterwards.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) settings: Arc<Settings>,
    session: OnceLock<Session>,
    /// Boxed, as few requests have one.
    failure: OnceLock<Box<Failure>>,
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
            failure: OnceLock::new(),
            opening: Mutex::new(()),
            asked: AtomicBool::new(false),
        }
    }

    /// Loads the session when it is asked for the first time. If that fails it has failed for the whole
    /// request: its handler sees one truth, and the response fits it.
    pub(crate) async fn open(&self, headers: &HeaderMap) -> Result<&Session, StoreError> {
        self.asked.store(true, Ordering::Relaxed);
        let _opening = self.opening.lock().await;
        if let Some(session) = self.session.get() {
            return Ok(session);
        }
        if let Some(failure) = self.failure.get() {
            return Err(failure.again());
        }
        let Settings { sessions, cookie } = &*self.settings;
        // Apart from the handler's future, which is moved about and would grow out of the sizes that an
        // allocator is quick with.
        let opening = async {
            let ids = cookie.values(headers);
            if sessions.keeps_copies() && !cookie.is_marked(headers) {
                sessions.open_recent(ids).await
            } else {
                sessions.open(ids).await
            }
        };
        match Box::pin(opening).await {
            Ok(session) => Ok(self.session.get_or_init(|| session)),
            Err(error) => {
                let error = match error {
                    SessionError::Store(error) => error,
                    // The store is all that can fail before anything was recorded.
                    other => StoreError::new(StoreErrorKind::Unavailable).with_source(other),
                };
                let _ = self.failure.set(Box::new(Failure::of(&error)));
                Err(error)
            }
        }
    }

    /// Tells the client, and the caches on the way, what came of its session.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, session: &Session, change: &CookieChange) {
        headers::write(headers, &self.settings.cookie, change, session.marker());
    }

    /// Tells whether the session was asked for and could not be loaded.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
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

/// Why a session could not be loaded, for those who ask later.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: StoreErrorKind,
    source: Option<String>,
}

impl Failure {
    pub(crate) fn of(error: &StoreError) -> Self {
        let source = std::error::Error::source(error).map(ToString::to_string);
        Self { kind: error.kind(), source }
    }

    /// The error once more.
    pub(crate) fn again(&self) -> StoreError {
        let error = StoreError::new(self.kind);
        match &self.source {
            Some(source) => error.with_source(source.clone()),
            None => error,
        }
    }
}
