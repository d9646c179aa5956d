use session_core::{Entry, IndexKey, Timestamp};

use crate::table::Held;

/// One session in the table.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Session {
    pub(crate) entry: Entry,
    /// The index of the session.
    pub(crate) index: Option<IndexKey>,
}

impl Held for Session {
    fn bytes(&self) -> usize {
        self.entry.memory_bytes() + OVERHEAD + self.index.map_or(0, |_| INDEX_ENTRY)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.entry.expires_at())
    }
}

/// The bytes of a session besides the entry: the slot, and the places in the hash table, in moka and
/// among the deadlines.
const OVERHEAD: usize = 592;

/// The bytes of an entry in an index, in a B-tree with half-full nodes.
const INDEX_ENTRY: usize = 120;
