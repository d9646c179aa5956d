use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum_core::response::{IntoResponse, Response};
use pin_project_lite::pin_project;
use session_core::{Session, SessionError};

use crate::{headers, request_session::RequestSession};

pin_project! {
    /// The response of a service behind [`SessionLayer`](crate::SessionLayer), after the commit of
    /// the session.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, because the client has gone away for example, the changes that
    /// were not committed are given up.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        handling: F,
        // `None` if another layer finishes the session.
        request: Option<Arc<RequestSession>>,
        progress: Progress,
    }

    impl<F> PinnedDrop for ResponseFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(request) = this.request
                && !matches!(this.progress, Progress::Done)
            {
                request.close();
            }
        }
    }
}

enum Progress {
    /// The service handles the request.
    Handling,
    /// The response waits for the commit.
    Finishing(Finish),
    Done,
}

/// A commit that needs I/O, boxed because requests without changes seldom need one.
type Finish = Pin<Box<dyn Future<Output = Response> + Send>>;

impl<F> ResponseFuture<F> {
    pub(crate) fn new(handling: F, request: Arc<RequestSession>) -> Self {
        Self { handling, request: Some(request), progress: Progress::Handling }
    }

    /// Creates the future of a layer inside of the same layer: it passes the response on.
    pub(crate) fn passing(handling: F) -> Self {
        Self { handling, request: None, progress: Progress::Handling }
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<R, E>>,
    R: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(request) = this.request else {
            return this.handling.poll(context).map_ok(IntoResponse::into_response);
        };
        if let Progress::Handling = this.progress {
            let mut response = ready!(this.handling.poll(context))?.into_response();
            let Some(session) = request.session() else {
                if request.was_asked() {
                    request.vary(response.headers_mut());
                }
                if request.has_failed() {
                    request.write_failure(&mut response);
                }
                request.draw_error(&mut response);
                *this.progress = Progress::Done;
                return Poll::Ready(Ok(response));
            };
            let change = match request.aborts(&response, session) {
                true => Some(session.abort()),
                false => session.try_finish(),
            };
            if let Some(change) = change {
                request.draw_error(&mut response);
                request.write(&mut response, session, &change);
                *this.progress = Progress::Done;
                return Poll::Ready(Ok(response));
            }
            let finish = finish(Arc::clone(request), session.clone(), response);
            *this.progress = Progress::Finishing(finish);
        }
        let response = match this.progress {
            Progress::Finishing(finish) => ready!(finish.as_mut().poll(context)),
            Progress::Handling | Progress::Done => panic!("polled after completion"),
        };
        *this.progress = Progress::Done;
        Poll::Ready(Ok(response))
    }
}

/// Commits the session, and returns the response with the client's cookie.
fn finish(request: Arc<RequestSession>, session: Session, mut response: Response) -> Finish {
    // A block, because the future of an `async fn` would hold its arguments twice.
    Box::pin(async move {
        let change = match session.finish().await {
            Ok(change) => change,
            // The handler's response reports changes that are not stored, so an error replaces it
            // (I6). An earlier commit of the handler may have given the session an ID.
            Err(error) => {
                replace(&mut response, error);
                request.draw_error(&mut response);
                session.pending_cookie()
            }
        };
        request.write(&mut response, &session, &change);
        response
    })
}

/// Replaces a response by the one to a failed commit. The headers of inner layers stay.
fn replace(response: &mut Response, error: SessionError) {
    let (failure, body) = error.into_response().into_parts();
    *response.status_mut() = failure.status;
    *response.body_mut() = body;
    response.extensions_mut().extend(failure.extensions);
    let headers = response.headers_mut();
    headers::remove_content(headers);
    headers::forbid_caching(headers);
    for (name, value) in &failure.headers {
        headers.insert(name, value.clone());
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
