use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum_core::response::Response;
use futures_util::lock::Mutex;
use http::HeaderMap;
use session_core::{
    CookieChange, Session, SessionError, SessionSource, StoreError, StoreErrorKind,
};

use crate::{error_page::ErrorFormat, settings::Settings, transport::Channel};

/// The session of one request: extractors open the session, and the layer finishes it.
#[derive(Debug)]
pub(crate) struct RequestSession {
    settings: Arc<Settings>,
    is_bearer_chosen: bool,
    /// The format for the error page of the settings.
    error_format: ErrorFormat,
    /// The session, or the error of loading it. The first outcome counts for the whole request, so
    /// that all extractors and the response agree.
    outcome: OnceLock<Result<Session, StoreError>>,
    /// Held by the extractor that loads the session, while the others wait.
    loading: Mutex<()>,
    was_asked: AtomicBool,
}

impl RequestSession {
    pub(crate) fn new(settings: Arc<Settings>, headers: &HeaderMap) -> Self {
        Self {
            is_bearer_chosen: settings.is_bearer_chosen(headers),
            error_format: match settings.config.error_page {
                Some(_) => ErrorFormat::of(headers),
                None => ErrorFormat::Text,
            },
            settings,
            outcome: OnceLock::new(),
            loading: Mutex::new(()),
            was_asked: AtomicBool::new(false),
        }
    }

    /// Returns `true` if the session is that of a layer with these settings, or with equal ones.
    pub(crate) fn is_of(&self, settings: &Settings) -> bool {
        self.settings.is_same(settings)
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

    /// Returns `true` if a response gives the uncommitted changes up.
    pub(crate) fn aborts(&self, response: &Response, session: &Session) -> bool {
        self.settings.aborts(response, session)
    }

    /// Writes the change of the client's ID, and the rules for caches, into the response.
    pub(crate) fn write(&self, response: &mut Response, session: &Session, change: &CookieChange) {
        self.channel().write(response, session, change);
    }

    /// Writes the rules for caches into the response, if the session could not be loaded.
    pub(crate) fn write_failure(&self, response: &mut Response) {
        self.channel().write_failure(response);
    }

    /// Draws the application's page in place of the text of a session's error.
    pub(crate) fn draw_error(&self, response: &mut Response) {
        if let Some(page) = &self.settings.config.error_page {
            page.draw(response, self.error_format);
        }
    }

    /// Writes the headers of the request on which the response depends into its `Vary`.
    pub(crate) fn vary(&self, headers: &mut HeaderMap) {
        self.channel().vary(headers);
    }

    /// Gives up the changes of a request that was dropped.
    pub(crate) fn close(&self) {
        if let Some(session) = self.session() {
            session.close();
        }
    }

    fn channel(&self) -> &Channel {
        self.settings.channel(self.is_bearer_chosen)
    }

    async fn load(&self, headers: &HeaderMap) -> Result<Session, StoreError> {
        let _loading = self.loading.lock().await;
        if let Some(outcome) = self.outcome.get() {
            return outcome.clone();
        }
        let outcome = self.channel().open(headers).await.map_err(|error| match error {
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
        let session = self.channel().try_open_local(headers)?;
        Some(self.outcome.get_or_init(|| Ok(session)).clone())
    }

    fn open<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Session, StoreError>> + Send + 'a>> {
        Box::pin(self.load(headers))
    }
}
