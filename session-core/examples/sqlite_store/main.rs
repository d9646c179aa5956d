//! A store for production, on SQL: sessions in an SQLite file, shared by the processes of one
//! machine.
//!
//! `store.rs` implements the five verbs of a session store and the three verbs of an index,
//! one transaction each. The other verbs have default bodies.
//!
//! `cargo run -p session-core --features conformance --example sqlite_store`

mod store;

use session_core::{CookieChange, Key, Sessions, conformance};
use store::SqliteStore;

const VISITS: Key<u64> = Key::new("visits");

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("sessions.db");
    println!("{}", conformance::check(SqliteStore::open(&file)?).await);

    // Two stores on one file, like the stores of two processes.
    let one = Sessions::new(SqliteStore::open(&file)?);
    let other = Sessions::new(SqliteStore::open(&file)?);
    let session = one.open([]).await?;
    session.update(VISITS, |visits| *visits += 1)?;
    if let CookieChange::Set { id, .. } = session.finish().await? {
        let session = other.open([id.expose().as_bytes()]).await?;
        let visits = session.update(VISITS, |visits| *visits += 1)?;
        session.commit().await?;
        println!("visit {visits}, served by another process");
    }
    Ok(())
}
