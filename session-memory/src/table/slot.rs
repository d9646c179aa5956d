use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use session_core::Timestamp;

use super::{deadlines::Due, order::Ticket};

/// The place of one value.
///
/// A slot is dead once its value was taken out, and a dead slot stays empty: a request that found
/// the slot before cannot bring the session back (I2).
pub(super) struct Slot<V>(Mutex<Option<Live<V>>>);

/// A value and its bookkeeping.
// In the order of use by reads: if a session was not used for a while, a read waits for each line
// of the processor's cache.
#[repr(C)]
pub(super) struct Live<V> {
    /// The time of the last use that moka knows of, in milliseconds.
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
    /// Returns the ticket whose use to record in moka, or `None` if a use was recorded within the
    /// last second: often enough to keep the values in use.
    pub(super) fn record_use(&mut self, now: Timestamp) -> Option<Ticket> {
        let now_ms = now.as_millis();
        // If the clock was set back, recording goes on.
        if now_ms.abs_diff(self.recorded_ms) < RECORDED_EVERY_MS {
            return None;
        }
        self.recorded_ms = now_ms;
        Some(self.ticket)
    }

    pub(super) fn recorded_ms(&self) -> u64 {
        self.recorded_ms
    }

    /// Gives the value a new weight, and a ticket that moka does not have yet. Returns the former
    /// ticket if moka has it.
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

/// The time within which the uses of a value are recorded once.
const RECORDED_EVERY_MS: u64 = 1_000;
