use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeBounds,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use crate::{Entry, SessionKey};

/// The answer of [`SessionStore::watch`](crate::SessionStore::watch).
#[derive(Debug)]
pub struct Watched {
    /// The entry under the key, as by [`SessionStore::load`](crate::SessionStore::load).
    pub entry: Option<Entry>,
    /// The watch of the key. `None` if the store cannot report changes, in general or at the moment.
    pub watch: Option<Watch>,
}

/// The watched keys of a store, for the store's [`watch`](crate::SessionStore::watch).
///
/// A store reports each change: a change of its own, or a change that a server has announced.
/// Without a watched key, a report only reads a counter. Clones are the same watchers.
///
/// # Examples
///
/// ```
/// use session_core::{SessionKey, WatchOutcome, Watchers};
///
/// # async fn example(key: SessionKey) {
/// let watchers = Watchers::default();
/// let watch = watchers.watch(&key);
/// watchers.report_change(&key);
/// assert_eq!(watch.await, WatchOutcome::Changed);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Watchers(Arc<Registry>);

#[derive(Default)]
struct Registry {
    /// The number of watches, for the check without a lock.
    len: AtomicUsize,
    watches: Mutex<Watches>,
}

#[derive(Default)]
struct Watches {
    /// One flag per watch. The number separates the watches of one key.
    flags: BTreeMap<(SessionKey, u64), Arc<Flag>>,
    next: u64,
}

#[derive(Default)]
struct Flag {
    state: AtomicU8,
    waker: AtomicWaker,
}

impl Watchers {
    /// Watches a key from now on. A store calls this before it loads the entry.
    pub fn watch(&self, key: &SessionKey) -> Watch {
        let flag = Arc::<Flag>::default();
        let mut watches = self.0.watches();
        let place = (*key, watches.next);
        watches.next += 1;
        watches.flags.insert(place, Arc::clone(&flag));
        self.0.len.store(watches.flags.len(), Ordering::Relaxed);
        drop(watches);
        Watch { registry: Arc::clone(&self.0), place, flag }
    }

    /// Completes the watches of a key.
    ///
    /// A store in memory calls this after the change of the entry. The change and the load of a
    /// watching caller must hold the same lock, one after the other: either the load sees the
    /// change, or the report sees the watch.
    pub fn report_change(&self, key: &SessionKey) {
        if !self.is_empty() {
            self.set((*key, 0)..=(*key, u64::MAX), CHANGED);
        }
    }

    /// Completes all watches, because the store may have missed changes: after the loss of the
    /// connection over which a server announces them, for example.
    pub fn report_loss(&self) {
        self.set(.., LOST);
    }

    /// Returns `true` if no key is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len.load(Ordering::Relaxed) == 0
    }

    fn set(&self, places: impl RangeBounds<(SessionKey, u64)>, state: u8) {
        let flags: Vec<_> = {
            let watches = self.0.watches();
            watches.flags.range(places).map(|(_, flag)| Arc::clone(flag)).collect()
        };
        // The wakers run without the lock, because a waker is foreign code.
        for flag in flags {
            flag.state.fetch_max(state, Ordering::Release);
            flag.waker.wake();
        }
    }
}

impl Registry {
    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers")
            .field("len", &self.0.len.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

/// A future that completes when the entry under a key may have changed since the watch began.
///
/// Without being polled, a watch still records a change. The drop ends the watch.
#[must_use = "a dropped watch reports no change"]
pub struct Watch {
    registry: Arc<Registry>,
    place: (SessionKey, u64),
    flag: Arc<Flag>,
}

/// The reason why a [`Watch`] completed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchOutcome {
    /// The entry has changed, as far as the store knows.
    Changed,
    /// The store may have missed a change, as with all other watches. The callers should spread
    /// their loads.
    Lost,
}

impl Future for Watch {
    type Output = WatchOutcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<WatchOutcome> {
        // Registered first: a change after the check finds the waker.
        self.flag.waker.register(context.waker());
        match self.flag.state.load(Ordering::Acquire) {
            CHANGED => Poll::Ready(WatchOutcome::Changed),
            LOST => Poll::Ready(WatchOutcome::Lost),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.registry.watches();
        watches.flags.remove(&self.place);
        self.registry.len.store(watches.flags.len(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("key", &self.place.0).finish_non_exhaustive()
    }
}

/// The states of a flag after zero, the initial state. A change outranks a loss.
const LOST: u8 = 1;
const CHANGED: u8 = 2;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([1; 16]);
    const OTHER: SessionKey = SessionKey::from_bytes([2; 16]);

    #[test]
    fn change_completes_the_watches_of_its_key_only() {
        let watchers = Watchers::default();
        let (first, second) = (watchers.watch(&KEY), watchers.watch(&KEY));
        let other = watchers.watch(&OTHER);
        watchers.report_change(&KEY);
        assert_eq!(first.now_or_never(), Some(WatchOutcome::Changed));
        assert_eq!(second.now_or_never(), Some(WatchOutcome::Changed));
        assert_eq!(other.now_or_never(), None);
    }

    #[test]
    fn loss_completes_all_watches() {
        let watchers = Watchers::default();
        let (first, other) = (watchers.watch(&KEY), watchers.watch(&OTHER));
        watchers.report_change(&OTHER);
        watchers.report_loss();
        assert_eq!(first.now_or_never(), Some(WatchOutcome::Lost));
        assert_eq!(other.now_or_never(), Some(WatchOutcome::Changed));
    }

    #[test]
    fn watch_reports_no_earlier_change() {
        let watchers = Watchers::default();
        watchers.report_change(&KEY);
        watchers.report_loss();
        assert_eq!(watchers.watch(&KEY).now_or_never(), None);
    }

    #[test]
    fn dropped_watches_leave_nothing() {
        let watchers = Watchers::default();
        drop((watchers.watch(&KEY), watchers.watch(&KEY), watchers.watch(&OTHER)));
        assert!(watchers.is_empty());
    }
}
