//! The layer around small handlers, called in the process without HTTP.

use std::convert::Infallible;

use axum::response::Response;
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use http::{HeaderValue, Request, header};
use session_axum::{Backend, SessionLayer};
use session_bench::{RedisServer, create_session, handlers};
use session_core::Sessions;
use session_memory::MemoryStore;
use session_redis::RedisStore;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

fn layer(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("layer");
    let cookie = HeaderValue::from_static("__Host-session=none");
    call(&mut group, "no layer", &runtime, &cookie, service_fn(handlers::untouched));
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
    let sessions = Sessions::new(store.clone());
    let id = runtime.block_on(create_session(&sessions)).expect("the store answers");
    let cookie = HeaderValue::from_str(&format!("__Host-session={}", id.expose()))
        .expect("an ID fits into a header");
    let layer = SessionLayer::new(store);
    let name = |work: &str| format!("{name}, {work}");
    let service = layer.layer(service_fn(handlers::untouched));
    call(group, &name("untouched"), runtime, &cookie, service);
    let service = layer.layer(service_fn(handlers::read));
    call(group, &name("read"), runtime, &cookie, service);
    let service = layer.layer(service_fn(handlers::write));
    call(group, &name("write"), runtime, &cookie, service);
}

fn call<S>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    runtime: &Runtime,
    cookie: &HeaderValue,
    service: S,
) where
    S: Service<Request<()>, Response = Response, Error = Infallible> + Clone,
{
    group.bench_function(name, |b| {
        b.to_async(runtime).iter(|| {
            let mut request = Request::new(());
            request.headers_mut().insert(header::COOKIE, cookie.clone());
            service.clone().oneshot(request)
        });
    });
}

criterion_group!(benches, layer);
criterion_main!(benches);
