//! What the integration tests share.

#[path = "../../examples/map_store/store.rs"]
mod map_store;

pub(crate) use map_store::MapStore;
