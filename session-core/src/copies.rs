use std::{fmt, time::Duration};

use crate::{Entry, SessionKey, Timestamp};

/// What a store has at hand, to answer without I/O: what it remembers of what it has read, or all of it, for a store
/// in memory.
///
/// A session that is open to read from a copy is at most [`staleness`](Self::staleness) behind. That is not
/// enough for everybody, so it is asked for by name:
///
/// - The protocol looks at copies only where a request
///   [opens its session](crate::Sessions::open_without_io). Whatever decides what is stored, who has a lock or what is
///   listed asks the store itself.
/// - A client reads what it wrote: for as long as a copy anywhere may be older than what a request has changed, the
///   client's next requests ask the store itself. See [`Session::marker`](crate::Session::marker).
/// - What was changed through this store is never answered as it was before.
pub trait Copies: fmt::Debug + Send + Sync {
    /// How long after a change by another process a copy of how it was before may be answered. Zero if never.
    fn staleness(&self) -> Duration;

    /// What was stored under a key at some instant of the last [`staleness`](Self::staleness), if there is a copy
    /// of it; never one that has expired.
    ///
    /// None says nothing about what is stored: the store itself is asked then.
    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry>;
}
