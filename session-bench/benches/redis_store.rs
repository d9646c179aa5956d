//! The Redis store: requests through the protocol, one after the other and concurrently, and single
//! calls of the store.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use session_bench::{RedisServer, Work, at_once, create_session, request};
use session_core::{Clock as _, Expected, SessionStore as _, Sessions, SystemClock};
use session_redis::RedisStore;
use tokio::runtime::Builder;

fn redis(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(RedisServer::find()).unwrap_or_else(|error| panic!("{error}"));
    let store =
        runtime.block_on(RedisStore::connect(server.url())).expect("Redis accepts a connection");
    let sessions = Sessions::new(store.clone());
    let now = SystemClock.now();
    let (id, key, entry) = runtime.block_on(async {
        let id = create_session(&sessions).await.expect("Redis answers");
        let key = id.key();
        let entry = store.load(&key, now).await.expect("Redis answers");
        (id, key, entry.expect("it was stored just now"))
    });

    let mut group = c.benchmark_group("redis");
    group.bench_function("load", |b| {
        b.to_async(&runtime).iter(|| store.load(&key, now));
    });
    group.bench_function("commit", |b| {
        let expected = Expected::from(&entry);
        b.to_async(&runtime).iter(|| store.commit(&key, expected, entry.clone(), now));
    });
    group.bench_function("touch", |b| {
        b.to_async(&runtime).iter(|| store.touch(&key, now));
    });
    group.throughput(Throughput::Elements(1));
    for work in [Work::Read, Work::Write] {
        group.bench_function(BenchmarkId::new("request", format!("{work:?}")), |b| {
            b.to_async(&runtime).iter(|| request(&sessions, &id, work));
        });
        let name = BenchmarkId::new("request, 64 tasks", format!("{work:?}"));
        group.bench_function(name, |b| {
            b.iter_custom(|requests| at_once(&runtime, &sessions, TASKS, requests, work));
        });
    }
    group.finish();
}

const TASKS: usize = 64;

criterion_group!(benches, redis);
criterion_main!(benches);
