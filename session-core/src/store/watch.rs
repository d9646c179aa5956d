use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use crate::SessionKey;

/// The watched keys of a store, for the store's [`watch`](crate::SessionStore::watch).
///
/// A store reports each change with [`wake`](Self::wake): a change of its own, or a change that a
/// server has announced. Without a watched key, `wake` only reads a counter. Clones are the same
/// watchers.
///
/// # Examples
///
/// ```
/// use session_core::{SessionKey, Watchers};
///
/// # async fn example(key: SessionKey) {
/// let watchers = Watchers::default();
/// let watch = watchers.watch(&key);
/// watchers.wake(&key);
/// watch.await;
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Watchers(Arc<Registry>);

#[derive(Default)]
struct Registry {
    /// The number of watched keys, for the check without a lock.
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
    has_changed: AtomicBool,
    waker: AtomicWaker,
}

impl Watchers {
    /// Watches a key from now on.
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
    /// change, or `wake` sees the watch.
    pub fn wake(&self, key: &SessionKey) {
        if self.is_empty() {
            return;
        }
        let range = (*key, 0)..=(*key, u64::MAX);
        let flags: Vec<_> =
            self.0.watches().flags.range(range).map(|(_, flag)| Arc::clone(flag)).collect();
        // The wakers run without the lock, because a waker is foreign code.
        flags.iter().for_each(|flag| flag.set());
    }

    /// Returns `true` if no key is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len.load(Ordering::Relaxed) == 0
    }
}

impl Registry {
    fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flag {
    fn set(&self) {
        self.has_changed.store(true, Ordering::Release);
        self.waker.wake();
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

impl Future for Watch {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Registered first: a change after the check finds the waker.
        self.flag.waker.register(context.waker());
        if self.flag.has_changed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([1; 16]);
    const OTHER: SessionKey = SessionKey::from_bytes([2; 16]);

    #[test]
    fn wake_completes_the_watches_of_its_key_only() {
        let watchers = Watchers::default();
        let (first, second) = (watchers.watch(&KEY), watchers.watch(&KEY));
        let other = watchers.watch(&OTHER);
        watchers.wake(&KEY);
        assert!(first.now_or_never().is_some() && second.now_or_never().is_some());
        assert!(other.now_or_never().is_none());
    }

    #[test]
    fn watch_reports_no_earlier_change() {
        let watchers = Watchers::default();
        watchers.wake(&KEY);
        assert!(watchers.watch(&KEY).now_or_never().is_none());
    }

    #[test]
    fn dropped_watches_leave_nothing() {
        let watchers = Watchers::default();
        drop((watchers.watch(&KEY), watchers.watch(&KEY), watchers.watch(&OTHER)));
        assert!(watchers.is_empty());
    }
}
