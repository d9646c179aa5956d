//! How the table keeps within its capacity.

use std::sync::atomic::Ordering;

use session_core::{SessionKey, StoreError, StoreErrorKind, Timestamp};

use super::{
    EvictingTable, Held,
    order::Ticket,
    slot::{Live, Slot},
};

/// An operation under way that adds bytes. The last of them to end evicts values if moka did not.
pub(super) struct UnderWay<'t, V: Held>(&'t EvictingTable<V>);

impl<V: Held> EvictingTable<V> {
    /// Begins an operation that adds bytes, before the bytes are counted.
    pub(super) fn begin(&self) -> UnderWay<'_, V> {
        self.shelf.under_way.fetch_add(1, Ordering::AcqRel);
        UnderWay(self)
    }

    /// Returns the weight if a value of it fits into the table.
    pub(super) fn within_capacity(&self, weight: Option<u32>) -> Result<u32, StoreError> {
        let fitting = weight.filter(|weight| u64::from(*weight) <= self.shelf.capacity);
        fitting.ok_or_else(|| StoreError::new(StoreErrorKind::TooLarge))
    }

    /// Inserts the weight of a value into moka, under the ticket of the slot, and makes room for the
    /// value.
    pub(super) fn enqueue(
        &self,
        key: &SessionKey,
        slot: &Slot<V>,
        ticket: Ticket,
        weight: u32,
        now: Timestamp,
    ) {
        // Before the insertion, as moka would evict other values first.
        for _ in 0..EXPIRY_TURNS {
            if !self.shelf.is_over() || self.remove_expired(now) == 0 {
                break;
            }
        }
        self.order.insert(ticket, *key, weight);
        self.settle(key, slot, ticket);
        // Once is enough, unless other threads add bytes or moka reaches its own limit of time.
        for _ in 0..CATCH_UPS {
            if !self.shelf.is_over() {
                return;
            }
            self.order.catch_up();
        }
    }

    /// Records the insertion of a ticket into moka, or takes the ticket back.
    fn settle(&self, key: &SessionKey, slot: &Slot<V>, ticket: Ticket) {
        if let Some(live) = &mut *slot.lock()
            && live.ticket == ticket
        {
            live.is_queued = true;
            self.shelf.deadlines.advance(key, &mut live.due, live.value.expires_at());
            return;
        }
        // Another thread has taken the value out or weighed it anew, and relies on this thread to
        // remove the ticket.
        self.order.remove(ticket);
    }

    /// Takes the value out of a slot, and its ticket out of moka.
    pub(super) fn take<R>(
        &self,
        key: &SessionKey,
        slot: &Slot<V>,
        keep: impl FnOnce(&Live<V>) -> Option<R>,
    ) -> Result<V, Option<R>> {
        let live = self.shelf.take(key, slot, keep)?;
        if live.is_queued {
            self.order.remove(live.ticket);
        }
        Ok(live.value)
    }

    /// Evicts the least recently used one of a few values, without moka. Returns `false` if the
    /// table is empty.
    fn evict_any(&self) -> bool {
        let slots = self.shelf.slots.pin();
        let recorded = slots.iter().filter_map(|(key, slot)| {
            let state = slot.lock();
            state.as_ref().map(|live| (live.recorded_ms(), live.ticket, key, slot))
        });
        let least = recorded.take(SAMPLE).min_by_key(|(at, ticket, ..)| (*at, *ticket));
        let Some((_, _, key, slot)) = least else { return false };
        drop(self.take(key, slot, |_| None::<()>));
        true
    }
}

impl<V: Held> Drop for UnderWay<'_, V> {
    fn drop(&mut self) {
        let table = self.0;
        if table.shelf.under_way.fetch_sub(1, Ordering::AcqRel) > 1 {
            // The last operation to end sees the bytes of all.
            return;
        }
        // Ends, as each turn evicts a value and the next operation that adds bytes takes over.
        while table.shelf.is_over()
            && table.shelf.under_way.load(Ordering::Acquire) == 0
            && table.evict_any()
        {}
    }
}

/// How often an operation removes a few expired values to make room. A deadline that was put off
/// frees no memory: without a bound, an operation could look at the deadlines of all sessions.
const EXPIRY_TURNS: usize = 16;

/// How often an operation asks moka to make room.
const CATCH_UPS: usize = 4;

/// The sample of values from which the least recently used is evicted if moka does not make room.
const SAMPLE: usize = 16;
