//! The layer around an empty handler, called in the process: no HTTP is spoken.

use std::{convert::Infallible, hint::black_box, sync::Arc};

use axum::extract::FromRequestParts as _;
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use http::{HeaderValue, Request, Response, header};
use session_axum::{Backend, Session, SessionLayer};
use session_bench::{COUNT, NAME, RedisServer, create_session};
use session_core::Sessions;
use session_memory::MemoryStore;
use session_redis::RedisStore;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

fn layer(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("layer");
    let cookie = HeaderValue::from_static("__Host-session=none");
    call(&mut group, "no layer", &runtime, &cookie, service_fn(untouched));
    with_store(&mut group, "memory", &runtime, MemoryStore::default());

    let server = runtime.block_on(RedisServer::find()).unwrap_or_else(|error| panic!("{error}"));
    let store =
        runtime.block_on(RedisStore::connect(server.url())).expect("Redis accepts a connection");
    with_store(&mut group, "redis", &runtime, store);
    group.finish();
}

fn with_store(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    runtime: &Runtime,
    store: impl Backend + Clone,
) {
    let sessions = Arc::new(Sessions::new(store.clone()));
    let id = runtime.block_on(create_session(&sessions)).expect("the store answers");
    let cookie = HeaderValue::from_str(&format!("__Host-session={}", id.expose()))
        .expect("an ID fits into a header");
    let layer = SessionLayer::new(store);
    let name = |work: &str| format!("{name}, {work}");
    let service = layer.layer(service_fn(untouched));
    call(group, &name("untouched"), runtime, &cookie, service);
    let service = layer.layer(service_fn(read));
    call(group, &name("read"), runtime, &cookie, service);
    let service = layer.layer(service_fn(write));
    call(group, &name("write"), runtime, &cookie, service);
}

fn call<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    runtime: &Runtime,
    cookie: &HeaderValue,
    service: S,
) where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible> + Clone,
{
    group.bench_function(name, |b| {
        b.to_async(runtime).iter(|| {
            let mut request = Request::new(());
            request.headers_mut().insert(header::COOKIE, cookie.clone());
            service.clone().oneshot(request)
        });
    });
}

async fn untouched(request: Request<()>) -> Result<Response<()>, Infallible> {
    black_box(&request);
    Ok(Response::new(()))
}

async fn read(request: Request<()>) -> Result<Response<()>, Infallible> {
    let session = session(request).await;
    black_box(session.get(NAME).expect("the session has the value"));
    Ok(Response::new(()))
}

async fn write(request: Request<()>) -> Result<Response<()>, Infallible> {
    let session = session(request).await;
    session.update(COUNT, |count| *count += 1).expect("the session is open");
    Ok(Response::new(()))
}

async fn session(request: Request<()>) -> Session {
    let (mut parts, ()) = request.into_parts();
    Session::from_request_parts(&mut parts, &()).await.expect("the store answers")
}

criterion_group!(benches, layer);
criterion_main!(benches);
