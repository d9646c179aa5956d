use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};
use session_core::SessionKey;

use super::hasher::TicketHasher;

/// The unique number of one weighing of a value.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Ticket(u64);

/// The order in which values are evicted: a moka cache of their tickets.
///
/// A ticket is inserted once and removed once: entries of moka never change.
#[derive(Clone)]
pub(super) struct Order {
    cache: Cache<Ticket, Place, TicketHasher>,
    tickets: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
struct Place {
    key: SessionKey,
    weight: u32,
}

impl Order {
    /// Creates an order that calls `evict` with the least recently used tickets while the weights
    /// exceed the capacity.
    pub(super) fn new(
        capacity: u64,
        evict: impl Fn(Ticket, SessionKey) + Send + Sync + 'static,
    ) -> Self {
        let cache = Cache::builder()
            .name("sessions")
            .max_capacity(capacity)
            .weigher(|_, place: &Place| place.weight)
            // The default policy may refuse a new entry in favour of entries that were used often: a
            // login without a session.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |ticket: Arc<Ticket>, place: Place, cause| {
                if cause == RemovalCause::Size {
                    evict(*ticket, place.key);
                }
            })
            .build_with_hasher(TicketHasher::default());
        Self { cache, tickets: Arc::default() }
    }

    /// Returns a ticket that is not in the order yet.
    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn insert(&self, ticket: Ticket, key: SessionKey, weight: u32) {
        self.cache.insert(ticket, Place { key, weight });
    }

    pub(super) fn remove(&self, ticket: Ticket) {
        self.cache.invalidate(&ticket);
    }

    pub(super) fn record_use(&self, ticket: Ticket) {
        let _ = self.cache.get(&ticket);
    }

    /// Drains the queue of insertions and removals, and evicts while the weights exceed the
    /// capacity.
    pub(super) fn catch_up(&self) {
        self.cache.run_pending_tasks();
    }

    /// The weight and the number of the tickets in the order, as moka counts them.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (u64, u64) {
        self.catch_up();
        (self.cache.weighted_size(), self.cache.entry_count())
    }
}
