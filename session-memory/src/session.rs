use std::{slice, sync::Arc};

use session_core::{Entry, IndexKey, Timestamp};

use crate::table::Held;

/// One session in the table.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Session {
    pub(crate) entry: Entry,
    pub(crate) listed: Listed,
}

/// The indexes that list a session. Most sessions are in one at most.
#[derive(Clone, Debug)]
pub(crate) enum Listed {
    Nowhere,
    Once(IndexKey),
    Often(Arc<[IndexKey]>),
}

impl Listed {
    pub(crate) fn of(indexes: &[IndexKey]) -> Self {
        match indexes {
            [] => Self::Nowhere,
            [index] => Self::Once(*index),
            indexes => Self::Often(indexes.into()),
        }
    }

    pub(crate) fn indexes(&self) -> &[IndexKey] {
        match self {
            Self::Nowhere => &[],
            Self::Once(index) => slice::from_ref(index),
            Self::Often(indexes) => indexes,
        }
    }
}

impl Held for Session {
    fn bytes(&self) -> usize {
        self.entry.memory_bytes() + OVERHEAD + self.listed.indexes().len() * INDEX_ENTRY
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Some(self.entry.expires_at())
    }
}

/// The bytes of a session besides the entry: the slot, and the places in the hash table, in moka and
/// among the deadlines.
const OVERHEAD: usize = 592;

/// The bytes of an entry in an index, in a B-tree with half-full nodes, and of the index's key in the
/// session.
const INDEX_ENTRY: usize = 120;
