use std::{
    ptr,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use papaya::HashMap;
use session_core::SessionKey;

use super::{
    deadlines::Deadlines,
    hasher::KeyHasher,
    slot::{Live, Slot},
};

/// The values and the count of their bytes: the part of the table that moka's callback needs.
pub(super) struct Shelf<V> {
    pub(super) slots: HashMap<SessionKey, Slot<V>, KeyHasher>,
    pub(super) capacity: u64,
    pub(super) deadlines: Deadlines,
    /// The operations under way that add bytes.
    pub(super) under_way: AtomicUsize,
    bytes: AtomicU64,
    has_left: HasLeft<V>,
}

/// The function to call with each value that has left.
pub(super) type HasLeft<V> = Box<dyn Fn(&SessionKey, &V) + Send + Sync>;

impl<V> Shelf<V> {
    pub(super) fn new(capacity: u64, has_left: HasLeft<V>) -> Self {
        Self {
            slots: HashMap::with_hasher(KeyHasher::default()),
            capacity,
            deadlines: Deadlines::default(),
            under_way: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            has_left,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.bytes() > self.capacity
    }

    /// Replaces a weight in the count. The caller holds the lock of the slot, or is the only thread
    /// that can find the slot.
    pub(super) fn count(&self, former: u32, weight: u32) {
        if former < weight {
            self.bytes.fetch_add(u64::from(weight - former), Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(u64::from(former - weight), Ordering::Relaxed);
        }
    }

    /// Takes the value out of a slot, unless the slot is dead or `keep` returns something.
    pub(super) fn take<R>(
        &self,
        key: &SessionKey,
        slot: &Slot<V>,
        keep: impl FnOnce(&Live<V>) -> Option<R>,
    ) -> Result<Live<V>, Option<R>> {
        let taken = {
            let mut state = slot.lock();
            let Some(live) = &*state else { return Err(None) };
            if let Some(kept) = keep(live) {
                return Err(Some(kept));
            }
            self.count(live.weight, 0);
            self.deadlines.remove(key, live.due);
            state.take()
        };
        self.clear_away(key, slot);
        let Some(live) = taken else { return Err(None) };
        (self.has_left)(key, &live.value);
        Ok(live)
    }

    /// Removes a dead slot.
    pub(super) fn clear_away(&self, key: &SessionKey, slot: &Slot<V>) {
        let _ = self.slots.pin().remove_if(key, |_, found| ptr::eq(found, slot));
    }
}
