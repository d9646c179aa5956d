//! Doubles for tests: of an application that must survive an outage of its store, and of a store.
//!
//! - [`FaultStore`] wraps any store: it counts calls, lets calls fail before or after the store has
//!   carried them out, and runs code just before a call.
//! - [`Intercepted`] wraps any store with one function that sees every call as an [`Operation`] and
//!   returns an [`Answer`]: for a double of your own.
//! - [`ManualClock`](crate::ManualClock) moves time by hand.
//!
//! ```
//! # mod map_store {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
//! # }
//! # use map_store::MapStore;
//! use std::sync::Arc;
//! use session_core::{Key, Sessions, testing::{Fault, FaultStore, Verb}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), session_core::SessionError> {
//! const NAME: Key<String> = Key::new("name");
//!
//! let store = Arc::new(FaultStore::new_working(MapStore::default()));
//! let sessions = Sessions::new(Arc::clone(&store));
//! store.fail(Verb::Create, Fault::DOWN);
//!
//! let session = sessions.open([]).await?;
//! session.set(NAME, "Ada")?;
//! assert!(session.commit().await.is_err());
//! session.commit().await?; // the changes are still there
//! # Ok(())
//! # }
//! ```

mod fault_store;
mod intercepted;
mod operation;

pub use {
    fault_store::{Fault, FaultStore, Faults},
    intercepted::{Intercept, Intercepted},
    operation::{Answer, Operation, Verb},
};

use crate::{Codec, Key, Nonce, Record, Timestamp, Tombstone, record::decode};

/// Makes an end marker, for a test that calls a store's
/// [`delete_or_block`](crate::SessionStore::delete_or_block).
#[must_use]
pub fn end_marker(expires_at: Timestamp) -> Tombstone {
    Tombstone::end_marker(Nonce(0), expires_at)
}

/// A readable view of records, for a double that checks what is stored.
impl Record {
    /// Reads a value. Returns `None` if there is none, or if it cannot be decoded.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        decode::<T, C>(key.name(), self.values.get(key.name())?).ok()
    }

    /// Returns the names of all values, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.names()
    }

    /// The mark of the commit that wrote the record.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }
}
