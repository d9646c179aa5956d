use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, AtomicU64, Ordering},
};
use std::time::Duration;

use session_core::{Entry, OwnerKey, Timestamp};

/// The place of one session in the table.
///
/// The entry is swapped here, under a lock of its own, so that a commit does not pass through the
/// cache's write path. A slot whose entry was taken out is dead for good: nothing is ever put into it
/// again, so that whoever still looks at it cannot bring a session back (I2).
#[derive(Debug)]
pub(crate) struct Slot {
    entry: Mutex<Option<Entry>>,
    /// When the cache was last told that the session was used.
    told_ms: AtomicU64,
    terms: Arc<Terms>,
}

/// What the cache knows of a slot. A read does not need it, so it lies elsewhere.
#[derive(Debug)]
pub(crate) struct Terms {
    /// How long the cache has to keep the slot from its last use on.
    keep_ms: AtomicU64,
    /// What the cache was told the slot weighs.
    weight: AtomicU32,
    /// In whose index the session is.
    owner: Option<OwnerKey>,
}

impl Slot {
    pub(crate) fn new(entry: Entry, owner: Option<OwnerKey>, now: Timestamp) -> Self {
        let terms = Terms {
            keep_ms: AtomicU64::new(0),
            weight: AtomicU32::new(weight(&entry, owner.is_some())),
            owner,
        };
        terms.note_lifetime(&entry, now);
        Self {
            entry: Mutex::new(Some(entry)),
            told_ms: AtomicU64::new(now.as_millis()),
            terms: Arc::new(terms),
        }
    }

    pub(crate) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<Entry>> {
        // Every change is one assignment.
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entry out if it has expired, and tells whether the slot is dead now. Under the lock, so
    /// that a commit by a clock a little behind is either seen or refused.
    pub(crate) fn is_dead(&self, now: Timestamp) -> bool {
        let mut entry = self.lock();
        entry.take_if(|entry| !entry.is_live(now));
        entry.is_none()
    }

    /// Tells whether the cache was told of no use of the session for a second. Whoever hears so tells it.
    pub(crate) fn claim_telling(&self, now: Timestamp) -> bool {
        let (now_ms, told_ms) = (now.as_millis(), self.told_ms.load(Ordering::Relaxed));
        // A clock that was set back is no reason to be silent for as long.
        let is_while = now_ms.abs_diff(told_ms) >= TOLD_EVERY_MS;
        if is_while {
            self.told_ms.store(now_ms, Ordering::Relaxed);
        }
        is_while
    }
}

impl Terms {
    pub(crate) fn owner(&self) -> Option<&OwnerKey> {
        self.owner.as_ref()
    }

    /// How long the cache shall keep the slot, given how long it would: that again while it is enough,
    /// as each change costs the cache a timer.
    pub(crate) fn keep(&self, would: Option<Duration>) -> Duration {
        let least = Duration::from_millis(self.keep_ms.load(Ordering::Relaxed)) + SLACK;
        let most = least + least / 8;
        would.filter(|would| (least..=most).contains(would)).unwrap_or(most)
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Notes how long the entry lives, and tells whether the cache must learn of it: what is dropped too
    /// early costs a session, what is kept far too long costs memory.
    pub(crate) fn note_lifetime(&self, entry: &Entry, now: Timestamp) -> bool {
        let keep = u64::try_from(entry.expires_at().since(now).as_millis()).unwrap_or(u64::MAX);
        let before = self.keep_ms.swap(keep, Ordering::Relaxed);
        before < keep || keep < before / 2
    }

    /// Notes what the entry weighs, and tells whether that is so different that the cache must know.
    pub(crate) fn note_weight(&self, entry: &Entry) -> bool {
        let (old, new) = (self.weight(), weight(entry, self.owner.is_some()));
        let matters = old.abs_diff(new) > old / 8;
        if matters {
            self.weight.store(new, Ordering::Relaxed);
        }
        matters
    }
}

fn weight(entry: &Entry, entered: bool) -> u32 {
    let index = if entered { ENTRY } else { 0 };
    u32::try_from(entry.memory_bytes() + OVERHEAD + index).unwrap_or(u32::MAX)
}

/// What the cache keeps a slot for beyond its session's end: it may not know of the last use, and the system's
/// clock, by which a session ends, and the cache's may differ a little.
const SLACK: Duration = Duration::from_secs(2);

/// By how much a session may seem to have been used earlier than it was, when the least used ones are evicted.
const TOLD_EVERY_MS: u64 = 1_000;

/// What a session costs besides its entry: the slot, its place in the table, the cache's own node, and its
/// places in the cache's table, queues and timers.
const OVERHEAD: usize = 592;

/// What its entry in its owner's index costs, for an owner who has no other.
const ENTRY: usize = 128;
