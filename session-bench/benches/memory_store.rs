//! The memory store: requests through the protocol, on one thread and on many, and single calls of the
//! store.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use session_bench::{Work, at_once, create_session, request};
use session_core::{Clock as _, Expected, SessionStore as _, Sessions, SystemClock};
use session_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};

fn one_thread(c: &mut Criterion) {
    let runtime = runtime();
    let sessions = Sessions::new(MemoryStore::default());
    let id = runtime.block_on(create_session(&sessions)).expect("memory stores it");
    let mut group = c.benchmark_group("memory");
    group.throughput(Throughput::Elements(1));
    for work in [Work::Read, Work::Write] {
        group.bench_function(BenchmarkId::new("request", format!("{work:?}")), |b| {
            b.to_async(&runtime).iter(|| request(&sessions, &id, work));
        });
    }
    group.finish();
}

/// Measures 8 tasks on one thread per core: the time per request over all tasks.
fn many_threads(c: &mut Criterion) {
    let runtime = Builder::new_multi_thread().build().expect("a runtime without I/O");
    let sessions = Sessions::new(MemoryStore::default());
    let mut group = c.benchmark_group("memory");
    group.throughput(Throughput::Elements(1));
    for work in [Work::Read, Work::Write] {
        let id = BenchmarkId::new("request, 8 tasks", format!("{work:?}"));
        group.bench_function(id, |b| {
            b.iter_custom(|requests| at_once(&runtime, &sessions, TASKS, requests, work));
        });
    }
    group.finish();
}

fn verbs(c: &mut Criterion) {
    let runtime = runtime();
    let store = MemoryStore::default();
    let sessions = Sessions::new(store.clone());
    let now = SystemClock.now();
    let (key, entry) = runtime.block_on(async {
        let id = create_session(&sessions).await.expect("memory stores it");
        let key = id.key();
        let entry = store.load(&key, now).await.expect("memory does not fail");
        (key, entry.expect("it was stored just now"))
    });
    let mut group = c.benchmark_group("memory");
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
    group.finish();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without I/O")
}

const TASKS: usize = 8;

criterion_group!(benches, one_thread, many_threads, verbs);
criterion_main!(benches);
