use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::Timestamp;

use super::{deadlines::Due, order::Ticket};

/// The place of one value.
///
/// A slot whose value was taken out is dead for good: nothing is ever put into it again, so that a request which
/// still looks at it cannot bring a session back (I2).
pub(super) struct Slot<V>(Mutex<Option<Live<V>>>);

/// A value and what the table knows of it.
// A read needs what comes first: of a session that nobody used for a while, each line of the processor's cache is
// waited for.
#[repr(C)]
pub(super) struct Live<V> {
    /// When moka last learned of a use, in milliseconds.
    recorded_ms: u64,
    pub(super) ticket: Ticket,
    pub(super) value: V,
    /// The deadline under which the value is among the deadlines.
    pub(super) due: Due,
    pub(super) weight: u32,
    /// moka has the ticket.
    pub(super) is_queued: bool,
}

impl<V> Slot<V> {
    pub(super) fn new(value: V, ticket: Ticket, weight: u32, now: Timestamp) -> Self {
        Self(Mutex::new(Some(Live {
            recorded_ms: now.as_millis(),
            ticket,
            value,
            due: Due::NEVER,
            weight,
            is_queued: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Live<V>>> {
        // Every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Live<V> {
    /// Returns the ticket under which to tell moka that the value is used, unless it was told within the last
    /// second. moka need not know of each use to keep the values that are used.
    pub(super) fn record_use(&mut self, now: Timestamp) -> Option<Ticket> {
        let now_ms = now.as_millis();
        // A clock that was set back is no reason to be silent for as long.
        if now_ms.abs_diff(self.recorded_ms) < RECORDED_EVERY_MS {
            return None;
        }
        self.recorded_ms = now_ms;
        Some(self.ticket)
    }

    pub(super) fn recorded_ms(&self) -> u64 {
        self.recorded_ms
    }

    /// Gives the value a new weight, and a ticket that moka does not have yet. Returns the former ticket if moka has
    /// that.
    pub(super) fn reweigh(
        &mut self,
        ticket: Ticket,
        weight: u32,
        now: Timestamp,
    ) -> Option<Ticket> {
        self.weight = weight;
        self.recorded_ms = now.as_millis();
        let former = mem::replace(&mut self.ticket, ticket);
        mem::take(&mut self.is_queued).then_some(former)
    }
}

/// By how much a value may seem to have been used earlier than it was, when the least used ones are evicted.
const RECORDED_EVERY_MS: u64 = 1_000;
