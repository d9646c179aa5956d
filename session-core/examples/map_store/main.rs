//! The shortest store that passes the conformance suite: sessions in a map.
//!
//! A store for use differs in two ways: it removes expired entries in time, and bounds their number.
//! `sqlite_store` is one.
//!
//! `cargo run -p session-core --features conformance --example map_store`

mod store;

use session_core::conformance;

#[tokio::main]
async fn main() {
    println!("{}", conformance::check(store::MapStore::default()).await);
}
