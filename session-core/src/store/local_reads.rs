use std::{fmt, time::Duration};

use crate::{Entry, SessionKey, Timestamp};

/// Reads without I/O: of all sessions for a store in memory, of cached copies for a near cache.
///
/// A cached copy may be up to [`staleness`](Self::staleness) old. Three rules bound the effect:
///
/// - The protocol uses local reads only where a request opens its session. Commits, locks and lists
///   ask the store itself.
/// - A client reads its own writes: while a copy anywhere may be older than a change by this
///   client, the client's requests ask the store itself. See
///   [`Session::read_your_writes`](crate::Session::read_your_writes).
/// - After a change through this same store, a local read never returns the entry from before the
///   change.
pub trait LocalReads: fmt::Debug + Send + Sync {
    /// Returns the longest time for which a copy may be older than a change by another process.
    /// Zero if local reads are never stale.
    fn staleness(&self) -> Duration;

    /// Returns the time for which a client carries the mark of its own writes: the longest staleness
    /// that any process on the same store may have. The default is this process's own.
    fn mark_lifetime(&self) -> Duration {
        self.staleness()
    }

    /// Returns the entry under a key as it was at some instant of the last
    /// [`staleness`](Self::staleness), never an expired entry. Returns `None` if the caller must
    /// ask the store.
    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry>;
}
