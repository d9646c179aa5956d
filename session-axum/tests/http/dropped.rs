//! Requests that are dropped before their response: the client has gone away, or a timeout outside
//! of the layer has fired.

use std::sync::{Arc, Mutex, Weak};

use axum::{
    Router, body::Body, extract::FromRequestParts as _, http::Request, response::Response,
    routing::post,
};
use futures_util::future::{Either, select};
use session_axum::{Session, SessionError, SessionLayer};
use session_core::testing::Verb;
use tokio::{sync::Notify, task::JoinHandle};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{COUNT, Site, StoreControl, settle};

/// A handler that records an update whose closure holds the session, and its gates.
#[derive(Default)]
struct Handler {
    /// Lives as long as the closure.
    closure: Mutex<Weak<()>>,
    has_recorded: Notify,
    may_answer: Notify,
}

impl Handler {
    fn record(&self, session: &Session) -> Result<(), SessionError> {
        let (held, flag) = (session.clone(), Arc::new(()));
        *self.closure.lock().unwrap() = Arc::downgrade(&flag);
        session.update(COUNT, move |count| {
            let _ = (&held, &flag);
            *count += 1;
        })?;
        self.has_recorded.notify_one();
        Ok(())
    }

    fn is_freed(&self) -> bool {
        self.closure.lock().unwrap().strong_count() == 0
    }
}

fn site() -> (Site, Arc<Handler>) {
    let handler = Arc::<Handler>::default();
    let inside = Arc::clone(&handler);
    let slow = async move |session: Session| {
        inside.record(&session)?;
        inside.may_answer.notified().await;
        Ok::<_, SessionError>("counted")
    };
    (Site::with_routes(Router::new().route("/slow", post(slow))), handler)
}

/// Sends a request that is dropped when the event comes.
async fn send_until(site: &Site, route: &str, cookie: &str, event: impl Future<Output = ()>) {
    let request = std::pin::pin!(site.send(route, cookie));
    match select(request, std::pin::pin!(event)).await {
        Either::Left((answer, _)) => panic!("the request was answered: {answer:?}"),
        Either::Right(((), _)) => {}
    }
}

#[tokio::test]
async fn dropped_handler_frees_a_closure_that_holds_the_session() {
    let (site, handler) = site();
    let cookie = site.begin().await;
    send_until(&site, "POST /slow", &cookie, handler.has_recorded.notified()).await;
    assert!(handler.is_freed());
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn dropped_commit_frees_a_closure_that_holds_the_session() {
    let (site, handler) = site();
    let cookie = site.begin().await;
    site.store.hang(Verb::Commit);
    let committing = async {
        handler.may_answer.notify_one();
        while !site.store.take_calls().contains(&Verb::Commit) {
            tokio::task::yield_now().await;
        }
    };
    send_until(&site, "POST /slow", &cookie, committing).await;
    assert!(handler.is_freed());
}

#[tokio::test]
async fn failed_service_frees_a_closure_that_holds_the_session() {
    let handler = Arc::<Handler>::default();
    let inside = Arc::clone(&handler);
    let service = service_fn(move |request: Request<Body>| {
        let inside = Arc::clone(&inside);
        async move {
            let (mut parts, _) = request.into_parts();
            let session = Session::from_request_parts(&mut parts, &()).await.unwrap();
            inside.record(&session).unwrap();
            Err::<Response, _>("broken")
        }
    });
    let service = SessionLayer::new(StoreControl::default().store()).layer(service);
    assert_eq!(service.oneshot(Request::new(Body::empty())).await.unwrap_err(), "broken");
    assert!(handler.is_freed());
}

type Outcome = (Result<(), SessionError>, Result<(), SessionError>);

#[tokio::test]
async fn task_of_a_dropped_request_cannot_commit() {
    let task = Arc::<Mutex<Option<JoinHandle<Outcome>>>>::default();
    let (gone, recorded) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (spawned, after, has_recorded) =
        (Arc::clone(&task), Arc::clone(&gone), Arc::clone(&recorded));
    let spawning = async move |session: Session| {
        session.set(COUNT, 7)?;
        let handle = tokio::spawn(async move {
            after.notified().await;
            (session.set(COUNT, 8), session.commit().await)
        });
        *spawned.lock().unwrap() = Some(handle);
        has_recorded.notify_one();
        std::future::pending::<Result<&str, SessionError>>().await
    };
    let site = Site::with_routes(Router::new().route("/spawn", post(spawning)));
    let cookie = site.begin().await;
    send_until(&site, "POST /spawn", &cookie, recorded.notified()).await;
    gone.notify_one();
    settle().await;
    let handle = task.lock().unwrap().take().unwrap();
    let (set, commit) = handle.await.unwrap();
    assert!(matches!(set, Err(SessionError::Closed)), "{set:?}");
    assert!(matches!(commit, Err(SessionError::Closed)), "{commit:?}");
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}
