//! The layer among the layers of `tower-http`.

use std::{convert::Infallible, fmt::Debug, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::Response,
};
use session_axum::{MemoryStore, Session, SessionLayer};
use session_core::BoxError;
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::{
    add_extension::AddExtensionLayer,
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    csrf::CsrfLayer,
    decompression::{DecompressionLayer, RequestDecompressionLayer},
    limit::RequestBodyLimitLayer,
    map_request_body::MapRequestBodyLayer,
    map_response_body::MapResponseBodyLayer,
    metrics::{InFlightRequestsLayer, in_flight_requests::InFlightRequestsCounter},
    normalize_path::NormalizePathLayer,
    propagate_header::PropagateHeaderLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::SetSensitiveHeadersLayer,
    set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer},
    set_status::SetStatusLayer,
    timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};

use crate::support::{COUNT, answer};

/// A service for requests and responses with whatever bodies the layers make.
async fn count<B>(request: Request<B>) -> Result<Response, Infallible> {
    use axum::extract::FromRequestParts as _;

    let (mut parts, _) = request.into_parts();
    let session = Session::from_request_parts(&mut parts, &()).await.unwrap();
    let count = session.update(COUNT, |count| *count += 1).unwrap();
    Ok(Response::new(Body::from(count.to_string())))
}

/// Sends two requests of one browser.
async fn counts_to_two<S, B>(name: &str, service: S)
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + Clone,
    B: HttpBody<Data = axum::body::Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = ServiceBuilder::new()
        .map_response(|response: Response<B>| response.map(Body::new))
        .service(service);
    let request = |cookie: &str| {
        let request =
            Request::post("/").header(header::COOKIE, cookie).header(header::ACCEPT, "*/*");
        request.body(Body::empty()).unwrap()
    };
    let first = answer(service.clone(), request("")).await;
    assert_eq!((first.status, &*first.body), (StatusCode::OK, "1"), "{name}");
    let second = answer(service, request(&first.cookie())).await;
    assert_eq!((second.status, &*second.body), (StatusCode::OK, "2"), "{name}");
}

/// Puts each layer inside and outside of the session's.
macro_rules! each_inside_and_outside {
    ($($layer:expr),* $(,)?) => {$(
        let session = SessionLayer::new(MemoryStore::default());
        let inside = ServiceBuilder::new().layer(session.clone()).layer($layer);
        counts_to_two(stringify!($layer), inside.service(service_fn(count))).await;
        let outside = ServiceBuilder::new().layer($layer).layer(session);
        counts_to_two(stringify!($layer), outside.service(service_fn(count))).await;
    )*};
}

const MINUTE: Duration = Duration::from_secs(60);
const MARK: HeaderName = HeaderName::from_static("x-mark");

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, MINUTE)
}

fn sensitive() -> SetSensitiveHeadersLayer {
    SetSensitiveHeadersLayer::new([header::AUTHORIZATION, header::COOKIE])
}

#[tokio::test]
async fn layer_fits_inside_and_outside_of_each_layer_of_tower_http() {
    each_inside_and_outside![
        AddExtensionLayer::new(7),
        CatchPanicLayer::new(),
        CompressionLayer::new(),
        CorsLayer::permissive(),
        CsrfLayer::new(),
        DecompressionLayer::new(),
        RequestDecompressionLayer::new(),
        RequestBodyLimitLayer::new(1_000),
        MapRequestBodyLayer::new(Body::new),
        MapResponseBodyLayer::new(Body::new),
        InFlightRequestsLayer::new(InFlightRequestsCounter::new()),
        NormalizePathLayer::trim_trailing_slash(),
        PropagateHeaderLayer::new(MARK),
        SetRequestIdLayer::x_request_id(MakeRequestUuid),
        PropagateRequestIdLayer::x_request_id(),
        sensitive(),
        SetRequestHeaderLayer::overriding(MARK, HeaderValue::from_static("1")),
        SetResponseHeaderLayer::overriding(MARK, HeaderValue::from_static("1")),
        SetStatusLayer::new(StatusCode::OK),
        timeout(),
        RequestBodyTimeoutLayer::new(MINUTE),
        ResponseBodyTimeoutLayer::new(MINUTE),
        TraceLayer::new_for_http(),
        ValidateRequestHeaderLayer::accept("*/*"),
    ];
}

/// The stack of a real program, around the layer and once more inside of it.
#[tokio::test]
async fn layer_fits_between_two_whole_stacks() {
    macro_rules! stack {
        () => {
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                .layer(sensitive())
                .layer(TraceLayer::new_for_http())
                .layer(PropagateRequestIdLayer::x_request_id())
                .layer(InFlightRequestsLayer::new(InFlightRequestsCounter::new()))
                .layer(ResponseBodyTimeoutLayer::new(MINUTE))
                .layer(CorsLayer::permissive())
                .layer(CsrfLayer::new())
                .layer(timeout())
                .layer(CompressionLayer::new())
                .layer(RequestDecompressionLayer::new())
                .layer(RequestBodyLimitLayer::new(1_000))
                .layer(CatchPanicLayer::new())
        };
    }
    let session = SessionLayer::new(MemoryStore::default());
    let stack = stack!().layer(session.clone()).layer(stack!()).layer(session);
    counts_to_two("two stacks", stack.service(service_fn(count))).await;
}

/// A timeout and a caught panic inside of the layer store no half of a request.
#[tokio::test]
async fn failure_in_a_layer_inside_stores_nothing() {
    async fn write_and<B>(request: Request<B>, panics: bool) -> Result<Response, Infallible> {
        drop(count(request).await);
        match panics {
            true => panic!("on purpose"),
            false => std::future::pending().await,
        }
    }
    let (session, soon) = (SessionLayer::new(MemoryStore::default()), Duration::from_millis(1));
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, soon);
    let slow = ServiceBuilder::new()
        .layer(session.clone())
        .layer(timeout)
        .service(service_fn(|request: Request<Body>| write_and(request, false)));
    let failing = ServiceBuilder::new()
        .layer(session)
        .layer(CatchPanicLayer::new())
        .service(service_fn(|request: Request<Body>| write_and(request, true)));
    let slow = answer(slow, Request::new(Body::empty())).await;
    assert_eq!((slow.status.as_u16(), slow.set_cookie()), (504, None));
    let request = Request::new(Body::empty());
    let response = tower::ServiceExt::oneshot(failing, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.headers().get(header::SET_COOKIE).is_none());
}
