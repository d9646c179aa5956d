//! The parts that all records of one commit share.

use super::{Located, MAX_CONFLICTS, PATIENCE, Protocol};
use crate::{Family, Nonce, Record, SessionError, Timestamp, record::IdUse};

/// The nonce of one commit, the time of its present attempt, and its lock.
#[derive(Clone, Copy)]
pub(crate) struct WriteContext {
    pub(crate) nonce: Nonce,
    pub(crate) now: Timestamp,
    pub(crate) fence: Option<Fence>,
    /// The start of a commit that signs a user in. The session begins at this instant.
    pub(crate) login_at: Option<Timestamp>,
}

/// The lock under which a request made the changes of a commit. The changes count only while the
/// request holds the lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fence {
    pub(crate) token: Nonce,
    /// `true` if the commit releases the lock.
    pub(crate) releases: bool,
}

/// The kind of a move to a fresh ID. Of several moves in one commit, the greatest counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Move {
    Renewal,
    /// Any other change that closes the former ID.
    Rotation,
    Login,
}

impl WriteContext {
    pub(crate) fn new(protocol: &Protocol, fence: Option<Fence>, is_login: bool) -> Self {
        let now = protocol.now();
        Self { nonce: protocol.next_nonce(), now, fence, login_at: is_login.then_some(now) }
    }

    /// Returns the same commit, at the present time. Each attempt checks the deadline of its record
    /// against this time.
    pub(super) fn at(self, now: Timestamp) -> Self {
        // A clock that steps back moves no use of the session back.
        Self { now: now.max(self.now), ..self }
    }

    /// Turns a draft into the successor of `base`, or into the first record of a session.
    pub(crate) fn stamp(&self, base: Option<&Located>, draft: &mut Record) {
        draft.nonce = self.nonce;
        draft.last_seen_at = draft.last_seen_at.max(self.now);
        match base {
            Some(base) => {
                draft.revision = base.record.revision.next();
                draft.id_use = self.id_use(base, draft.id_use);
            }
            None => {
                draft.revision = crate::Revision::default().next();
                draft.family = Family(self.nonce.0);
                draft.created_at = self.now;
                draft.issued_at = self.now;
            }
        }
        if let Some(at) = self.login_at {
            draft.created_at = at;
        }
        if self.fence.is_some_and(|fence| fence.releases) {
            draft.lease = None;
        }
    }

    /// Returns the use of an ID after this commit.
    pub(super) fn id_use(&self, base: &Located, before: IdUse) -> IdUse {
        match before {
            IdUse::Renewed if base.is_presented => IdUse::Presented(self.now),
            other => other,
        }
    }

    /// Turns a stamped record into the first record under a fresh ID.
    pub(super) fn stamp_fresh_id(&self, kind: Move, record: &mut Record) {
        record.issued_at = self.now;
        record.id_use = match kind {
            Move::Renewal => IdUse::Renewed,
            Move::Rotation | Move::Login => IdUse::Original,
        };
    }

    /// Returns `true` if a record has not expired at the time of the attempt.
    pub(super) fn is_alive(&self, record: &Record) -> bool {
        self.now < record.expires_at()
    }

    /// Returns [`SessionError::LeaseLost`] if the request has lost the lock of the commit.
    pub(super) fn check_fence(
        &self,
        base: &Record,
        now: impl FnOnce() -> Timestamp,
    ) -> Result<(), SessionError> {
        match (self.fence, base.lease) {
            (None, _) => Ok(()),
            (Some(fence), Some(lease)) if lease.token == fence.token && lease.is_live(now()) => {
                Ok(())
            }
            _ => Err(SessionError::LeaseLost),
        }
    }
}

/// The bound of one commit's attempts (I9).
pub(super) struct Patience {
    began: Timestamp,
    attempts: usize,
}

impl Patience {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { began: now, attempts: 0 }
    }

    /// Counts an attempt. Returns [`SessionError::Contended`] beyond the bound.
    pub(super) fn check(&mut self, now: Timestamp) -> Result<(), SessionError> {
        self.attempts += 1;
        if self.attempts >= MAX_CONFLICTS || now.since(self.began) > PATIENCE {
            return Err(SessionError::Contended);
        }
        Ok(())
    }
}
