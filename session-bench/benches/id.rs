//! Session IDs: generated, parsed, and hashed to a key.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use session_core::{IdGenerator, OsRandom, SessionId, UuidV4};

fn id(c: &mut Criterion) {
    let generators: [(&str, &dyn IdGenerator); 2] = [("256 bits", &OsRandom), ("uuid", &UuidV4)];
    let mut group = c.benchmark_group("id");
    for (name, generator) in generators {
        group.bench_function(format!("generate/{name}"), |b| {
            b.iter(|| generator.generate());
        });
        let id = generator.generate();
        let text = id.expose().as_bytes();
        group.bench_function(format!("parse/{name}"), |b| {
            b.iter(|| SessionId::parse(black_box(text)));
        });
        group.bench_function(format!("key/{name}"), |b| {
            b.iter(|| black_box(&id).key());
        });
    }
    let unknown = [b'!'; 43];
    group.bench_function("parse/not an ID", |b| {
        b.iter(|| SessionId::parse(black_box(&unknown)));
    });
    group.finish();
}

criterion_group!(benches, id);
criterion_main!(benches);
