//! The session of a connection that outlives its request.
//!
//! ```text
//!         ┌──────────────────────────────────────────────── wait ◀──────────────┐
//!         ▼        a change, the end of the interval, or the session's deadline  │
//!  watch and load the key ─┬─▶ a session of the same user ──────────────────────┤
//!         ▲                ├─▶ the store fails: an outage ends no session (I7) ──┘
//!         └────────────────┼── a tombstone that the connection may follow
//!                          └─▶ anything else: ended
//! ```
//!
//! The interval is the bound for a store that reports no changes, and for a report that is lost. If
//! the store loses its source of reports, all connections load within [`SPREAD`], not together.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};

use super::{Located, MAX_MOVES, Protocol, locate::Loaded};
use crate::{
    Entry, Owner, SessionError, SessionKey, StoreError, Timestamp, Tombstone, Watch, WatchOutcome,
    record::Cause,
};

/// The reason why the session of a [`Live`](crate::Live) connection ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// A request destroyed the session, or the session was revoked or evicted.
    Deleted,
    /// The session reached its deadline.
    Expired,
    /// A login gave the session to another user, or a visitor signed in. A connection that opens
    /// with the new cookie belongs to the new session.
    Replaced,
    /// This version cannot read the record of the session.
    Unreadable,
}

/// The session of one connection, as last read. The reads, the writes and the wait share it.
pub(crate) struct Followed(Mutex<Located>);

/// The outcome of a load.
enum Look {
    Alive(Located, Option<Watch>),
    Ended(EndReason),
}

impl Followed {
    pub(crate) fn new(located: Located) -> Self {
        // A connection never needs the ID: only a request can tell the client another one.
        Self(Mutex::new(Located { id: None, is_presented: false, ..located }))
    }

    pub(crate) fn located(&self) -> Located {
        self.lock().clone()
    }

    pub(crate) fn set(&self, located: Located) {
        *self.lock() = located;
    }

    /// Records a later use of the session, unless the session was found under another key
    /// meanwhile.
    pub(crate) fn set_seen(&self, located: Located) {
        let mut known = self.lock();
        if known.key == located.key {
            *known = located;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Located> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol {
    /// Loads the session of a connection, under the key to which the session has moved.
    pub(crate) async fn load_followed(&self, session: &Followed) -> Result<Located, SessionError> {
        match self.look(session, false).await? {
            Look::Alive(located, _) => Ok(located),
            Look::Ended(_) => Err(SessionError::Ended),
        }
    }

    /// Waits until the session of a connection has ended.
    pub(crate) async fn end_of(&self, session: &Followed) -> EndReason {
        loop {
            let began = self.now();
            let (watch, deadline) = match self.look(session, true).await {
                Ok(Look::Ended(reason)) => return reason,
                Ok(Look::Alive(located, watch)) => (watch, located.record.expires_at()),
                Err(error) => {
                    tracing::debug!(target: "session", %error, "end of the session not checked");
                    (None, Timestamp::MAX)
                }
            };
            let left = deadline.since(self.now());
            let interval = self.settings.live_interval;
            let pause = self.clock.sleep((interval - self.random_part(interval / 4)).min(left));
            match watch {
                Some(watch) => {
                    if let Either::Left((WatchOutcome::Lost, pause)) = select(watch, pause).await {
                        select(self.clock.sleep(self.random_part(SPREAD)), pause).await;
                    }
                }
                None => pause.await,
            }
            // A session that changes all the time costs a bounded number of loads.
            let rest = MIN_GAP.saturating_sub(self.now().since(began));
            if !rest.is_zero() {
                self.clock.sleep(rest).await;
            }
        }
    }

    async fn look(&self, session: &Followed, watches: bool) -> Result<Look, StoreError> {
        let known = session.located();
        let mut key = known.key;
        for _ in 0..MAX_MOVES {
            let (loaded, watch) = match watches {
                true => self.watch(&key).await?,
                false => (self.load(&key).await?, None),
            };
            let tombstone = match loaded {
                Loaded::Missing if known.record.expires_at() <= self.now() => {
                    return Ok(Look::Ended(EndReason::Expired));
                }
                Loaded::Missing => return Ok(Look::Ended(EndReason::Deleted)),
                Loaded::Unreadable => return Ok(Look::Ended(EndReason::Unreadable)),
                Loaded::Entry(Entry::Session(record)) if record.is_of_same_user(&known.record) => {
                    let located = Located { key, record, ..known.clone() };
                    session.set(located.clone());
                    return Ok(Look::Alive(located, watch));
                }
                Loaded::Entry(Entry::Session(_)) => break,
                Loaded::Entry(Entry::Tombstone(tombstone)) => tombstone,
            };
            if tombstone.cause == Cause::Ended {
                // Only an expired session leaves a marker of its own family.
                let is_expired = tombstone.family == known.record.family;
                let reason = if is_expired { EndReason::Expired } else { EndReason::Deleted };
                return Ok(Look::Ended(reason));
            }
            match self.followed_key(&tombstone, known.record.owner.as_ref()) {
                Some(successor) => key = successor,
                None => break,
            }
        }
        Ok(Look::Ended(EndReason::Replaced))
    }

    /// Returns the key to which a connection follows its session.
    ///
    /// A connection of a visitor follows no login and no rotation: an attacker who planted the
    /// visitor's ID would read the session of the user.
    fn followed_key(&self, tombstone: &Tombstone, owner: Option<&Owner>) -> Option<SessionKey> {
        match tombstone.cause {
            Cause::Renewed { successor, .. } => Some(successor),
            Cause::Rotated { successor, changes_owner: false, .. } => {
                (owner.is_some() && self.settings.carries_over).then_some(successor)
            }
            Cause::Rotated { .. } | Cause::Ended => None,
        }
    }

    /// Returns a random part of a span (jitter), so that the connections of a process do not load
    /// together.
    fn random_part(&self, span: Duration) -> Duration {
        span * u32::from(self.next_nonce().0.to_be_bytes()[0]) / 255
    }
}

/// The time over which the connections of a process spread their loads after a loss of reports.
const SPREAD: Duration = Duration::from_secs(1);

/// The shortest time between the starts of two loads by one connection that waits.
const MIN_GAP: Duration = Duration::from_millis(100);
