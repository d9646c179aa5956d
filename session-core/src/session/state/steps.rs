//! The steps of a commit.

use std::sync::Arc;

use super::{Draft, Fate, Lock, Log, Phase, Place, Source, State};
use crate::{
    Record, SessionError, SessionKey,
    protocol::{Fence, Located, Outcome, PendingCommit, Protocol, Start, WriteContext},
    record::{Change, Realm, replay},
};

impl State {
    /// Takes the changes for a commit. Returns `None` if a write is unnecessary.
    pub(in crate::session) fn begin_commit(
        &mut self,
        protocol: &Protocol,
        releases_lock: bool,
    ) -> Result<Option<Taken>, SessionError> {
        if let Phase::Unconfirmed = self.phase {
            return Err(SessionError::Unconfirmed);
        }
        if !self.log.has_effect {
            return Ok(None);
        }
        let is_login = self.log.has_login();
        if let (Place::New | Place::Leaving(_), Some(record)) = (&self.place, self.view()) {
            if record.values.is_empty() && record.owner.is_none() && record.links.keys().is_empty()
            {
                // A lifetime alone is not worth a session.
                return Ok(None);
            }
            if self.cookie.is_late && !is_login {
                // The cookie of another new session would overwrite the ID that the browser is
                // about to receive.
                return Err(SessionError::Ended);
            }
        }
        let base = self.located().cloned();
        let fence = self.fence(releases_lock);
        let log = std::mem::take(&mut self.log).changes;
        self.phase = Phase::Committing(Fate::Normal);
        let context = WriteContext::new(protocol, fence, is_login);
        let exact = match &mut self.draft {
            Draft::Exact(draft) => {
                context.stamp(base.as_ref(), Arc::make_mut(draft));
                Some(Arc::clone(draft))
            }
            Draft::Preview(_) | Draft::Unchanged => None,
        };
        let start = match (base, &self.cookie.closed) {
            (Some(base), _) => Start::Stored(base),
            (None, Some(closed)) if is_login => Start::Closed(Arc::clone(closed)),
            (None, _) => Start::New,
        };
        let carries_over = protocol.settings.carries_over && !self.is_connection;
        Ok(Some(Taken { start, exact, log, context, carries_over }))
    }

    /// Ends a commit that the store has carried out. Returns the dropped changes.
    #[must_use]
    pub(in crate::session) fn commit_stored(&mut self, outcome: Outcome) -> impl Sized + use<> {
        let fate = self.end_phase(Phase::Open);
        self.has_written = true;
        let lease = outcome.located().record.lease.map(|lease| lease.token);
        if self.lock.token() != lease {
            self.lock = Lock::None;
        }
        if fate == Fate::Destroy {
            // The next commit deletes the session, unless a discard takes this back.
            self.place = Place::Leaving(outcome.located().clone());
        }
        self.settle_outcome(outcome)
    }

    /// Continues with the session after a commit. Returns the dropped changes.
    #[must_use]
    pub(in crate::session) fn settle_outcome(&mut self, outcome: Outcome) -> impl Sized + use<> {
        match outcome {
            Outcome::Stored(located) => self.settle(located),
            Outcome::Found(located) => {
                let confirmed = self.settle(located);
                // The session may have moved since it was loaded.
                self.cookie.is_unchecked = true;
                confirmed
            }
            Outcome::Overtaken(located) => {
                self.cookie.hide(&located);
                let confirmed = self.settle(located);
                self.source = Source::Overtaken;
                confirmed
            }
        }
    }

    /// Ends a commit that the store has certainly not carried out. `changes` are those of the
    /// commit. Returns the dropped changes.
    #[must_use]
    pub(in crate::session) fn commit_failed(
        &mut self,
        changes: Vec<Change>,
        error: &SessionError,
    ) -> impl Sized + use<> {
        let fate = self.end_phase(Phase::Open);
        if let SessionError::Ended = error {
            self.forget_id();
        }
        if fate != Fate::Normal || self.has_lost_changes {
            return changes;
        }
        let newer = std::mem::replace(&mut self.log, Log { changes, has_effect: true });
        self.log.append(newer);
        Vec::new()
    }

    /// Ends a commit whose outcome is unknown.
    pub(in crate::session) fn commit_lost(&mut self) {
        let fate = self.end_phase(Phase::Unconfirmed);
        self.has_written = true;
        if fate == Fate::Discard {
            self.phase = Phase::Open;
        }
    }

    pub(in crate::session) fn begin_delete(&mut self) -> Result<(), SessionError> {
        if let Phase::Unconfirmed = self.phase {
            return Err(SessionError::Unconfirmed);
        }
        self.has_written = true;
        self.phase = Phase::Committing(Fate::Normal);
        Ok(())
    }

    /// Ends the deletion of one key. `was_there`: the store deleted a session.
    pub(in crate::session) fn key_deleted(&mut self, key: SessionKey, was_there: bool) {
        let fate = self.end_phase(Phase::Open);
        let is_own = matches!(&self.place, Place::Leaving(located) if located.key == key)
            || matches!(&self.place, Place::At(located) if located.key == key && fate == Fate::Discard);
        if is_own {
            // The lock was a part of the deleted session.
            self.place = Place::New;
            self.lock = Lock::None;
        }
        self.pending_deletes.retain(|pending| *pending != key);
        self.cookie.key_deleted(key, was_there, is_own);
    }

    pub(in crate::session) fn delete_failed(&mut self) {
        self.end_phase(Phase::Open);
    }

    /// Continues with the stored session, and applies the request's uncommitted changes to a
    /// preview. Returns the dropped changes.
    #[must_use]
    pub(crate) fn settle(&mut self, located: Located) -> impl Sized + use<> {
        let confirmed = self.take_confirmed();
        if !self.log.has_effect {
            self.draft = Draft::Unchanged;
        } else {
            let mut preview = Record::clone(&located.record);
            for change in &self.log.changes {
                change.preview(&mut preview);
            }
            self.draft = Draft::Preview(Arc::new(preview));
        }
        self.place = match &self.place {
            Place::Leaving(_) => Place::Leaving(located),
            Place::New | Place::At(_) => Place::At(located),
        };
        self.source = Source::Store;
        self.cookie.is_unchecked = false;
        confirmed
    }

    fn end_phase(&mut self, next: Phase) -> Fate {
        match std::mem::replace(&mut self.phase, next) {
            Phase::Committing(fate) => fate,
            Phase::Open | Phase::Unconfirmed => Fate::Normal,
        }
    }

    pub(in crate::session) fn fence(&self, releases: bool) -> Option<Fence> {
        self.located()?;
        self.lock.token().map(|token| Fence { token, releases })
    }
}

/// The changes that a commit has taken.
pub(in crate::session) struct Taken {
    start: Start,
    /// The stamped draft, unless the commit has to replay the log.
    exact: Option<Arc<Record>>,
    pub(in crate::session) log: Vec<Change>,
    context: WriteContext,
    carries_over: bool,
}

impl Taken {
    /// Returns the record to store. The caller must have released the lock of the state, because a
    /// replay runs closures of the application.
    pub(in crate::session) fn record(
        &mut self,
        protocol: &Protocol,
    ) -> Result<Arc<Record>, SessionError> {
        if let Some(record) = self.exact.take() {
            return Ok(record);
        }
        let base = match &self.start {
            Start::Stored(base) => Some(base),
            Start::New | Start::Closed(_) => None,
        };
        let mut draft = match base {
            Some(base) => Record::clone(&base.record),
            None => Record::new(self.context.now, protocol.settings.anonymous_lifetime),
        };
        replay(&self.log, &mut draft, &protocol.settings.limits, true)?;
        self.context.stamp(base, &mut draft);
        Ok(Arc::new(draft))
    }

    pub(in crate::session) fn pending(self, record: Arc<Record>, realm: Realm) -> PendingCommit {
        let Self { start, log, context, carries_over, .. } = self;
        PendingCommit { start, realm, record, log, context, carries_over }
    }
}
