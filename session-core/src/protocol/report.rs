//! The events of commits and ends.

use std::sync::atomic::Ordering;

use super::{Located, Protocol};
use crate::{
    Event, EventKind, Owner, Record, SessionKey, StoreError,
    record::{Change, IdUse},
};

impl Protocol {
    pub(crate) fn report(&self, kind: EventKind, key: SessionKey, record: Option<&Record>) {
        self.events.send(Event::new(kind, key, record));
    }

    /// Reports a commit that stored a session under a fresh ID: each login, reauthentication, `act_as`
    /// and `stop_acting`, in the order of the calls. Without one of them, reports the fresh ID.
    pub(super) fn report_fresh_id(&self, log: &[Change], base: Option<&Located>, new: &Located) {
        let mut record = match base {
            Some(base) => Record::clone(&base.record),
            None => Record::new(new.record.created_at, new.record.lifetime),
        };
        let mut events = Vec::new();
        for change in log {
            let kind = match change {
                Change::Authenticate(_) => EventKind::Authenticated,
                Change::Reauthenticate { .. } => EventKind::Reauthenticated,
                Change::ActAs { .. } => EventKind::ActingStarted,
                Change::StopActing => EventKind::ActingStopped,
                _ => continue,
            };
            let before = Event::new(kind, new.key, Some(&record));
            change.preview(&mut record);
            events.push(match kind {
                // The end of an impersonation names both users, as its start does.
                EventKind::ActingStopped => before,
                _ => Event::new(kind, new.key, Some(&record)),
            });
        }
        // A call that only repeats the one before changes nothing.
        events.dedup();
        if events.is_empty() {
            let kind = match base {
                None => EventKind::Created,
                Some(_) if new.record.id_use == IdUse::Renewed => EventKind::Renewed,
                Some(_) => EventKind::Rotated,
            };
            events.push(Event::new(kind, new.key, Some(&new.record)));
        }
        for event in events {
            self.events.send(event.with_former(base.map(|base| base.key)));
        }
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
