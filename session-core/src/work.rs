use std::{ops::Deref, sync::Arc};

use crate::{
    Nonce, Record, SessionError, Sessions, Timestamp,
    change::Change,
    sessions::{Home, Presented},
    state::State,
};

/// One commit: where the session is, what it shall be, and how to make that of a newer one.
pub(crate) struct Work {
    pub(crate) home: Option<Home>,
    pub(crate) record: Arc<Record>,
    pub(crate) log: Vec<Arc<Change>>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) stamp: Stamp,
}

impl State {
    /// What a commit has to do, if anything.
    pub(crate) fn work(&mut self, sessions: &Sessions) -> Result<Option<Work>, SessionError> {
        self.endings_at_commit = self.endings;
        let claim = match (&self.home, &self.hold) {
            (Some(_), Some(hold)) => hold.claim(self.closed),
            // A session that was never stored needs no lease.
            _ => None,
        };
        if !self.dirty {
            // What only confirms what is stored is settled by that. Done again by a later commit, it
            // would undo what others have stored since (I1).
            self.log.clear();
        }
        let Some(draft) = self.draft.as_mut().filter(|_| self.dirty) else { return Ok(None) };
        let rotation = Rotation::of(&self.log);
        if self.home.is_none() {
            if draft.values.is_empty() && draft.owner.is_none() {
                // Nothing was written, nothing is stored: a lifetime alone is no session.
                return Ok(None);
            }
            if self.presented == Presented::Superseded && rotation != Some(Rotation::Login) {
                // The browser sent this before it learned its new ID. A session of its own would
                // replace the one that somebody just signed in to.
                return Err(SessionError::Ended);
            }
        }
        let stamp = Stamp { claim, ..Stamp::now(sessions) };
        stamp.mark(self.home.as_ref().map(|home| &*home.record), Arc::make_mut(draft));
        Ok(Some(Work {
            home: self.home.clone(),
            record: Arc::clone(draft),
            log: self.log.clone(),
            rotation,
            stamp,
        }))
    }

    pub(crate) fn renewal(home: Home, now: Timestamp, sessions: &Sessions) -> Work {
        let mut draft = Record::clone(&home.record);
        draft.issued_at = now;
        let stamp = Stamp::now(sessions);
        let record = stamp.onto(Some(&home.record), draft);
        let log = vec![Arc::new(Change::Renew { at: now })];
        Work { home: Some(home), record, log, rotation: Some(Rotation::Renewal), stamp }
    }
}

/// What every record of one commit carries, whatever it is made of.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) nonce: Nonce,
    pub(crate) now: Timestamp,
    /// Since when it is tried.
    pub(crate) begun_at: Timestamp,
    /// The lease under which the changes were made.
    pub(crate) claim: Option<Claim>,
}

/// A commit that counts only while the request has its lease.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    pub(crate) token: Nonce,
    /// The lease is given back with it.
    pub(crate) releases: bool,
}

impl Stamp {
    pub(crate) fn now(sessions: &Sessions) -> Self {
        let now = sessions.now();
        Self { nonce: sessions.next_nonce(), now, begun_at: now, claim: None }
    }

    /// Makes a draft the record that follows `base`.
    pub(crate) fn onto(self, base: Option<&Record>, mut draft: Record) -> Arc<Record> {
        self.mark(base, &mut draft);
        Arc::new(draft)
    }

    pub(crate) fn mark(self, base: Option<&Record>, draft: &mut Record) {
        draft.revision = base.map(|base| base.revision).unwrap_or_default().next();
        draft.nonce = self.nonce;
        draft.last_seen_at = draft.last_seen_at.max(self.now);
        draft.predecessor = None;
        if self.claim.is_some_and(|claim| claim.releases) {
            draft.lease = None;
        }
    }
}

/// Why a session moves to a fresh ID.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rotation {
    Login,
    Renewal,
}

impl Rotation {
    pub(crate) fn of(log: &[impl Deref<Target = Change>]) -> Option<Self> {
        let mut rotation = None;
        for change in log {
            match **change {
                Change::Authenticate { .. } => return Some(Self::Login),
                Change::Renew { .. } => rotation = Some(Self::Renewal),
                _ => {}
            }
        }
        rotation
    }
}
