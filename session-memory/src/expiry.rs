use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::SessionKey;

use crate::slot::Terms;

/// Tells the cache how long to keep a slot. This only frees memory: the deadlines are in the records.
#[derive(Debug)]
pub(crate) struct KeepWhileAlive;

impl moka::Expiry<SessionKey, Arc<Terms>> for KeepWhileAlive {
    fn expire_after_create(
        &self,
        _: &SessionKey,
        terms: &Arc<Terms>,
        _: Instant,
    ) -> Option<Duration> {
        Some(terms.keep(None))
    }

    fn expire_after_read(
        &self,
        _: &SessionKey,
        terms: &Arc<Terms>,
        _: Instant,
        would: Option<Duration>,
        _: Instant,
    ) -> Option<Duration> {
        Some(terms.keep(would))
    }

    fn expire_after_update(
        &self,
        _: &SessionKey,
        terms: &Arc<Terms>,
        _: Instant,
        would: Option<Duration>,
    ) -> Option<Duration> {
        Some(terms.keep(would))
    }
}
