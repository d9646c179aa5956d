//! The move of a session to a fresh ID: see the page of [`protocol`](super).

use std::sync::Arc;

use super::{
    Located, ROTATION_WINDOW,
    commit::{Attempt, Commit},
    write::Move,
};
use crate::{
    Committed, Entry, Record, SessionError, Tombstone,
    record::{Cause, SealedId},
};

impl Commit<'_> {
    /// Stores the record under a fresh ID, and replaces the record of `base` by a tombstone.
    ///
    /// Afterwards `created` holds the new record, unless the tombstone is stored or may be stored.
    pub(super) async fn move_to_fresh_id(
        &mut self,
        base: &Located,
        kind: Move,
    ) -> Result<Attempt, SessionError> {
        let protocol = self.protocol;
        self.context.check_fence(&base.record, || protocol.now())?;
        let mut fresh = Record::clone(&self.record);
        self.context.stamp_fresh_id(kind, &mut fresh);
        self.update_created(&fresh).await?;
        let new = match self.created.clone() {
            Some(new) => new,
            None => {
                // A session of the same user keeps its place.
                self.has_place = base.record.signed_in() == fresh.signed_in();
                let fresh = Arc::new(fresh);
                let new = self.create(&fresh).await?;
                self.created.insert(new).clone()
            }
        };
        if self.is_over(&new) {
            return Ok(Attempt::Gone);
        }
        if kind == Move::Login && !self.has_place {
            if let Some(tombstone) = protocol.make_room(&new, Some(base)).await? {
                return Ok(Attempt::Tombstone(tombstone));
            }
            self.has_place = true;
            if self.is_over(&new) {
                return Ok(Attempt::Gone);
            }
        }
        self.context.check_fence(&base.record, || self.context.now)?;
        let tombstone = Entry::Tombstone(Arc::new(self.tombstone(base, &new, kind)));
        match protocol.commit_entry(base, tombstone, self.context.now).await {
            Ok(Committed::Committed) => {
                self.created = None;
                protocol.leave_indexes(base.key, &base.record).await;
                protocol.report_fresh_id(&self.pending.log, Some(base), &new);
                Ok(Attempt::Done(new))
            }
            Ok(Committed::Conflict(entry)) => Ok(Attempt::conflict(entry)),
            // The new ID must not revive an ended session (I2): the caller deletes the new record.
            Ok(Committed::Gone) => Ok(Attempt::Gone),
            Err(error) => {
                if error.is_outcome_unknown() {
                    // If the tombstone is stored, the new record is the session.
                    self.created = None;
                }
                Err(error.into())
            }
        }
    }

    /// Stores newer content under the fresh ID of an earlier attempt, if any. If a revocation has
    /// deleted the earlier record, `created` becomes `None`.
    async fn update_created(&mut self, fresh: &Record) -> Result<(), SessionError> {
        // If the update fails, `created` stays, and the caller deletes the record.
        let Some(present) = self.created.clone() else { return Ok(()) };
        let next = Record { revision: present.record.revision.next(), ..fresh.clone() };
        self.protocol.extend_in_indexes(&present, &next, self.context.now).await?;
        let next = Arc::new(next);
        let entry = Entry::Session(Arc::clone(&next));
        self.created = match self.protocol.commit_entry(&present, entry, self.context.now).await? {
            Committed::Committed => Some(Located { record: next, ..present }),
            Committed::Conflict(_) | Committed::Gone => None,
        };
        Ok(())
    }

    fn tombstone(&self, base: &Located, new: &Located, kind: Move) -> Tombstone {
        let successor = new.key;
        let sealed_id = match (&base.id, &new.id) {
            (Some(former), Some(new)) => Some(SealedId::seal(new, former)),
            _ => None,
        };
        let window = self.context.now + ROTATION_WINDOW;
        let is_visitor = base.record.owner.is_none();
        let (cause, expires_at) = match (kind, sealed_id) {
            // The tombstone lives until the absolute deadline, so that a browser that never
            // receives the new ID keeps its session.
            (Move::Renewal, Some(sealed_id)) => {
                let expires_at = window.max(new.record.absolute_deadline());
                (Cause::Renewed { successor, sealed_id }, expires_at)
            }
            (_, sealed_id) => {
                let joinable = kind == Move::Login && is_visitor;
                let sealed_id = sealed_id.filter(|_| joinable);
                let log = &self.pending.log;
                let changes_user = log.iter().any(|change| change.changes_user(&base.record));
                // The values of a visitor belong to the login, which `act_as` keeps aside.
                let changes_user = changes_user && (!is_visitor || new.record.actor.is_some());
                (Cause::Rotated { successor, sealed_id, changes_user }, window)
            }
        };
        Tombstone {
            revision: base.record.revision.next(),
            nonce: self.context.nonce,
            family: base.record.family,
            cause,
            id_use: self.context.id_use(base, base.record.id_use),
            expires_at,
        }
    }
}
