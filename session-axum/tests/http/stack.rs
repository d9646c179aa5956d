//! The layer among the layers of `tower-http`.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    env,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::FromRequestParts as _,
    http::{HeaderName, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use serde_json::Value;
use session_axum::{MemoryStore, RequireSignIn, Session, SessionLayer};
use session_core::BoxError;
use tower::{Service, ServiceBuilder, service_fn};
use tower_http::{
    add_extension::AddExtensionLayer,
    auth::{AddAuthorizationLayer, AsyncRequireAuthorizationLayer},
    catch_panic::CatchPanicLayer,
    compression::CompressionLayer,
    cors::CorsLayer,
    csrf::CsrfLayer,
    decompression::{DecompressionLayer, RequestDecompressionLayer},
    follow_redirect::FollowRedirectLayer,
    limit::RequestBodyLimitLayer,
    map_request_body::MapRequestBodyLayer,
    map_response_body::MapResponseBodyLayer,
    metrics::{InFlightRequestsLayer, in_flight_requests::InFlightRequestsCounter},
    normalize_path::NormalizePathLayer,
    on_early_drop::OnEarlyDropLayer,
    propagate_header::PropagateHeaderLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    sensitive_headers::{
        SetSensitiveHeadersLayer, SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer,
    },
    set_header::{
        SetRequestHeaderLayer, SetResponseHeaderLayer, request::SetMultipleRequestHeadersLayer,
        response::SetMultipleResponseHeadersLayer,
    },
    set_status::SetStatusLayer,
    timeout::{
        RequestBodyDeadlineLayer, RequestBodyTimeoutLayer, ResponseBodyDeadlineLayer,
        ResponseBodyTimeoutLayer, TimeoutLayer,
    },
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};

use crate::support::{COUNT, answer};

/// A service for requests and responses with whatever bodies the layers make.
async fn count<B>(request: Request<B>) -> Result<Response, Infallible> {
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

/// Passes all layers of tower-http to a macro.
macro_rules! each_layer {
    ($macro:ident) => {
        $macro![
            AddAuthorizationLayer::bearer("secret"),
            AddExtensionLayer::new(7),
            AsyncRequireAuthorizationLayer::new(look_up),
            CatchPanicLayer::new(),
            CompressionLayer::new(),
            CorsLayer::permissive(),
            CsrfLayer::new(),
            DecompressionLayer::new(),
            FollowRedirectLayer::new(),
            RequestDecompressionLayer::new(),
            RequestBodyLimitLayer::new(1_000),
            MapRequestBodyLayer::new(Body::new),
            MapResponseBodyLayer::new(Body::new),
            InFlightRequestsLayer::new(InFlightRequestsCounter::new()),
            NormalizePathLayer::trim_trailing_slash(),
            OnEarlyDropLayer::builder(),
            PropagateHeaderLayer::new(MARK),
            SetRequestIdLayer::x_request_id(MakeRequestUuid),
            PropagateRequestIdLayer::x_request_id(),
            SetSensitiveHeadersLayer::new(SECRETS),
            SetSensitiveRequestHeadersLayer::new(SECRETS),
            SetSensitiveResponseHeadersLayer::new(SECRETS),
            SetRequestHeaderLayer::overriding(MARK, ONE),
            SetResponseHeaderLayer::overriding(MARK, ONE),
            SetMultipleRequestHeadersLayer::overriding(vec![(MARK, ONE).into()]),
            SetMultipleResponseHeadersLayer::overriding(vec![(MARK, ONE).into()]),
            SetStatusLayer::new(StatusCode::OK),
            TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, MINUTE),
            RequestBodyDeadlineLayer::new(MINUTE),
            RequestBodyTimeoutLayer::new(MINUTE),
            ResponseBodyDeadlineLayer::new(MINUTE),
            ResponseBodyTimeoutLayer::new(MINUTE),
            TraceLayer::new_for_http(),
            ValidateRequestHeaderLayer::accept("*/*"),
        ]
    };
}

/// Reads the session where the application authorizes requests. Outside of the session's layer there is
/// none.
async fn look_up(request: Request<Body>) -> Result<Request<Body>, Response> {
    let (mut parts, body) = request.into_parts();
    match Option::<Session>::from_request_parts(&mut parts, &()).await {
        Ok(_) => Ok(Request::from_parts(parts, body)),
        Err(rejection) => Err(rejection.into_response()),
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const MARK: HeaderName = HeaderName::from_static("x-mark");
const ONE: HeaderValue = HeaderValue::from_static("1");
const SECRETS: [HeaderName; 2] = [header::COOKIE, header::SET_COOKIE];

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, MINUTE)
}

#[tokio::test]
async fn layer_fits_inside_and_outside_of_each_layer_of_tower_http() {
    macro_rules! inside_and_outside {
        ($($layer:expr),* $(,)?) => {$(
            let session = SessionLayer::new(MemoryStore::default());
            let inside = ServiceBuilder::new().layer(session.clone()).layer($layer);
            counts_to_two(stringify!($layer), inside.service(service_fn(count))).await;
            let outside = ServiceBuilder::new().layer($layer).layer(session);
            counts_to_two(stringify!($layer), outside.service(service_fn(count))).await;
        )*};
    }
    each_layer!(inside_and_outside);
}

/// The layer of tower-http is around the session, between the session and the guard, and inside of both.
#[tokio::test]
async fn guard_of_a_router_works_among_all_layers_of_tower_http() {
    macro_rules! around_the_guard {
        ($($layer:expr),* $(,)?) => {$(
            let router = Router::new()
                .route("/", post(async |request: Request<Body>| count(request).await.unwrap()))
                .layer($layer)
                .layer(RequireSignIn::new())
                .layer($layer)
                .route("/login", post(async |session: Session| session.authenticate(7)))
                .layer(SessionLayer::new(MemoryStore::default()))
                .layer($layer);
            counts_for_users(stringify!($layer), router).await;
        )*};
    }
    each_layer!(around_the_guard);
}

async fn counts_for_users(name: &str, router: Router) {
    let send = async |path: &str, cookie: &str| {
        let request = Request::post(path)
            .header(header::COOKIE, cookie)
            .header(header::ACCEPT, "*/*")
            .body(Body::empty());
        answer(router.clone(), request.unwrap()).await
    };
    // One of the layers sets the status.
    assert_eq!(send("/", "").await.body, "sign in first", "{name}");
    let cookie = send("/login", "").await.cookie();
    for count in ["1", "2"] {
        let counted = send("/", &cookie).await;
        assert_eq!((counted.status, &*counted.body), (StatusCode::OK, count), "{name}");
    }
}

/// A minor version may bring a layer.
#[test]
fn list_has_each_layer_of_the_resolved_tower_http() {
    macro_rules! names {
        ($($layer:expr),* $(,)?) => { [$(stringify!($layer)),*] };
    }
    let listed =
        each_layer!(names).map(|layer| layer.split("::").next().unwrap().trim().to_owned());
    let mut public = BTreeSet::new();
    collect_layers(&source_of_tower_http().join("src"), &mut public);
    assert_eq!(BTreeSet::from(listed), public);
}

fn collect_layers(folder: &Path, layers: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_layers(&path, layers);
            continue;
        }
        let text = fs::read_to_string(path).unwrap();
        let types = text.lines().filter_map(|line| line.strip_prefix("pub struct "));
        let names = types.filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
        layers.extend(names.filter(|name| name.ends_with("Layer")).map(str::to_owned));
    }
}

/// Returns the folder of the version of tower-http that these tests use.
fn source_of_tower_http() -> PathBuf {
    let cargo = |arguments: &[&str]| {
        let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        let folder = env!("CARGO_MANIFEST_DIR");
        let output = command.args(arguments).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    // Crates of other platforms may be absent.
    let version = cargo(&["--version", "--verbose"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let metadata =
        cargo(&["metadata", "--format-version=1", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let find = |list: &Value, field: &str, wanted: &Value| {
        list.as_array().unwrap().iter().find(|item| item[field] == *wanted).unwrap().clone()
    };
    let this = find(&metadata["packages"], "name", &"session-axum".into());
    let node = find(&metadata["resolve"]["nodes"], "id", &this["id"]);
    let dependency = find(&node["deps"], "name", &"tower_http".into());
    let package = find(&metadata["packages"], "id", &dependency["pkg"]);
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// The stack of a real program, around the layer and once more inside of it.
#[tokio::test]
async fn layer_fits_between_two_whole_stacks() {
    macro_rules! stack {
        () => {
            ServiceBuilder::new()
                .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
                .layer(SetSensitiveHeadersLayer::new(SECRETS))
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
