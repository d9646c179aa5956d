//! The shortest store to pass the conformance suite: sessions in a map.
//!
//! For production, a store must also remove expired entries in time, and bound their number: see
//! `sqlite_store`.
//!
//! `cargo run -p session-core --features conformance --example map_store`

mod store;

use session_core::conformance;

#[tokio::main]
async fn main() {
    println!("{}", conformance::check(store::MapStore::default()).await);
}
