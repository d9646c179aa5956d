//! Values and records: encoded and decoded.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::{Deserialize, Serialize};
use session_bench::record;
use session_core::{Codec, Entry, Json, MessagePack};

#[derive(Deserialize, Serialize)]
struct Cart {
    items: Vec<Item>,
    coupon: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct Item {
    id: u64,
    name: String,
    count: u32,
}

fn value(c: &mut Criterion) {
    let item = |id, name: &str| Item { id, name: name.to_owned(), count: 1 };
    let cart = Cart { items: vec![item(4_711, "teapot"), item(42, "towel")], coupon: None };
    codec::<MessagePack>(c, "MessagePack", &cart);
    codec::<Json>(c, "JSON", &cart);
}

fn codec<C: Codec<Cart>>(c: &mut Criterion, name: &str, cart: &Cart) {
    let mut bytes = Vec::new();
    C::encode(cart, &mut bytes).expect("a cart can be encoded");
    let mut group = c.benchmark_group("value");
    let mut out = Vec::with_capacity(bytes.len());
    group.bench_function(format!("encode/{name}"), |b| {
        b.iter(|| {
            out.clear();
            C::encode(black_box(cart), &mut out)
        });
    });
    group.bench_function(format!("decode/{name}"), |b| {
        b.iter(|| C::decode(black_box(&bytes)));
    });
    group.finish();
}

fn whole_record(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O");
    let mut group = c.benchmark_group("record");
    for values in [4, 100] {
        let entry = runtime.block_on(record(values));
        let bytes = entry.encode();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("encode/{values} values"), |b| {
            b.iter(|| black_box(&entry).encode());
        });
        group.bench_function(format!("decode/{values} values"), |b| {
            // A store passes on the bytes that it received, so the clone stays out of the measurement.
            b.iter_batched(|| bytes.clone(), Entry::decode, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, value, whole_record);
criterion_main!(benches);
