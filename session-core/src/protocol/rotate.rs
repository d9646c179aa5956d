//! The move of a session to a fresh ID: see the page of [`protocol`](super).

use std::sync::Arc;

use super::{
    Located, Protocol, ROTATION_WINDOW, WriteContext,
    commit::Attempt,
    write::{Patience, Rotation},
};
use crate::{
    Committed, Entry, Event, EventKind, Record, SessionError, Tombstone,
    record::{Cause, SealedId},
};

/// The progress of a move over all attempts of one commit.
pub(super) struct Progress<'c> {
    /// The record that an earlier attempt has stored under a fresh ID.
    pub(super) created: &'c mut Option<Located>,
    /// The session limit has been checked for it.
    pub(super) has_room: &'c mut bool,
    pub(super) patience: &'c mut Patience,
}

impl Protocol {
    /// Stores `record` under a fresh ID and puts a tombstone in place of `base`.
    ///
    /// Afterwards `progress.created` holds the new record, unless the tombstone is stored, or may be.
    pub(super) async fn rotate(
        &self,
        base: &Located,
        record: &Record,
        rotation: Rotation,
        context: WriteContext,
        progress: &mut Progress<'_>,
    ) -> Result<Attempt, SessionError> {
        let Progress { created, has_room, patience } = progress;
        context.check_fence(&base.record, self.now())?;
        let mut fresh = record.clone();
        context.stamp_fresh_id(rotation, &mut fresh);
        self.update_created(created, &fresh, context).await?;
        let new = match created {
            Some(new) => &*new,
            None => {
                **has_room = base.record.owner == record.owner;
                created.insert(self.create(&Arc::new(fresh), context, patience).await?)
            }
        };
        if rotation == Rotation::Login && !**has_room {
            if let Some(tombstone) = self.make_room(new, Some(base)).await? {
                return Ok(Attempt::Moved(tombstone));
            }
            **has_room = true;
        }
        context.check_fence(&base.record, self.now())?;
        let tombstone = self.tombstone(base, new, rotation, context);
        match self.commit_entry(base, Entry::Moved(Arc::new(tombstone)), context).await {
            Ok(Committed::Committed) => {
                let new = created.take().expect("it was inserted above");
                self.drop_entry(base.key, &base.record).await;
                let kind = match rotation {
                    Rotation::Login => EventKind::Authenticated,
                    Rotation::Rotate => EventKind::Rotated,
                    Rotation::Renewal => EventKind::Renewed,
                };
                let event = Event::new(kind, new.key, new.record.owner.as_ref());
                self.events.send(event.with_former(Some(base.key)));
                Ok(Attempt::Done(new))
            }
            Ok(Committed::Conflict(entry)) => Ok(Attempt::met(entry)),
            // The new ID must not bring back an ended session (I2): the caller deletes the new record.
            Ok(Committed::Gone) => Ok(Attempt::Gone),
            Err(error) => {
                if error.is_outcome_unknown() {
                    // If the tombstone is stored, the new record is the session.
                    **created = None;
                }
                Err(error.into())
            }
        }
    }

    /// Stores newer content under the fresh ID of an earlier attempt, if there is one. Forgets it if
    /// a revocation has ended it.
    async fn update_created(
        &self,
        created: &mut Option<Located>,
        fresh: &Record,
        context: WriteContext,
    ) -> Result<(), SessionError> {
        // If this fails, it stays the caller's to delete.
        let Some(present) = created.clone() else { return Ok(()) };
        let next = Record { revision: present.record.revision.next(), ..fresh.clone() };
        self.keep_entered(&present, &next, context).await?;
        let next = Arc::new(next);
        *created =
            match self.commit_entry(&present, Entry::Live(Arc::clone(&next)), context).await? {
                Committed::Committed => Some(Located { record: next, ..present }),
                Committed::Conflict(_) | Committed::Gone => None,
            };
        Ok(())
    }

    fn tombstone(
        &self,
        base: &Located,
        new: &Located,
        rotation: Rotation,
        context: WriteContext,
    ) -> Tombstone {
        let successor = new.key;
        let sealed_id = match (&base.id, &new.id) {
            (Some(former), Some(new)) => Some(SealedId::seal(new, former)),
            _ => None,
        };
        let window = context.now + ROTATION_WINDOW;
        let (cause, expires_at) = match (rotation, sealed_id) {
            // The lost response of a renewal signs nobody out for as long as the session may be idle.
            (Rotation::Renewal, Some(sealed_id)) => {
                let expires_at = window.max(new.record.expires_at());
                (Cause::Renewed { successor, sealed_id }, expires_at)
            }
            (Rotation::Login, sealed_id) if base.record.owner.is_none() => {
                (Cause::Rotated { successor, sealed_id }, window)
            }
            _ => (Cause::Rotated { successor, sealed_id: None }, window),
        };
        Tombstone {
            revision: base.record.revision.next(),
            nonce: context.nonce,
            family: base.record.family,
            cause,
            id_use: base.record.id_use,
            expires_at,
        }
    }
}
