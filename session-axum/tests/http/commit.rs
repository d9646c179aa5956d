use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::FromRequestParts,
    http::{Request, StatusCode, header, request::Parts},
    response::IntoResponse,
    routing::{get, post},
};
use futures_util::{FutureExt as _, future, stream};
use insta::assert_snapshot;
use session_axum::{
    AtLimit, Key, MemoryStore, Session, SessionError, SessionLayer, SessionLimit, SessionRejection,
    Sessions, StoreErrorKind,
};
use session_core::testing::Verb;
use tokio::sync::Notify;

use crate::support::{COUNT, Site, answer};

#[tokio::test]
async fn client_error_commits_the_changes() {
    async fn fail(session: Session, status: StatusCode) -> Result<StatusCode, SessionError> {
        session.update(COUNT, |count| *count += 1)?;
        Ok(status)
    }
    let site = Site::with_routes(
        Router::new()
            .route("/missing", post(async |s: Session| fail(s, StatusCode::NOT_FOUND).await)),
    );
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /missing", &cookie).await.status, 404);
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
    // The first write of a visitor counts as well.
    assert!(site.send("POST /missing", "").await.set_cookie().is_some());
}

#[tokio::test]
async fn discard_gives_up_all_changes() {
    let site = Site::with_routes(Router::new().route(
        "/discard",
        post(async |session: Session| {
            session.set(COUNT, 99)?;
            session.authenticate("ada")?;
            session.destroy()?;
            session.discard();
            Ok::<_, SessionError>("as before")
        }),
    ));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /discard", &cookie).await.set_cookie(), None);
    assert_eq!(site.send("POST /discard", "").await.set_cookie(), None);
    assert_eq!(site.store.take_calls(), [Verb::Load]);
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

#[tokio::test]
async fn write_during_a_logout_is_409_and_keeps_the_cookie() {
    let (site, slow) = slow_site();
    let cookie = site.begin().await;
    let writing = site.send("POST /slow", &cookie);
    let logging_out = async {
        slow.loaded.notified().await;
        let answer = site.send("POST /logout", &cookie).await;
        slow.proceed.notify_one();
        answer
    };
    let (written, logged_out) = tokio::join!(writing, logging_out);
    assert!(logged_out.removes_the_cookie());
    assert_snapshot!(written.text(), @"
    409 Conflict
    cache-control: no-store
    vary: cookie
    the session has ended, load the page again
    ");
    assert_eq!(site.send("GET /read", &cookie).await.body, "0");
}

#[tokio::test]
async fn write_during_a_login_is_kept() {
    let (site, slow) = slow_site();
    let cookie = site.begin().await;
    let writing = site.send("POST /slow", &cookie);
    let logging_in = async {
        slow.loaded.notified().await;
        let answer = site.send("POST /login", &cookie).await;
        slow.proceed.notify_one();
        answer
    };
    let (written, logged_in) = tokio::join!(writing, logging_in);
    assert_eq!((written.status, written.set_cookie()), (StatusCode::OK, None));
    assert_eq!(site.send("GET /read", &logged_in.cookie()).await.body, "2");
}

#[tokio::test]
async fn failed_commit_of_the_handler_is_503() {
    let site = Site::with_routes(Router::new().route(
        "/commit",
        post(async |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            session.commit().await?;
            Ok::<_, SessionError>("stored")
        }),
    ));
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Commit], StoreErrorKind::Unavailable);
    assert_snapshot!(site.send("POST /commit", &cookie).await.text(), @"
    503 Service Unavailable
    retry-after: 1
    vary: cookie
    sessions are unavailable, try again in a moment
    ");
}

#[tokio::test]
async fn failed_commit_replaces_the_response() {
    let site = Site::with_routes(Router::new().route(
        "/order",
        post(async |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            let headers = [
                (header::LOCATION, "/thanks"),
                (header::SET_COOKIE, "order=1"),
                (header::CACHE_CONTROL, "public"),
            ];
            Ok::<_, SessionError>((headers, "your order is placed"))
        }),
    ));
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Commit], StoreErrorKind::Unavailable);
    assert_snapshot!(site.send("POST /order", &cookie).await.text(), @"
    503 Service Unavailable
    cache-control: no-store
    set-cookie: order=1
    retry-after: 1
    vary: cookie
    sessions are unavailable, try again in a moment
    ");
    // A first commit, a login and a logout fail too.
    site.store.fail(&[Verb::Create, Verb::CreateEntered], StoreErrorKind::Full);
    assert_eq!(site.send("POST /order", "").await.status, 503);
    assert_snapshot!(site.send("POST /login", &cookie).await.text(), @"
    503 Service Unavailable
    cache-control: no-store
    retry-after: 1
    vary: cookie
    sessions are unavailable, try again in a moment
    ");
    site.store.fail(&[Verb::Delete], StoreErrorKind::Timeout);
    let logout = site.send("POST /logout", &cookie).await;
    assert_eq!((logout.status, logout.set_cookie()), (StatusCode::SERVICE_UNAVAILABLE, None));
    site.store.fail(&[Verb::Commit], StoreErrorKind::TooLarge);
    assert_snapshot!(site.send("POST /order", &cookie).await.text(), @"
    500 Internal Server Error
    cache-control: no-store
    set-cookie: order=1
    vary: cookie
    the session cannot be used
    ");
}

#[tokio::test]
async fn count_after_outages_is_the_acknowledged_one() {
    let site = Site::new();
    let cookie = site.begin().await;
    let mut acknowledged = 1;
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Timeout, StoreErrorKind::Full] {
        site.store.fail(&[Verb::Commit], kind);
        assert_eq!(site.send("POST /count", &cookie).await.status, 503, "{kind:?}");
        site.store.recover();
        assert_eq!(site.send("POST /count", &cookie).await.status, 200, "{kind:?}");
        acknowledged += 1;
    }
    assert_eq!(site.send("GET /read", &cookie).await.body, acknowledged.to_string());
}

#[tokio::test]
async fn exceeded_limit_is_500_and_names_no_internals() {
    const BIG: Key<String> = Key::new("big");
    let site = Site::with_routes(Router::new().route(
        "/big",
        post(async |session: Session| {
            session.set(COUNT, 5)?;
            session.set(BIG, "x".repeat(65 * 1024))?;
            Ok::<_, SessionError>("stored")
        }),
    ));
    let cookie = site.begin().await;
    assert_snapshot!(site.send("POST /big", &cookie).await.text(), @"
    500 Internal Server Error
    vary: cookie
    the session cannot be used
    ");
    assert_eq!(site.send("GET /read", &cookie).await.body, "1");
}

/// An extractor of an application that asks for the session itself.
struct Count(u64);

impl<S: Send + Sync> FromRequestParts<S> for Count {
    type Rejection = SessionRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let session = Session::from_request_parts(parts, state).await?;
        Ok(Self(session.get(COUNT).unwrap_or_default()))
    }
}

#[tokio::test]
async fn extractors_share_one_session_loaded_once() {
    let site = Site::with_routes(Router::new().route(
        "/many",
        post(async |first: Session, Count(count): Count, second: Session| {
            first.set(COUNT, count + 10)?;
            Ok::<_, SessionError>(second.get(COUNT).unwrap_or_default().to_string())
        }),
    ));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /many", &cookie).await.body, "11");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Commit]);
}

#[tokio::test]
async fn concurrent_extractors_share_one_session() {
    let both = async |request: Request<Body>| {
        let (mut first, _) = request.into_parts();
        let mut second = first.clone();
        let (first, second) = future::join(
            Session::from_request_parts(&mut first, &()),
            Session::from_request_parts(&mut second, &()),
        )
        .await;
        first.unwrap().set(COUNT, 7).unwrap();
        second.unwrap().get(COUNT).unwrap_or_default().to_string()
    };
    let site = Site::with_routes(Router::new().route("/both", post(both)));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /both", &cookie).await.body, "7");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Commit]);
}

#[tokio::test]
async fn cancelled_extractor_leaves_the_load_to_the_next() {
    let twice = async |request: Request<Body>| {
        let (mut parts, _) = request.into_parts();
        let asked = Session::from_request_parts(&mut parts, &()).now_or_never();
        assert!(asked.is_none(), "the store answers immediately");
        let session = Session::from_request_parts(&mut parts, &()).await.unwrap();
        session.get(COUNT).unwrap_or_default().to_string()
    };
    let site = Site::with_routes(Router::new().route("/twice", post(twice)));
    let cookie = site.begin().await;
    assert_eq!(site.send("POST /twice", &cookie).await.body, "1");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Load]);
}

#[tokio::test]
async fn message_is_shown_once() {
    const FLASH: Key<String> = Key::new("flash");
    let save = async |session: Session| session.set(FLASH, "Saved.");
    let page =
        async |session: Session| Ok::<_, SessionError>(session.take(FLASH)?.unwrap_or_default());
    let site =
        Site::with_routes(Router::new().route("/save", post(save)).route("/page", get(page)));
    let cookie = site.send("POST /save", "").await.cookie();
    assert_eq!(site.send("GET /page", &cookie).await.body, "Saved.");
    site.store.take_calls();
    assert_eq!(site.send("GET /page", &cookie).await.body, "");
    assert_eq!(site.store.take_calls(), [Verb::Load], "without a message nothing is written");
}

#[tokio::test]
async fn stream_commits_before_its_head_leaves() {
    let site = Site::with_routes(Router::new().route("/stream", get(streaming)));
    let cookie = site.begin().await;
    let answer = site.send("GET /stream", &cookie).await;
    assert_eq!(answer.body, "stored 2, then: the session was changed after the response had begun");
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Commit]);
    assert_eq!(site.send("GET /read", &cookie).await.body, "2");
    // The head carries the ID of a visitor although the commit came before.
    assert!(site.send("GET /stream", "").await.set_cookie().is_some());
}

async fn streaming(session: Session) -> Result<impl IntoResponse, SessionError> {
    let count = session.update(COUNT, |count| *count += 1)?;
    session.commit().await?;
    let rest = stream::once(async move {
        let late = session.update(COUNT, |count| *count += 1).unwrap_err();
        Ok::<_, std::convert::Infallible>(format!("stored {count}, then: {late}"))
    });
    Ok(Body::from_stream(rest))
}

#[tokio::test]
async fn failed_touch_fails_no_request() {
    let site = Site::new();
    let cookie = site.begin().await;
    site.store.fail(&[Verb::Touch], StoreErrorKind::Unavailable);
    site.advance(std::time::Duration::from_secs(600));
    let answer = site.send("GET /read", &cookie).await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, "1"));
    assert_eq!(site.store.take_calls(), [Verb::Load, Verb::Touch]);
}

/// Lets a test do something between a handler's reading and its commit.
#[derive(Default)]
struct Slow {
    loaded: Notify,
    proceed: Notify,
}

fn slow_site() -> (Site, Arc<Slow>) {
    let slow = Arc::<Slow>::default();
    let inside = Arc::clone(&slow);
    let site = Site::with_routes(Router::new().route(
        "/slow",
        post(async move |session: Session| {
            session.update(COUNT, |count| *count += 1)?;
            inside.loaded.notify_one();
            inside.proceed.notified().await;
            Ok::<_, SessionError>("written")
        }),
    ));
    (site, slow)
}

#[tokio::test]
async fn login_above_the_limit_is_409_and_sets_no_cookie() {
    let limit = SessionLimit::new(1, AtLimit::Reject).unwrap();
    let store = MemoryStore::default();
    let sessions = Sessions::builder(store).with_session_limit(limit).build().unwrap();
    let router = Router::new()
        .route(
            "/login",
            post(async |session: Session| {
                session.authenticate("ada")?;
                Ok::<_, SessionError>("welcome")
            }),
        )
        .route(
            "/try",
            post(async |session: Session| {
                session.authenticate("ada")?;
                let result = session.commit().await;
                session.discard();
                result
            }),
        )
        .layer(SessionLayer::new(sessions));
    let login = || Request::post("/login").body(Body::empty()).unwrap();
    assert_eq!(answer(router.clone(), login()).await.status, StatusCode::OK);
    assert_snapshot!(answer(router.clone(), login()).await.text(), @"
    409 Conflict
    cache-control: no-store
    vary: cookie
    signed in too often, sign out elsewhere first
    ");
    let tried = Request::post("/try").body(Body::empty()).unwrap();
    assert_snapshot!(answer(router, tried).await.text(), @"
    409 Conflict
    vary: cookie
    signed in too often, sign out elsewhere first
    ");
}
