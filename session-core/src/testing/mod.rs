//! Test doubles of a store: for an application that must survive an outage, and for the tests of
//! stores.
//!
//! - [`FaultStore`] wraps any store. It records calls, makes calls fail before or after the store
//!   carries them out, and runs code just before a call.
//! - [`Intercepted`] wraps any store with one function from an [`Operation`] to an [`Answer`], for
//!   your own double. The function changes a few verbs and forwards the rest.
//! - [`ManualClock`](crate::ManualClock) moves time by hand.
//! - [`subscribe`] receives the log of a test.
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
mod subscribe;

pub use {
    fault_store::{Fault, FaultStore, Faults},
    intercepted::{Intercept, Intercepted},
    operation::{Answer, Operation, Verb},
    subscribe::subscribe,
};

use crate::{Codec, Key, Nonce, Record, Timestamp, Tombstone, record::decode};

/// Creates an end marker, for a test of a store's
/// [`delete_or_block`](crate::SessionStore::delete_or_block).
#[must_use]
pub fn end_marker(expires_at: Timestamp) -> Tombstone {
    Tombstone::end_marker(Nonce(0), expires_at)
}

/// Read access to records, for a double that checks the stored record.
impl Record {
    /// Returns a value. Returns `None` if the value is missing or cannot be decoded.
    #[must_use]
    pub fn get<T, C: Codec<T>>(&self, key: Key<'_, T, C>) -> Option<T> {
        decode::<T, C>(key.name(), self.values.get(key.name())?).ok()
    }

    /// Returns the names of all values, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.names()
    }

    /// Returns the mark of the commit that wrote the record.
    #[must_use]
    pub fn nonce(&self) -> Nonce {
        self.nonce
    }
}
