use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use session_core::{SessionKey, Timestamp};

/// The instant at which the table checks whether a value has expired.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Due(u64);

impl Due {
    /// The value is not among the deadlines.
    pub(super) const NEVER: Self = Self(u64::MAX);

    fn of(end: Option<Timestamp>) -> Self {
        end.map_or(Self::NEVER, |end| Self(end.as_millis()))
    }
}

/// The deadlines of all values, in their order.
///
/// A deadline that is put off stays in its place until it is reached, as nearly every use of a
/// session puts the deadline off. The lock of a slot is held while its deadline is changed.
#[derive(Debug)]
pub(super) struct Deadlines {
    first: AtomicU64,
    all: Mutex<BTreeSet<(Due, SessionKey)>>,
}

impl Deadlines {
    /// Enters a value that expires at `end`, unless it is entered for that instant or before.
    pub(super) fn advance(&self, key: &SessionKey, due: &mut Due, end: Option<Timestamp>) {
        let sooner = Due::of(end);
        if sooner < *due {
            let mut all = self.lock();
            all.remove(&(*due, *key));
            all.insert((sooner, *key));
            *due = sooner;
            self.note_first(&all);
        }
    }

    pub(super) fn remove(&self, key: &SessionKey, due: Due) {
        if due != Due::NEVER {
            let mut all = self.lock();
            all.remove(&(due, *key));
            self.note_first(&all);
        }
    }

    /// Takes some of the deadlines that have passed, the earliest first.
    pub(super) fn take_passed(&self, now: Timestamp) -> Vec<(Due, SessionKey)> {
        if now.as_millis() < self.first.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut all = self.lock();
        let mut passed = Vec::with_capacity(AT_A_TIME);
        while passed.len() < AT_A_TIME
            && let Some(first) = all.first().copied()
            && first.0 <= Due::of(Some(now))
        {
            all.pop_first();
            passed.push(first);
        }
        self.note_first(&all);
        passed
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn note_first(&self, all: &BTreeSet<(Due, SessionKey)>) {
        let (first, _) = all.first().copied().unwrap_or((Due::NEVER, NO_KEY));
        self.first.store(first.0, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(Due, SessionKey)>> {
        // Every change under the lock is complete before anything can panic.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { first: AtomicU64::new(Due::NEVER.0), all: Mutex::default() }
    }
}

/// The number of expired values that an operation removes: more than it adds, and few enough to take
/// microseconds.
const AT_A_TIME: usize = 16;

const NO_KEY: SessionKey = SessionKey::from_bytes([0; SessionKey::LEN]);
