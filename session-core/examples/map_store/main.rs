//! How to write a store: `store.rs` is the smallest one that keeps every promise, and the conformance
//! suite tells so.
//!
//! A store for use differs in two ways: it removes by itself what has expired, and it bounds what it
//! takes.
//!
//! `cargo run -p session-core --features conformance --example map_store`

mod store;

use session_core::conformance;

#[tokio::main]
async fn main() {
    println!("{}", conformance::check(store::MapStore::default()).await);
}
