use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::SessionKey;

use crate::slot::Slot;

/// Tells the cache how long to keep a slot. This only frees memory: the deadlines are in the records.
#[derive(Debug)]
pub(crate) struct KeepWhileAlive;

impl moka::Expiry<SessionKey, Arc<Slot>> for KeepWhileAlive {
    fn expire_after_create(
        &self,
        _: &SessionKey,
        slot: &Arc<Slot>,
        _: Instant,
    ) -> Option<Duration> {
        Some(slot.keep(None))
    }

    fn expire_after_read(
        &self,
        _: &SessionKey,
        slot: &Arc<Slot>,
        _: Instant,
        would: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        Some(slot.keep(would))
    }

    fn expire_after_update(
        &self,
        _: &SessionKey,
        slot: &Arc<Slot>,
        _: Instant,
        would: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.keep(would))
    }
}
