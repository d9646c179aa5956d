use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::lock::Mutex;
use http::{HeaderMap, StatusCode};
use session_core::{
    CookieChange, Session, SessionError, SessionSource, Sessions, StoreError, StoreErrorKind,
};

use crate::{SessionCookie, headers};

/// The session of one request: extractors open the session, and the layer finishes it.
#[derive(Debug)]
pub(crate) struct RequestSession {
    settings: Arc<Settings>,
    /// The session, or the error of loading it. The first outcome counts for the whole request, so
    /// that all extractors and the response agree.
    outcome: OnceLock<Result<Session, StoreError>>,
    /// Held by the extractor that loads the session, while the others wait.
    loading: Mutex<()>,
    was_asked: AtomicBool,
}

impl RequestSession {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            outcome: OnceLock::new(),
            loading: Mutex::new(()),
            was_asked: AtomicBool::new(false),
        }
    }

    /// Returns `true` if the session is that of a layer with these settings.
    pub(crate) fn has_settings(&self, settings: &Arc<Settings>) -> bool {
        Arc::ptr_eq(&self.settings, settings)
    }

    /// Returns `true` if an extractor has asked for the session, even if it could not be loaded.
    pub(crate) fn was_asked(&self) -> bool {
        self.was_asked.load(Ordering::Relaxed)
    }

    /// Returns `true` if the session could not be loaded.
    pub(crate) fn has_failed(&self) -> bool {
        self.outcome.get().is_some_and(Result::is_err)
    }

    /// Returns the session if it was loaded.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.outcome.get()?.as_ref().ok()
    }

    /// Returns `true` if a response of this status stores nothing that was not committed before.
    pub(crate) fn aborts(&self, status: StatusCode, session: &Session) -> bool {
        if status.is_server_error() {
            !self.settings.commits_server_errors || session.has_failed_commit()
        } else {
            status.is_client_error() && session.has_failed_commit()
        }
    }

    /// Writes the change of the cookie, and the rules for caches, into the response.
    pub(crate) fn write_headers(
        &self,
        headers: &mut HeaderMap,
        session: &Session,
        change: &CookieChange,
    ) {
        headers::write(headers, &self.settings.cookie, change, session.read_your_writes());
    }

    /// Gives up the changes of a request that was dropped.
    pub(crate) fn close(&self) {
        if let Some(session) = self.session() {
            session.close();
        }
    }

    async fn load(&self, headers: &HeaderMap) -> Result<Session, StoreError> {
        let _loading = self.loading.lock().await;
        if let Some(outcome) = self.outcome.get() {
            return outcome.clone();
        }
        let Settings { sessions, cookie, .. } = &*self.settings;
        let outcome = sessions.open(cookie.values(headers)).await.map_err(|error| match error {
            SessionError::Store(error) => error,
            // Before the request has recorded a change, only the store can fail.
            other => StoreError::new(StoreErrorKind::Unavailable).with_source(other),
        });
        self.outcome.get_or_init(|| outcome).clone()
    }
}

impl SessionSource for RequestSession {
    fn try_open(&self, headers: &HeaderMap) -> Option<Result<Session, StoreError>> {
        self.was_asked.store(true, Ordering::Relaxed);
        if let Some(outcome) = self.outcome.get() {
            return Some(outcome.clone());
        }
        // If another extractor loads the session at the same time, the first outcome counts.
        let Settings { sessions, cookie, .. } = &*self.settings;
        let is_behind = || cookie.is_marked(headers);
        let session = sessions.try_open_local(cookie.values(headers), is_behind)?;
        Some(self.outcome.get_or_init(|| Ok(session)).clone())
    }

    fn open<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Session, StoreError>> + Send + 'a>> {
        Box::pin(self.load(headers))
    }
}

/// The settings of a layer, shared by all of its requests.
// The counts of handles change with every request and on every processor. They must not share a
// cache line with the fields that every request reads.
#[derive(Clone, Debug)]
#[repr(align(128))]
pub(crate) struct Settings {
    pub(crate) sessions: Sessions,
    pub(crate) cookie: SessionCookie,
    pub(crate) commits_server_errors: bool,
}
