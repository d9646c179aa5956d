//! The lock of a session.
//!
//! ```text
//!              acquire                     the work returns: commit and release in one step
//!  free ─────────────────────▶ held ───────────────────────────────────────────────▶ free
//!    ▲    a commit of the lease  │ ▲
//!    │    into the record        └─┘ prolong, while the work runs
//!    └── the lease lapses: its holder was cancelled, or its process killed
//! ```
//!
//! The lease is a field of the record, so that every store supports the lock. Each acquisition
//! raises the revision and stores another fencing token. A later commit of the former holder
//! conflicts, finds the other token, and is refused.

use std::sync::Arc;

use super::{Located, MAX_CONFLICTS, MAX_LEASE, MAX_MOVES, Protocol, WriteContext, locate::unseal};
use crate::{
    Committed, Entry, Nonce, Record, SessionError, Timestamp, Tombstone,
    record::{Cause, Lease},
};

/// The outcome of an attempt to acquire the lock.
pub(crate) enum Acquired {
    /// The stored session, with the lease.
    Held(Located),
    /// The instant at which the lease of another request ends, unless its holder prolongs or
    /// releases the lock.
    HeldUntil(Timestamp),
}

enum Stored {
    Located(Located),
    Conflict(Entry),
}

impl Protocol {
    /// Acquires the lock of a session, unless another request holds the lock. Loads the session
    /// first.
    pub(crate) async fn acquire(
        &self,
        located: Located,
        token: Nonce,
    ) -> Result<Acquired, SessionError> {
        let mut entry = self.load_entry(&located.key).await?.ok_or(SessionError::Ended)?;
        let mut located = located;
        for _ in 0..MAX_CONFLICTS {
            located = self.follow_renewals(located, entry).await?;
            let now = self.now();
            let lease = match located.record.lease {
                Some(other) if other.token != token && other.is_live(now) => {
                    match other.shortened(now, MAX_LEASE) {
                        Some(shortened) => shortened,
                        None => return Ok(Acquired::HeldUntil(other.until)),
                    }
                }
                _ => Lease::new(token, now, self.settings.lease),
            };
            match self.store_lease(&located, Some(lease)).await? {
                Stored::Located(located) if lease.token == token => {
                    return Ok(Acquired::Held(located));
                }
                Stored::Located(_) => return Ok(Acquired::HeldUntil(lease.until)),
                Stored::Conflict(newer) => entry = newer,
            }
        }
        Err(SessionError::Contended)
    }

    /// Prolongs the lease of a request that holds it.
    pub(crate) async fn prolong(
        &self,
        located: Located,
        token: Nonce,
    ) -> Result<Located, SessionError> {
        self.change_lease(located, token, |now, held| {
            Some(Lease { until: (now + self.settings.lease).max(held.until), ..held })
        })
        .await
    }

    /// Releases the lease of a request that holds it.
    pub(crate) async fn release(
        &self,
        located: Located,
        token: Nonce,
    ) -> Result<Located, SessionError> {
        self.change_lease(located, token, |_, _| None).await
    }

    async fn change_lease(
        &self,
        mut located: Located,
        token: Nonce,
        next: impl Fn(Timestamp, Lease) -> Option<Lease>,
    ) -> Result<Located, SessionError> {
        for _ in 0..MAX_CONFLICTS {
            let now = self.now();
            let held = located.record.lease.filter(|held| held.token == token && held.is_live(now));
            let held = held.ok_or(SessionError::LeaseLost)?;
            match self.store_lease(&located, next(now, held)).await? {
                Stored::Located(located) => return Ok(located),
                Stored::Conflict(newer) => located = self.follow_renewals(located, newer).await?,
            }
        }
        Err(SessionError::Contended)
    }

    /// Commits the session with another lease, and without further changes.
    async fn store_lease(
        &self,
        located: &Located,
        lease: Option<Lease>,
    ) -> Result<Stored, SessionError> {
        let context = WriteContext::new(self, None, false);
        let mut draft = Record { lease, ..Record::clone(&located.record) };
        context.stamp(Some(located), &mut draft);
        let record = Arc::new(draft);
        let entry = Entry::Session(Arc::clone(&record));
        match self.commit_entry(located, entry, context.now).await? {
            Committed::Committed => Ok(Stored::Located(Located { record, ..located.clone() })),
            Committed::Conflict(newer) => Ok(Stored::Conflict(newer)),
            Committed::Gone => Err(SessionError::Ended),
        }
    }

    /// Returns the session after renewals. After a login or a rotation the session has ended for
    /// this request.
    async fn follow_renewals(
        &self,
        located: Located,
        entry: Entry,
    ) -> Result<Located, SessionError> {
        let mut tombstone = match entry {
            Entry::Session(record) => return Ok(Located { record, ..located }),
            Entry::Tombstone(tombstone) => tombstone,
        };
        let mut id = located.id;
        for _ in 0..MAX_MOVES {
            let key = renewed_key(&tombstone).ok_or(SessionError::Ended)?;
            id = unseal(id.as_ref(), &tombstone);
            match self.load_entry(&key).await? {
                Some(Entry::Session(record)) => {
                    return Ok(Located { key, id, record, is_presented: false });
                }
                Some(Entry::Tombstone(next)) => tombstone = next,
                None => break,
            }
        }
        Err(SessionError::Ended)
    }
}

fn renewed_key(tombstone: &Tombstone) -> Option<crate::SessionKey> {
    match &tombstone.cause {
        Cause::Renewed { successor, .. } => Some(*successor),
        Cause::Rotated { .. } | Cause::Ended => None,
    }
}
