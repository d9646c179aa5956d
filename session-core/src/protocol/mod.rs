//! The protocol between a request and the store, independent of the layers above.
//!
//! ```text
//!  request      cookie ──▶ open ──▶ reads and changes a draft ──▶ commit ──▶ Set-Cookie, if the ID changed
//!                           │                                       │
//!  protocol    open.rs: cookies to a located session         commit.rs: compare-and-swap, replay on conflict
//!                           │                                rotate.rs: move to a fresh ID
//!                           │                                create.rs: a fresh key, index first
//!                           │                                       │
//!                        locate.rs: load, unseal IDs           index.rs: extend and drop index entries
//!                           └───────────────┬───────────────────────┘
//!                                  verbs.rs: writes, and recovery from a lost answer
//! ```
//!
//! Beside the path of a request: `revoke.rs` (list and revoke the sessions of an index),
//! `session_limit.rs` (make room for a login), `report.rs` (the events), `lease.rs` (the lock of a
//! session), `live.rs` (a connection that outlives its request).
//!
//! # A commit
//!
//! ```text
//! loop, at most MAX_CONFLICTS times and PATIENCE long:
//!     record = the change log, replayed on base        // base: the session as last read
//!     match store.commit(base.key, if still at base.revision, record):
//!         Committed           -> done
//!         Conflict(newer)     -> base = newer           // another request committed: replay on newer (I1)
//!         Conflict(tombstone) -> base = the session under its new key, see below
//!         Gone                -> Ended                  // never created again (I2)
//!         answer lost         -> repeat once: if the stored nonce is ours, the first try succeeded (I6)
//! ```
//!
//! # A move to a fresh ID
//!
//! A login, a rotation and a renewal give the session another ID. The new record is created before
//! the tombstone, so that the user stays signed in after a crash in between (I4):
//!
//! ```text
//! 1. enter the new key in the indexes            // a live session is always in its indexes (I8)
//! 2. create the new record under the new key
//! 3. commit a tombstone in place of the old record, if that is still at base.revision
//!        conflict with a newer record -> replay on it, store the result under the new key, repeat step 3
//!        conflict with a tombstone    -> another request moved the session: follow the tombstone, and
//!                                        delete the new record if this commit does not use it there
//! 4. remove the old key from the indexes
//! ```
//!
//! The indexes of a record are those of its owner and of its links. They never change under one key,
//! because a login and a new link move the session.
//!
//! A request that loaded the session before the move finds the tombstone when it commits:
//!
//! | the tombstone is of | the request recorded | the request |
//! | --- | --- | --- |
//! | a renewal | anything | goes on under the new key, and receives the new ID |
//! | a visitor's login | a login of the same user | joins the new session (a double click) |
//! | a login or rotation | any other login or rotation | fails with `Ended`, and receives no ID |
//! | a login of another user, `act_as` or `stop_acting` | anything | fails with `Ended` |
//! | another login or rotation, carrying over is off | anything | fails with `Ended` |
//! | another login or rotation, carrying over is on | values | stores them in the new session, and receives no ID |
//! | the same | `clear` | removes the values that the request saw, and receives no ID |
//! | the same | a lifetime, an end, `renew` | goes on without these changes |
//! | any, regardless of the rows above | `destroy` | deletes the new session too |
//!
//! A request that opens an old ID:
//!
//! | the old ID was replaced by | the request |
//! | --- | --- |
//! | a renewal, and the new ID was first presented less than the grace ago, or not at all | opens the session, and receives the new ID |
//! | a renewal, and the grace is over | finds no session; the event is `Reused` |
//! | a visitor's login | finds no session; a login of the same user joins the new session (the second click of a double click came late) |
//! | any other login or rotation | finds no session |
//!
//! The browser may have sent the old ID before it received the new one. For 30 seconds after a
//! login, a rotation or the first use of a renewed ID, a request with the old ID begins a session
//! only if it signs in. The cookie of any other new session would overwrite the new ID in the
//! browser.
//!
//! # Glossary
//!
//! - *entry*: the content of one key: a record or a tombstone.
//! - *located session*: key, ID and record, as last read.
//! - *family*: the session through all its keys.
//! - *tombstone*: the entry that replaces the record of a session that moved. *End marker*: a
//!   tombstone without successor.
//! - *nonce*: a random mark of one commit. *Fence*: the fencing token of the lock under which a
//!   commit counts.

mod commit;
mod create;
mod index;
mod lease;
mod live;
mod locate;
mod nonces;
mod open;
mod queue;
mod report;
mod revoke;
mod rotate;
mod session_limit;
mod settings;
mod verbs;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nonces::Nonces;
use queue::KeyedQueue;

use crate::{
    Backend, Clock, Codec, IdGenerator, SessionKey, Timestamp, events::EventSender,
    metrics::Metrics, record::decode,
};

pub use live::EndReason;
pub use settings::{AtLimit, OnReuse, SessionLimit};

pub(crate) use {
    commit::{Outcome, PendingCommit, Start},
    lease::Acquired,
    live::Followed,
    locate::Located,
    open::{ClosedId, CookieLookup, MAX_COOKIES, Unopened},
    queue::Turn,
    settings::Settings,
    write::{Fence, WriteContext},
};

/// The store, the rules, and the state that all requests of a process share.
// Every request changes the reference counts of the handles, on every processor. The alignment
// keeps the counts off the cache lines of the fields that every request reads.
#[repr(align(128))]
pub(crate) struct Protocol {
    pub(crate) store: Arc<dyn Backend>,
    pub(crate) ids: Arc<dyn IdGenerator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) events: EventSender,
    pub(crate) metrics: Metrics,
    nonces: Nonces,
    /// The requests that lost a race for a session. One at a time tries again.
    contention: KeyedQueue,
    /// The requests that wait for a session's lock. One at a time asks the store.
    lock_queue: KeyedQueue,
    corrupt_records: AtomicU64,
    unreadable_values: AtomicU64,
}

impl Protocol {
    pub(crate) fn new(
        store: Arc<dyn Backend>,
        ids: Arc<dyn IdGenerator>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        event_buffer: usize,
    ) -> Self {
        Self {
            store,
            ids,
            clock,
            settings,
            events: EventSender::new(event_buffer),
            metrics: Metrics::new(),
            nonces: Nonces::new(),
            contention: KeyedQueue::default(),
            lock_queue: KeyedQueue::default(),
            corrupt_records: AtomicU64::new(0),
            unreadable_values: AtomicU64::new(0),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn next_nonce(&self) -> crate::Nonce {
        self.nonces.next()
    }

    pub(crate) fn corrupt_records(&self) -> u64 {
        self.corrupt_records.load(Ordering::Relaxed)
    }

    pub(crate) fn unreadable_values(&self) -> u64 {
        self.unreadable_values.load(Ordering::Relaxed)
    }

    /// Waits in the queue for the lock of a session.
    pub(crate) async fn lock_turn(&self, key: SessionKey) -> Turn<'_> {
        self.lock_queue.turn(key).await
    }

    /// Decodes a value. If the value cannot be decoded, the protocol reports the error, and the
    /// value counts as missing.
    pub(crate) fn decode_or_report<T, C: Codec<T>>(&self, name: &str, value: &[u8]) -> Option<T> {
        decode::<T, C>(name, value)
            .inspect_err(|error| {
                self.metrics.on_unreadable_value();
                if self.unreadable_values.fetch_add(1, Ordering::Relaxed).is_power_of_two() {
                    // After a change of the value's type, every read fails. One warning per read
                    // would flood the log.
                    tracing::warn!(target: "session", %error, "unreadable value, treated as missing");
                } else {
                    tracing::debug!(target: "session", %error, "unreadable value, treated as missing");
                }
            })
            .ok()
    }
}

/// The lifetime of a tombstone after a login, a rotation or an end. A renewal's tombstone lives at
/// least as long.
pub(crate) const ROTATION_WINDOW: Duration = Duration::from_secs(300);

/// The time for which a request prolongs its lock of a session. The last prolongation adds one lease.
pub(crate) const MAX_LEASE: Duration = Duration::from_secs(600);

/// The time limit of one commit's attempts.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of lost attempts after which a commit fails.
const MAX_CONFLICTS: usize = 128;

/// The number of tombstones that one request follows. A valid ID is one tombstone away from its
/// session, because a renewal waits until the former ID is invalid. A renewal and a login that come
/// while the request runs add one each.
const MAX_MOVES: usize = 8;

/// The number of keys in one call of a store verb on many keys. Other tasks run between two calls.
const CHUNK: usize = 100;
