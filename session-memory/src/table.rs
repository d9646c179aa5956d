//! A concurrent table of sessions with an exact bound on its bytes.
//!
//! The memory store and the near cache of `session-redis` keep their sessions in it.
//!
//! ```text
//!   each operation ──► slots (papaya)       key → slot { value, ticket, weight }
//!         │                                 the sum of the weights is `bytes`
//!         ├─ over the capacity? ──► order (moka)          ticket → { key, weight }, by last use
//!         └─ deadlines passed? ───► deadlines (B-tree)    { deadline, key }, by deadline
//! ```
//!
//! - A slot is *live* from its insertion until the value is taken out. A dead slot stays dead. The
//!   slot's lock guards both steps, every change of the value, and the count: a weight is in
//!   `bytes` exactly while its slot is live.
//! - moka decides only which value is evicted. An entry of moka never changes its weight: moka 0.12
//!   loses count if an entry changes its weight and is removed before moka's queue is drained. So
//!   each weighing of a value is a new entry, a *ticket*. An eviction is valid only if the slot
//!   still has the evicted ticket.
//! - While `bytes` exceeds the capacity, an operation that adds bytes drains moka's queue. If moka
//!   does not make room, the last operation under way evicts by itself. So `bytes` is within the
//!   capacity whenever all operations have ended.
//! - Each operation removes only a few expired values, so that requests go on while thousands expire
//!   together.
//!
//! A thread releases the lock of a slot before it calls moka: moka calls back, and the callback
//! locks a slot.

mod deadlines;
mod hasher;
mod order;
mod room;
mod shelf;
mod slot;
#[cfg(test)]
mod tests;
mod weight;

use std::{fmt, mem, sync::Arc};

use session_core::{SessionKey, StoreError, Timestamp};

use deadlines::Due;
use order::{Order, Ticket};
use room::UnderWay;
use shelf::{HasLeft, Shelf};
use slot::{Live, Slot};

/// A value of an [`EvictingTable`].
pub trait Held: Send + Sync + 'static {
    /// The bytes of memory of the value and of the bookkeeping for it.
    fn bytes(&self) -> usize;

    /// The deadline at which the table may remove the value, or `None` if only eviction does.
    fn expires_at(&self) -> Option<Timestamp>;

    /// Returns `true` if the value has not expired.
    fn is_live(&self, now: Timestamp) -> bool {
        self.expires_at().is_none_or(|end| now < end)
    }
}

/// A table of values by session key, of at most so many bytes.
///
/// When it is full, the values that were not used for the longest time, to a second, are evicted.
/// Clones are the same table.
pub struct EvictingTable<V> {
    shelf: Arc<Shelf<V>>,
    order: Order,
}

/// The result of [`EvictingTable::update`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Updated<R> {
    /// The new value is in the table.
    Updated,
    /// The caller refused, and the value is as it was.
    Refused(R),
    /// The key holds nothing.
    Missing,
}

/// The result of [`EvictingTable::remove`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Removed<V, R> {
    /// The value was in the table, and has left it.
    Removed(V),
    /// The caller refused, and the value is where it was.
    Refused(R),
    /// The key holds nothing.
    Missing,
}

impl<V: Held> EvictingTable<V> {
    /// Creates a table of at most `capacity` bytes.
    ///
    /// The table calls `has_left` with each value that was removed, evicted, or has expired. A
    /// callback that calls the table may wait for ever.
    #[must_use]
    pub fn new(capacity: u64, has_left: impl Fn(&SessionKey, &V) + Send + Sync + 'static) -> Self {
        Self::with_order(capacity, capacity, Box::new(has_left))
    }

    fn with_order(capacity: u64, order_capacity: u64, has_left: HasLeft<V>) -> Self {
        let shelf = Arc::new(Shelf::new(capacity, has_left));
        let evicted_from = Arc::clone(&shelf);
        let order = Order::new(order_capacity, move |ticket, key| {
            if let Some(slot) = evicted_from.slots.pin().get(&key) {
                // Another weighing of the value, or another value, has another ticket.
                let keep = |live: &Live<V>| (live.ticket != ticket).then_some(());
                drop(evicted_from.take(&key, slot, keep));
            }
        });
        Self { shelf, order }
    }

    /// The most bytes that the table holds.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.shelf.capacity
    }

    /// The bytes of all values in the table: the sum of the [bytes](Held::bytes) of each, rounded
    /// up by at most a half.
    ///
    /// At most the [capacity](Self::capacity), but for values that other threads are adding.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shelf.bytes()
    }

    /// The number of values in the table, with the expired ones that were not removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shelf.slots.len()
    }

    /// Returns `true` if the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what `look` finds in the value under a key, and records a use of the value if it
    /// finds something.
    ///
    /// `look` runs under the lock of the value.
    pub fn find<R>(
        &self,
        key: &SessionKey,
        now: Timestamp,
        look: impl FnOnce(&V) -> Option<R>,
    ) -> Option<R> {
        let (found, used) = {
            let slots = self.shelf.slots.pin();
            let mut state = slots.get(key)?.lock();
            let live = state.as_mut()?;
            (look(&live.value)?, live.record_use(now))
        };
        if let Some(ticket) = used {
            self.order.record_use(ticket);
            self.remove_expired(now);
        }
        Some(found)
    }

    /// Inserts a value unless the key holds a live one. Returns `true` if the value is inserted.
    ///
    /// A value that other threads replace all the time counts as live.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`TooLarge`](session_core::StoreErrorKind::TooLarge) if the value
    /// alone exceeds the capacity.
    pub fn insert(&self, key: &SessionKey, value: V, now: Timestamp) -> Result<bool, StoreError> {
        let weight = self.within_capacity(weight::rounded_up(value.bytes()))?;
        let under_way = self.begin();
        let slots = self.shelf.slots.pin();
        let ticket = self.order.ticket();
        self.shelf.count(0, weight);
        let mut slot = Slot::new(value, ticket, weight, now);
        let mut placed = None;
        for _ in 0..MAX_RACES {
            match slots.try_insert(*key, slot) {
                Ok(new) => {
                    placed = Some(new);
                    break;
                }
                Err(occupied) if self.clear(key, occupied.current, now) => {
                    slot = occupied.not_inserted;
                }
                Err(_) => break,
            }
        }
        let Some(placed) = placed else {
            self.shelf.count(weight, 0);
            return Ok(false);
        };
        self.enqueue(key, placed, ticket, weight, now);
        drop(under_way);
        self.remove_expired(now);
        Ok(true)
    }

    /// Replaces the value under a key by the result of `decide`, or leaves it if `decide` refuses.
    ///
    /// `decide` runs under the lock of the value, so that the decision and the change are atomic.
    ///
    /// # Errors
    ///
    /// Returns an error of kind [`TooLarge`](session_core::StoreErrorKind::TooLarge), and leaves
    /// the value, if the new one alone exceeds the capacity.
    pub fn update<R>(
        &self,
        key: &SessionKey,
        now: Timestamp,
        decide: impl FnOnce(&V) -> Result<V, R>,
    ) -> Result<Updated<R>, StoreError> {
        let slots = self.shelf.slots.pin();
        let Some(slot) = slots.get(key) else { return Ok(Updated::Missing) };
        let (former, next) = {
            let mut state = slot.lock();
            let Some(live) = state.as_mut() else { return Ok(Updated::Missing) };
            let value = match decide(&live.value) {
                Ok(value) => value,
                Err(refusal) => return Ok(Updated::Refused(refusal)),
            };
            let weight = self.within_capacity(weight::adjusted(live.weight, value.bytes()))?;
            self.shelf.deadlines.advance(key, &mut live.due, value.expires_at());
            let next = if weight == live.weight {
                Next::Use(live.record_use(now))
            } else {
                let under_way = self.begin();
                self.shelf.count(live.weight, weight);
                let stale = live.reweigh(self.order.ticket(), weight, now);
                Next::Reweigh { stale, ticket: live.ticket, weight, under_way }
            };
            (mem::replace(&mut live.value, value), next)
        };
        // Outside of the lock, as freeing memory takes time.
        drop(former);
        match next {
            Next::Use(None) => {}
            Next::Use(Some(ticket)) => self.order.record_use(ticket),
            Next::Reweigh { stale, ticket, weight, under_way } => {
                if let Some(stale) = stale {
                    self.order.remove(stale);
                }
                self.enqueue(key, slot, ticket, weight, now);
                drop(under_way);
            }
        }
        self.remove_expired(now);
        Ok(Updated::Updated)
    }

    /// Removes the value under a key, unless `refuse` returns something.
    ///
    /// `refuse` runs under the lock of the value, so that the decision and the removal are atomic.
    pub fn remove<R>(
        &self,
        key: &SessionKey,
        now: Timestamp,
        refuse: impl FnOnce(&V) -> Option<R>,
    ) -> Removed<V, R> {
        let taken = match self.shelf.slots.pin().get(key) {
            Some(slot) => self.take(key, slot, |live| refuse(&live.value)),
            None => Err(None),
        };
        self.remove_expired(now);
        match taken {
            Ok(value) => Removed::Removed(value),
            Err(Some(refusal)) => Removed::Refused(refusal),
            Err(None) => Removed::Missing,
        }
    }

    /// Removes up to 16 expired values, and returns the number of passed deadlines among which it
    /// looked: zero if all deadlines are to come.
    ///
    /// Each operation does so as well. An expired value counts until it is removed.
    pub fn remove_expired(&self, now: Timestamp) -> usize {
        let passed = self.shelf.deadlines.take_passed(now);
        for (due, key) in &passed {
            let slots = self.shelf.slots.pin();
            let Some(slot) = slots.get(key) else { continue };
            let keep = |live: &Live<V>| (live.due != *due || live.value.is_live(now)).then_some(());
            if let Err(Some(())) = self.take(key, slot, keep)
                && let Some(live) = &mut *slot.lock()
                && live.due == *due
            {
                live.due = Due::NEVER;
                self.shelf.deadlines.advance(key, &mut live.due, live.value.expires_at());
            }
        }
        passed.len()
    }

    /// Removes the value of a slot if it has expired. Returns `true` if the slot is dead.
    fn clear(&self, key: &SessionKey, slot: &Slot<V>, now: Timestamp) -> bool {
        match self.take(key, slot, |live| live.value.is_live(now).then_some(())) {
            Ok(_) => true,
            Err(Some(())) => false,
            Err(None) => {
                // The thread that took the value out is about to do the same.
                self.shelf.clear_away(key, slot);
                true
            }
        }
    }
}

/// The report of an update to moka.
enum Next<'t, V: Held> {
    Use(Option<Ticket>),
    Reweigh { stale: Option<Ticket>, ticket: Ticket, weight: u32, under_way: UnderWay<'t, V> },
}

/// The number of dead or expired values that one insertion clears away.
const MAX_RACES: usize = 16;

impl<V> Clone for EvictingTable<V> {
    fn clone(&self) -> Self {
        Self { shelf: Arc::clone(&self.shelf), order: self.order.clone() }
    }
}

impl<V> fmt::Debug for EvictingTable<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvictingTable")
            .field("capacity", &self.shelf.capacity)
            .field("bytes", &self.shelf.bytes())
            .field("len", &self.shelf.slots.len())
            .finish_non_exhaustive()
    }
}
