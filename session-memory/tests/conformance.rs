//! The suite that every store runs.

use session_memory::MemoryStore;

session_core::conformance::suite!(MemoryStore::default());
