//! The events of commits and ends.

use std::sync::atomic::Ordering;

use super::Protocol;
use crate::{Event, EventKind, Owner, Record, SessionKey, StoreError};

impl Protocol {
    pub(crate) fn report(&self, kind: EventKind, key: SessionKey, record: Option<&Record>) {
        self.events.send(Event::new(kind, key, record));
    }

    /// Reports the end of a session from elsewhere. `owner` is its owner if its record is unknown.
    pub(super) fn report_end(
        &self,
        kind: EventKind,
        key: SessionKey,
        record: Option<&Record>,
        owner: Option<&Owner>,
    ) {
        let mut event = Event::new(kind, key, record);
        if record.is_none() {
            event.owner = owner.cloned();
        }
        self.events.send(event);
    }

    pub(super) fn report_corrupt(&self, key: SessionKey, error: &StoreError) {
        self.corrupt_records.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            target: "session",
            error = error.source_text(),
            session.id = %key,
            "unreadable session record, treated as no session"
        );
        self.report(EventKind::Corrupt, key, None);
    }
}
