use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;
use session_core::{CookieChange, SessionError};

use crate::{error::failure_of_commit, headers, request_session::Slot};

pin_project! {
    /// The response of a service behind [`SessionLayer`](crate::SessionLayer): the service's own, after
    /// the session was committed.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, B> {
        #[pin]
        inner: F,
        slot: Arc<Slot>,
        finishing: Option<(Finish, Response<B>)>,
    }
}

/// Boxed, as it is needed only by requests that changed their session.
type Finish = Pin<Box<dyn Future<Output = Result<CookieChange, SessionError>> + Send>>;

impl<F, B> ResponseFuture<F, B> {
    pub(crate) fn new(inner: F, slot: Arc<Slot>) -> Self {
        Self { inner, slot, finishing: None }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (finish, _) = match this.finishing {
            Some(finishing) => finishing,
            None => {
                let mut response = ready!(this.inner.poll(context))?;
                let Some(session) = this.slot.opened() else {
                    // An outage that a handler answers itself is met by clients with a cookie only.
                    if this.slot.was_asked() {
                        headers::vary_by_cookie(response.headers_mut());
                    }
                    if this.slot.has_failed() {
                        headers::keep_out_of_caches(response.headers_mut());
                    }
                    return Poll::Ready(Ok(response));
                };
                if let Some(change) = session.finish_without_io() {
                    this.slot.tell(response.headers_mut(), session, &change);
                    return Poll::Ready(Ok(response));
                }
                let session = session.clone();
                let finish: Finish = Box::pin(async move { session.finish().await });
                this.finishing.insert((finish, response))
            }
        };
        let finished = ready!(finish.as_mut().poll(context));
        let (_, mut response) = this.finishing.take().expect("it was polled just now");
        let session = this.slot.opened().expect("it was finished");
        match finished {
            Ok(change) => this.slot.tell(response.headers_mut(), session, &change),
            // The handler said success of what is not stored: its response must not go out (I6).
            Err(error) => {
                response = failure_of_commit(&error);
                // What an earlier commit of the handler stored, the client still has to be told.
                this.slot.tell(response.headers_mut(), session, &session.untold_cookie());
            }
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
