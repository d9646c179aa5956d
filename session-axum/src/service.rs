use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use axum_core::response::{IntoResponse, Response};
use http::Request;
use session_core::{SessionExtension, SessionSource};
use tower_service::Service;

use crate::{ResponseFuture, request_session::RequestSession, settings::Settings};

/// The service that [`SessionLayer`](crate::SessionLayer) makes.
#[derive(Clone)]
pub struct SessionService<S> {
    inner: S,
    settings: Arc<Settings>,
}

impl<S> SessionService<S> {
    pub(crate) fn new(inner: S, settings: Arc<Settings>) -> Self {
        Self { inner, settings }
    }
}

/// The inner service may have any response that Axum takes. The responses of an Axum router keep their
/// body, without another allocation.
impl<S, B> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response: IntoResponse>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let session = RequestSession::new(Arc::clone(&self.settings), request.headers());
        let session = Arc::new(session);
        let source = Arc::clone(&session) as Arc<dyn SessionSource>;
        let slot = self.settings.config.slot;
        let outer = slot.insert(request.extensions_mut(), SessionExtension::new(source));
        if let Some(outer) = outer
            && let Some(session) = outer.downcast_ref::<RequestSession>()
            && session.is_of(&self.settings)
        {
            // The outer layer with the same session finishes the session.
            slot.insert(request.extensions_mut(), outer);
            return ResponseFuture::passing(self.inner.call(request));
        }
        ResponseFuture::new(self.inner.call(request), session)
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("inner", &self.inner).finish_non_exhaustive()
    }
}
