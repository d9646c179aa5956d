use std::{convert::Infallible, fmt::Debug};

use axum::{
    Router,
    body::Body,
    extract::FromRequestParts as _,
    http::{Request, Response, StatusCode, header},
    middleware::{Next, from_fn},
    routing::{get, post},
};
use insta::assert_snapshot;
use session_axum::{
    NextPath, RequireSignIn, RequireSignInService, ResponseFuture, Session, SessionCookie,
    SessionError, SessionLayer, SessionName, SessionOf, SessionOrOutage, SessionRejection,
    SessionService, Sessions, SignedIn,
};
use session_core::testing::Verb;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::{COUNT, CountingIds, Site, StoreControl, answer};

async fn write(session: Session) -> Result<(), SessionError> {
    session.set(COUNT, 1)
}

/// A service without Axum, except for the extractor.
async fn count(request: Request<Body>) -> Result<Response<String>, Infallible> {
    let (mut parts, _) = request.into_parts();
    let session = Session::from_request_parts(&mut parts, &()).await.unwrap();
    let count = session.update(COUNT, |count| *count += 1).unwrap();
    Ok(Response::new(count.to_string()))
}

#[tokio::test]
async fn any_http_service_can_have_sessions() {
    let store = StoreControl::default().store();
    let ids = CountingIds::default();
    let sessions = Sessions::builder(store).with_id_generator(ids).build().unwrap();
    let service = SessionLayer::new(sessions).layer(service_fn(count));
    let request = |cookie: &str| {
        Request::get("/").header(header::COOKIE, cookie).body(Body::empty()).unwrap()
    };
    let first = answer(service.clone(), request("")).await;
    assert_snapshot!(first.text(), @"
    200 OK
    set-cookie: __Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; HttpOnly; SameSite=Lax; Secure; Path=/
    cache-control: no-store
    vary: cookie
    1
    ");
    assert_eq!(answer(service, request(&first.cookie())).await.body, "2");
}

#[tokio::test]
async fn error_of_the_service_passes_through() {
    let failing = service_fn(async |_: Request<Body>| Err::<Response<String>, _>("broken"));
    let service = SessionLayer::new(StoreControl::default().store()).layer(failing);
    assert_eq!(service.oneshot(Request::new(Body::empty())).await.unwrap_err(), "broken");
}

#[tokio::test]
async fn inner_layer_of_two_gives_the_session() {
    let (outer, inner) = (StoreControl::default(), StoreControl::default());
    let cookie = SessionCookie::default().with_name("__Host-inner").unwrap();
    let router = Router::new()
        .route("/", post(write))
        .layer(SessionLayer::new(inner.store()).with_cookie(cookie))
        .route("/outer", post(write))
        .layer(SessionLayer::new(outer.store()));
    let request = |path| Request::post(path).body(Body::empty()).unwrap();
    let to_inner = answer(router.clone(), request("/")).await;
    assert!(to_inner.cookie().starts_with("__Host-inner="));
    assert_eq!((inner.take_calls(), outer.take_calls()), (vec![Verb::Create], vec![]));
    let to_outer = answer(router, request("/outer")).await;
    assert!(to_outer.cookie().starts_with("__Host-session="));
    assert_eq!((inner.take_calls(), outer.take_calls()), (vec![], vec![Verb::Create]));
}

#[tokio::test]
async fn same_layer_twice_is_one() {
    // The layer in between reads the session that the handler writes.
    let check = async |session: Session, request: axum::extract::Request, next: Next| {
        let response = next.run(request).await;
        assert_eq!(session.get(COUNT), Some(1));
        response
    };
    let store = StoreControl::default();
    let sessions = Sessions::new(store.store());
    let clones = || {
        let layer = SessionLayer::new(sessions.clone());
        [layer.clone(), layer]
    };
    // Two modules of an application make the layer.
    let equals = || [(); 2].map(|()| SessionLayer::new(sessions.clone()));
    let named = || equals().map(SessionLayer::named::<Shop>);
    for (name, [inner, outer]) in [("clones", clones()), ("equal ones", equals())] {
        let router =
            Router::new().route("/", post(write)).layer(inner).layer(from_fn(check)).layer(outer);
        let request = Request::post("/").body(Body::empty()).unwrap();
        let answer = answer(router, request).await;
        assert_eq!(answer.status, StatusCode::OK, "{name}");
        assert!(answer.cookie().starts_with("__Host-session="), "{name}: it is set once");
        assert_eq!(store.take_calls(), [Verb::Create], "{name}");
    }
    let [inner, outer] = named();
    let write = async |shop: SessionOf<Shop>| shop.set(COUNT, 1);
    let router = Router::new().route("/", post(write)).layer(inner).layer(outer);
    answer(router, Request::post("/").body(Body::empty()).unwrap()).await;
    assert_eq!(store.take_calls(), [Verb::Create], "of the same name");
}

/// A part of the application has settings of its own.
#[tokio::test]
async fn layer_with_another_setting_is_another_layer() {
    let fail = async |session: Session| {
        session.set(COUNT, 1).unwrap();
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let store = StoreControl::default();
    let layer = SessionLayer::new(store.store());
    let part = Router::new()
        .route("/part", post(fail))
        .layer(layer.clone().with_server_errors_committed(true));
    let router = Router::new().route("/", post(fail)).merge(part).layer(layer);
    for (path, calls) in [("/", vec![]), ("/part", vec![Verb::Create])] {
        answer(router.clone(), Request::post(path).body(Body::empty()).unwrap()).await;
        assert_eq!(store.take_calls(), calls, "{path}");
    }
}

struct Shop;

impl SessionName for Shop {
    const NAME: &'static str = "shop";
}

#[tokio::test]
async fn layers_with_the_same_sessions_and_other_cookies_stay_apart() {
    let layer = SessionLayer::new(StoreControl::default().store());
    let cookie = SessionCookie::default().with_name("__Host-inner").unwrap();
    let router =
        Router::new().route("/", post(write)).layer(layer.clone().with_cookie(cookie)).layer(layer);
    let request = Request::post("/").body(Body::empty()).unwrap();
    assert!(answer(router, request).await.cookie().starts_with("__Host-inner="));
}

#[tokio::test]
async fn layer_fits_one_route() {
    let layer = SessionLayer::new(StoreControl::default().store());
    let router = Router::new()
        .route("/", get(write).layer(layer))
        .route("/outside", get(async |_: Session| "never"));
    let request = |path| Request::get(path).body(Body::empty()).unwrap();
    assert!(answer(router.clone(), request("/")).await.set_cookie().is_some());
    assert_eq!(answer(router, request("/outside")).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn debug_output_holds_no_id() {
    let site = Site::with_routes(Router::new().route(
        "/print",
        get(async |session: Session, request: Request<Body>| {
            format!("{session:?} {:?}", request.extensions())
        }),
    ));
    let cookie = site.begin().await;
    let (_, id) = cookie.split_once('=').unwrap();
    let printed = site.send("GET /print", &cookie).await;
    assert!(printed.body.contains("SessionKey"));
    assert!(!printed.body.contains(id), "{}", printed.body);
    let layer = SessionLayer::new(StoreControl::default().store());
    assert!(format!("{layer:?}").contains("__Host-session"));
}

#[test]
fn public_types_are_send_and_sync() {
    fn check<T: Send + Sync + Debug>() {}
    check::<NextPath>();
    check::<RequireSignIn>();
    check::<RequireSignInService<()>>();
    check::<SessionLayer>();
    check::<SessionOrOutage>();
    check::<SessionService<()>>();
    check::<Session>();
    check::<SessionCookie>();
    check::<SessionError>();
    check::<SessionRejection>();
    check::<SignedIn<u64>>();
    fn check_send<T: Send + Debug>() {}
    check_send::<ResponseFuture<std::future::Ready<()>>>();
}
