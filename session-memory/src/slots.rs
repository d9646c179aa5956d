use std::sync::Arc;

use moka::{notification::RemovalCause, ops::compute::Op, policy::EvictionPolicy, sync::Cache};
use papaya::HashMap;
use session_core::{SessionKey, Timestamp};

use crate::{
    expiry::KeepWhileAlive,
    hasher::KeyHasher,
    slot::{Slot, Terms},
};

/// The slots of all sessions: a table in which they are found, and a cache that decides how long they stay.
///
/// A look-up in the cache costs more than all else that a read does: it passes through four pieces of memory that
/// belong to the entry, and through one queue that all reads of all threads share. So sessions are found in the
/// table, and the cache is told of their use once in a while. What the cache has is in the table: it comes into the
/// table first, and leaves it when the cache says that it has let it go. Terms that are weighed anew while the cache
/// lets them go may stay in it without a slot; they expire or are evicted like the others, and are told of once more.
#[derive(Clone)]
pub(crate) struct Slots {
    table: Arc<Table>,
    cache: Cache<SessionKey, Arc<Terms>, KeyHasher>,
}

type Table = HashMap<SessionKey, Slot, KeyHasher>;

impl Slots {
    /// Makes room for slots that weigh so many bytes. `has_left` is told of each that leaves and is not replaced.
    pub(crate) fn new(
        capacity: u64,
        has_left: impl Fn(&SessionKey, &Terms) + Send + Sync + 'static,
    ) -> Self {
        let table = Arc::new(Table::with_hasher(KeyHasher::default()));
        let found_in = Arc::clone(&table);
        let cache = Cache::builder()
            .name("sessions")
            .max_capacity(capacity)
            .weigher(|_, terms: &Arc<Terms>| terms.weight())
            // The default policy may refuse a new entry in favour of those that were used often: a
            // login that does not take.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(KeepWhileAlive)
            .eviction_listener(move |key, terms: Arc<Terms>, cause| {
                // Another slot took its place, or it was only weighed anew.
                if cause == RemovalCause::Replaced {
                    return;
                }
                let table = found_in.pin();
                let is_it = |slot: &Slot| Arc::ptr_eq(slot.terms(), &terms);
                if let Some(slot) = table.get(&*key).filter(|slot| is_it(slot)) {
                    // What a request is told is stored must be found by the next.
                    slot.lock().take();
                    let _ = table.remove_if(&*key, |_, slot| is_it(slot));
                }
                has_left(&key, &terms);
            })
            .build_with_hasher(KeyHasher::default());
        Self { table, cache }
    }

    /// Looks at a slot, if there is one.
    pub(crate) fn with<R>(&self, key: &SessionKey, look: impl FnOnce(&Slot) -> R) -> Option<R> {
        self.table.pin().get(key).map(look)
    }

    /// Notes that a session was used. The cache need not know of each use to keep what is used.
    pub(crate) fn note_use(&self, key: &SessionKey, slot: &Slot, now: Timestamp) {
        if slot.claim_telling(now) {
            self.consult(key);
        }
    }

    /// Makes the cache ask anew how long to keep a slot.
    pub(crate) fn consult(&self, key: &SessionKey) {
        drop(self.cache.get(key));
    }

    /// Changes what is found under a key. Changes of one key come one after the other.
    ///
    /// What the cache lets go, or thinks expired, it hides before it says so: it is the table that is asked.
    pub(crate) fn change(&self, key: &SessionKey, decide: impl FnOnce(Option<&Slot>) -> Next) {
        self.cache.entry_by_ref(key).and_compute_with(|cached| {
            let table = self.table.pin();
            let found = table.get(key);
            match decide(found) {
                Next::Stay => Op::Nop,
                Next::Leave => Op::Remove,
                // One that the cache lets go is not put back, as far as that is known.
                Next::Weigh => match found.filter(|_| cached.is_some()) {
                    Some(slot) => Op::Put(Arc::clone(slot.terms())),
                    None => Op::Nop,
                },
                Next::Put(slot) => {
                    debug_assert!(
                        found.is_none_or(|found| found.lock().is_none()),
                        "nothing that lives is replaced"
                    );
                    let terms = Arc::clone(slot.terms());
                    table.insert(*key, slot);
                    Op::Put(terms)
                }
            }
        });
    }

    pub(crate) fn run_pending_tasks(&self) {
        self.cache.run_pending_tasks();
    }

    pub(crate) fn capacity(&self) -> Option<u64> {
        self.cache.policy().max_capacity()
    }

    pub(crate) fn approximate_len(&self) -> u64 {
        self.cache.entry_count()
    }

    pub(crate) fn approximate_bytes(&self) -> u64 {
        self.cache.weighted_size()
    }

    /// How many slots are found.
    #[cfg(test)]
    pub(crate) fn found(&self) -> usize {
        self.table.len()
    }
}

/// What becomes of a place.
pub(crate) enum Next {
    /// It stays as it is.
    Stay,
    /// The slot in it leaves.
    Leave,
    /// The slot in it weighs something else by now.
    Weigh,
    /// This slot is in it from now on. The one that was, if any, is dead, and nobody who decides has it locked.
    Put(Slot),
}

#[cfg(test)]
mod tests {
    use session_core::{Entry, envelope};

    use super::*;

    fn slot() -> Slot {
        let mut bytes = vec![envelope::VERSION, envelope::LIVE];
        bytes.extend([0; 14]);
        bytes.extend(envelope::u48(0));
        bytes.extend(envelope::u48(3_600_000));
        bytes.extend(envelope::u48(3_600_000));
        bytes.extend(envelope::u48(0));
        bytes.push(0x80);
        Slot::new(Entry::decode(bytes).unwrap(), None, Timestamp::default())
    }

    /// The cache hides what it is about to let go, and requests find it until it has.
    #[test]
    fn what_is_found_is_what_can_be_changed() {
        let slots = Slots::new(1_000_000, |_, _| {});
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        slots.table.pin().insert(key, slot());
        let mut seen = false;
        slots.change(&key, |found| {
            seen = found.is_some();
            Next::Leave
        });
        assert!(seen);
    }

    #[test]
    fn what_the_cache_lets_go_is_not_put_back() {
        let slots = Slots::new(1_000_000, |_, _| {});
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        slots.table.pin().insert(key, slot());
        slots.change(&key, |_| Next::Weigh);
        slots.run_pending_tasks();
        assert_eq!(slots.approximate_len(), 0);
        slots.change(&key, |found| {
            found.unwrap().lock().take();
            Next::Put(slot())
        });
        slots.run_pending_tasks();
        assert_eq!((slots.found(), slots.approximate_len()), (1, 1));
    }

    /// Or a commit that looked the session up before would be acknowledged and lost (I6).
    #[test]
    fn what_the_cache_lets_go_is_dead_for_who_still_looks_at_it() {
        let slots = Slots::new(1_000_000, |_, _| {});
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        slots.change(&key, |_| Next::Put(slot()));
        let looked_up = slots.with(&key, |slot| {
            assert!(slot.lock().is_some());
            slots.cache.invalidate(&key);
            slots.run_pending_tasks();
            assert!(slot.lock().is_none());
        });
        assert!(looked_up.is_some());
        assert_eq!(slots.found(), 0);
    }

    #[test]
    fn what_the_cache_lets_go_takes_no_other_with_it() {
        let slots = Slots::new(1_000_000, |_, _| {});
        let key = SessionKey::from_bytes([1; SessionKey::LEN]);
        slots.change(&key, |_| Next::Put(slot()));
        slots.table.pin().insert(key, slot());
        slots.cache.invalidate(&key);
        slots.run_pending_tasks();
        assert_eq!(slots.with(&key, |slot| slot.lock().is_some()), Some(true));
    }
}
