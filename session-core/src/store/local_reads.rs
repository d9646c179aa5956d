use std::{fmt, time::Duration};

use crate::{Entry, SessionKey, Timestamp};

/// Reads that need no I/O: of all sessions for a store in memory, of cached copies for a near cache.
///
/// A cached copy may be up to [`staleness`](Self::staleness) old. Not every caller can accept that:
///
/// - The protocol uses local reads only where a request opens its session. Commits, locks and lists
///   ask the store itself.
/// - A client reads its own writes: while a copy anywhere may be older than a change of this client,
///   the client's requests ask the store itself. See
///   [`Session::read_your_writes`](crate::Session::read_your_writes).
/// - A local read never returns an entry as it was before a change through this same store.
pub trait LocalReads: fmt::Debug + Send + Sync {
    /// The longest time for which a copy may be older than a change by another process. Zero if local
    /// reads are never stale.
    fn staleness(&self) -> Duration;

    /// Returns the entry under a key as it was at some instant of the last
    /// [`staleness`](Self::staleness), never an expired one. Returns `None` if the store has to be
    /// asked.
    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry>;
}
