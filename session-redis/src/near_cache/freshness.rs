use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How far what is known of a connection reaches: what was read over it, until when, and whether that counts.
///
/// The server tells a change to those who have read what is changed, before it answers any later command of
/// theirs. So an answer proves that up to the instant at which its command was sent nothing was changed that is
/// not known here. It proves that of everything that was read over the connection, which is why a session that is
/// read all the time need not be fetched anew.
#[derive(Debug)]
pub struct ConnectionFreshness {
    begun_at: Instant,
    /// When the latest command that was answered had been sent, in nanoseconds from the begin.
    proven_ns: AtomicU64,
    /// When a proof was last asked for, in the same way.
    asked_ns: AtomicU64,
    /// Counts how often all that was read was given up; [`ENDED`] is the last time.
    epoch: AtomicU64,
}

impl ConnectionFreshness {
    /// The freshness of a connection that was begun at this instant.
    #[must_use]
    pub fn new(begun_at: Instant) -> Arc<Self> {
        Arc::new(Self {
            begun_at,
            proven_ns: AtomicU64::new(0),
            asked_ns: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        })
    }

    /// Marks a read at the instant at which it is sent.
    #[must_use]
    pub fn mark(self: &Arc<Self>, at: Instant) -> ReadMark {
        ReadMark {
            freshness: Arc::clone(self),
            epoch: self.epoch.load(Ordering::Acquire),
            sent_ns: self.since_begin(at),
        }
    }

    /// Notes that a command was answered that was sent at this instant, or later.
    pub fn prove(&self, sent_at: Instant) {
        self.proven_ns.fetch_max(self.since_begin(sent_at), Ordering::Release);
    }

    /// How long ago the last proof is.
    pub(super) fn proof_age(&self, at: Instant) -> Duration {
        let proven = Duration::from_nanos(self.proven_ns.load(Ordering::Acquire));
        at.saturating_duration_since(self.begun_at).saturating_sub(proven)
    }

    /// Tells whether to ask for a proof now: not more often than once in this span.
    pub(super) fn begin_proof(&self, at: Instant, span: Duration) -> bool {
        let (now, asked) = (self.since_begin(at), self.asked_ns.load(Ordering::Relaxed));
        Duration::from_nanos(now.saturating_sub(asked)) >= span
            && self
                .asked_ns
                .compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Gives up all that was read. Tells whether there is still anything to give up.
    pub(super) fn flush(&self) -> bool {
        let next = |epoch| (epoch != ENDED).then(|| epoch + 1);
        self.epoch.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Gives up all that was read, and all that will be.
    pub(super) fn end(&self) -> bool {
        self.epoch.swap(ENDED, Ordering::AcqRel) != ENDED
    }

    fn since_begin(&self, at: Instant) -> u64 {
        // Enough for centuries.
        u64::try_from(at.saturating_duration_since(self.begun_at).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the freshness of a connection was when something was read.
#[derive(Clone, Debug)]
pub struct ReadMark {
    freshness: Arc<ConnectionFreshness>,
    epoch: u64,
    /// When the read was sent, in nanoseconds from the begin of the connection.
    sent_ns: u64,
}

impl ReadMark {
    /// Returns the time since the read was sent.
    pub(super) fn age(&self, at: Instant) -> Duration {
        Duration::from_nanos(self.freshness.since_begin(at).saturating_sub(self.sent_ns))
    }

    pub(super) fn freshness(&self) -> &ConnectionFreshness {
        &self.freshness
    }

    /// Tells whether what was read then has not been given up since.
    pub(super) fn holds(&self) -> bool {
        self.epoch != ENDED && self.freshness.epoch.load(Ordering::Acquire) == self.epoch
    }
}

const ENDED: u64 = u64::MAX;
