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
//! The interval is the bound for a store that reports no changes, and for a report that is lost.
//!
//! Reports cost a bounded number of loads:
//!
//! - If the store loses its source of reports, the connections spread their loads over [`SPREAD`].
//! - A report may be false: Redis with a full tracking table reports each key that it evicts. A load
//!   tracks its key, which evicts another key, whose connection loads in turn. So after each report
//!   that announced no change, the connection waits twice as long, from [`MIN_GAP`] up to the
//!   interval. An interval without a report halves the wait, and a change leaves it. So each false
//!   report costs a load that follows an interval without one: in the long run, false reports at most
//!   double the loads of polling. Each change costs one load more.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::{Either, select};

use super::{Located, MAX_MOVES, Protocol, locate::Loaded};
use crate::{
    Entry, Family, Lifetime, Owner, Record, SessionError, SessionKey, StoreError, Timestamp,
    Tombstone, Watch, WatchOutcome, record::Cause,
};

/// The reason why the session of a [`Live`](crate::Live) connection ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// A request destroyed the session, or the session was revoked or evicted.
    Deleted,
    /// The session reached its deadline.
    Expired,
    /// A login, [`act_as`](crate::Session::act_as) or [`stop_acting`](crate::Session::stop_acting) gave
    /// the session to another user, or a visitor signed in. A connection that opens with the new
    /// cookie belongs to the new session.
    Replaced,
    /// This version cannot read the record of the session.
    Unreadable,
}

/// The session of one connection, as last read. The reads, the writes and the wait share it.
///
/// A connection may last for hours: it keeps the fields that it needs, and no record with values.
pub(crate) struct Followed {
    /// The user of a connection never changes.
    owner: Option<Owner>,
    actor: Option<Owner>,
    known: Mutex<Known>,
}

/// The fields of a session that its connection keeps.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) key: SessionKey,
    family: Family,
    last_seen_at: Timestamp,
    /// The end of the session, however often it is used.
    ends_at: Timestamp,
    lifetime: Lifetime,
}

/// The outcome of a load.
enum Look {
    Alive(Located, Option<Watch>),
    Ended(EndReason),
}

impl Followed {
    pub(crate) fn new(located: &Located) -> Self {
        let Located { key, record, .. } = located;
        // Copied: the name in a record may be a part of the bytes of the whole record.
        let copy = |owner: &Owner| Owner::from(owner.as_bytes());
        Self {
            owner: record.owner().map(copy),
            actor: record.actor().map(copy),
            known: Mutex::new(Known::new(*key, record)),
        }
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub(crate) fn actor(&self) -> Option<&Owner> {
        self.actor.as_ref()
    }

    pub(crate) fn known(&self) -> Known {
        *self.lock()
    }

    fn is_of_same_user(&self, record: &Record) -> bool {
        (self.owner(), self.actor()) == (record.owner(), record.actor())
    }

    /// Records a use of the session, unless the session was found under another key meanwhile.
    pub(crate) fn set_seen(&self, key: SessionKey, now: Timestamp) {
        let mut known = self.lock();
        if known.key == key {
            known.last_seen_at = known.last_seen_at.max(now);
        }
    }

    fn set(&self, known: Known) {
        *self.lock() = known;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn new(key: SessionKey, record: &Record) -> Self {
        Self {
            key,
            family: record.family,
            last_seen_at: record.last_seen_at,
            ends_at: record.absolute_deadline(),
            lifetime: record.lifetime,
        }
    }

    pub(crate) fn touch_is_due(&self, now: Timestamp) -> bool {
        self.lifetime.touch_is_due(self.last_seen_at, now)
    }

    fn expires_at(&self) -> Timestamp {
        self.last_seen_at.plus_millis(self.lifetime.idle_ms()).min(self.ends_at)
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
        let interval = self.settings.live_interval;
        let (mut gap, mut is_reported, mut found) = (MIN_GAP, false, None);
        loop {
            let began = self.now();
            // Boxed: a connection waits nearly all of its time, and the wait is small.
            let (watch, deadline) = match Box::pin(self.look(session, true)).await {
                Ok(Look::Ended(reason)) => return reason,
                Ok(Look::Alive(Located { key, record, .. }, watch)) => {
                    let former = found.replace((key, record.nonce, record.last_seen_at));
                    gap = match is_reported {
                        true if found == former => interval.min(2 * gap),
                        true => gap,
                        false => MIN_GAP.max(gap / 2),
                    };
                    (watch, record.expires_at())
                }
                Err(error) => {
                    tracing::debug!(target: "session", %error, "end of the session not checked");
                    (None, Timestamp::MAX)
                }
            };
            let left = deadline.since(self.now());
            let pause = (interval - self.random_part(interval / 4)).min(left).max(MIN_GAP);
            let pause = self.clock.sleep(pause);
            let Some(watch) = watch else {
                pause.await;
                is_reported = false;
                continue;
            };
            is_reported = match select(watch, pause).await {
                Either::Left((outcome, pause)) => {
                    let rest = gap.saturating_sub(self.now().since(began));
                    let rest = match outcome {
                        WatchOutcome::Changed => rest,
                        WatchOutcome::Lost => rest.max(self.random_part(SPREAD)),
                    };
                    select(self.clock.sleep(rest), pause).await;
                    true
                }
                Either::Right(_) => false,
            };
        }
    }

    async fn look(&self, session: &Followed, watches: bool) -> Result<Look, StoreError> {
        let known = session.known();
        let mut key = known.key;
        for _ in 0..MAX_MOVES {
            let (loaded, watch) = match watches {
                true => self.watch(&key).await?,
                false => (self.load(&key).await?, None),
            };
            let tombstone = match loaded {
                Loaded::Missing if known.expires_at() <= self.now() => {
                    return Ok(Look::Ended(EndReason::Expired));
                }
                Loaded::Missing => return Ok(Look::Ended(EndReason::Deleted)),
                Loaded::Unreadable => return Ok(Look::Ended(EndReason::Unreadable)),
                Loaded::Entry(Entry::Session(record)) if session.is_of_same_user(&record) => {
                    session.set(Known::new(key, &record));
                    // A connection never needs the ID: only a request can tell the client another
                    // one.
                    let located = Located { key, id: None, record, is_presented: false };
                    return Ok(Look::Alive(located, watch));
                }
                Loaded::Entry(Entry::Session(_)) => break,
                Loaded::Entry(Entry::Tombstone(tombstone)) => tombstone,
            };
            if tombstone.cause == Cause::Ended {
                // Only an expired session leaves a marker of its own family.
                let is_expired = tombstone.family == known.family;
                let reason = if is_expired { EndReason::Expired } else { EndReason::Deleted };
                return Ok(Look::Ended(reason));
            }
            match self.followed_key(&tombstone, session.owner()) {
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
            Cause::Rotated { successor, changes_user: false, .. } => {
                (owner.is_some() && self.settings.carries_over).then_some(successor)
            }
            Cause::Rotated { .. } | Cause::Ended => None,
        }
    }

    /// Returns a random part of a span (jitter), so that the connections of a process do not load
    /// together.
    fn random_part(&self, span: Duration) -> Duration {
        let [high, low, ..] = self.next_nonce().0.to_be_bytes();
        span * u32::from(u16::from_be_bytes([high, low])) / u32::from(u16::MAX)
    }
}

/// The time over which the connections of a process spread their loads after a loss of reports. The
/// time is that of the default interval, so that a loss costs a server hardly more than polling.
const SPREAD: Duration = Duration::from_secs(5);

/// The shortest time between two loads by one connection that waits, so that a session that changes
/// all the time costs a bounded number of loads.
const MIN_GAP: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([1; SessionKey::LEN]);
    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn located(record: Arc<Record>) -> Located {
        Located { key: KEY, id: None, record, is_presented: false }
    }

    /// A record with values, of ada who acts as grace.
    fn record() -> Record {
        let mut login = Record::new(NOW, Lifetime::default());
        login.owner = Some("ada".into());
        let mut record = Record::new(NOW, Lifetime::default());
        record.owner = Some("grace".into());
        record.actor = Some(Arc::new(login));
        record.values.set("cart", &[1; 10_000]);
        record
    }

    /// The fields of a decoded record are parts of its bytes, so one of them would keep all.
    #[test]
    fn connection_keeps_no_part_of_the_record() {
        let bytes = Bytes::from(Entry::Session(Arc::new(record())).encode());
        let Ok(Entry::Session(stored)) = Entry::decode(bytes.clone()) else { panic!() };
        let followed = Followed::new(&located(Arc::clone(&stored)));
        assert_eq!(Arc::strong_count(&stored), 1);
        drop(stored);
        assert!(bytes.is_unique());
        assert_eq!(followed.owner(), Some(&"grace".into()));
        assert_eq!(followed.actor(), Some(&"ada".into()));
    }

    #[test]
    fn waiting_connection_is_small() {
        fn size<F>(_: impl FnOnce(&'static Protocol, &'static Followed) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size_of::<Followed>() <= 200);
        assert!(size(|protocol, followed| protocol.end_of(followed)) <= 300);
    }

    #[test]
    fn known_deadline_is_that_of_the_record() {
        let mut record = record();
        for (seen_after, ends_by) in [(0, None), (3_600, None), (86_000, None), (0, Some(NOW))] {
            record.last_seen_at = NOW + Duration::from_secs(seen_after);
            record.ends_by = ends_by;
            assert_eq!(Known::new(KEY, &record).expires_at(), record.expires_at());
        }
    }
}
