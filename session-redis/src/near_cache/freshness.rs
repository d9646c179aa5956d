use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The freshness of a connection: the instant up to which all invalidations of the keys that were
/// read over the connection have arrived.
///
/// After a change of a key, the server sends an invalidation to each connection that has read the
/// key, before the reply to any later command of the connection. If a command was sent at time T
/// and the reply has arrived, then the invalidations of all changes before T have arrived, too. A
/// single reply is such a proof for all keys that were read over the connection. A session that is
/// read all the time therefore needs no new read of its own.
#[derive(Debug)]
pub struct ConnectionFreshness {
    begun_at: Instant,
    /// The time at which the latest answered command was sent, in nanoseconds since `begun_at`.
    proven_ns: AtomicU64,
    /// The time of the last request for a proof, in nanoseconds since `begun_at`.
    asked_ns: AtomicU64,
    /// The number of times that all copies of the connection were dropped. [`ENDED`] is the last
    /// value.
    epoch: AtomicU64,
}

impl ConnectionFreshness {
    /// Creates the freshness of a connection that was started at this instant.
    #[must_use]
    pub fn new(begun_at: Instant) -> Arc<Self> {
        Arc::new(Self {
            begun_at,
            proven_ns: AtomicU64::new(0),
            asked_ns: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
        })
    }

    /// Returns a mark for a read that is sent at this instant.
    #[must_use]
    pub fn mark(self: &Arc<Self>, at: Instant) -> ReadMark {
        ReadMark {
            freshness: Arc::clone(self),
            epoch: self.epoch.load(Ordering::Acquire),
            sent_ns: self.since_begin(at),
        }
    }

    /// Records the reply to a command that was sent at this instant or later.
    pub fn prove(&self, sent_at: Instant) {
        self.proven_ns.fetch_max(self.since_begin(sent_at), Ordering::Release);
    }

    /// Returns the time since the last proof.
    pub(super) fn proof_age(&self, at: Instant) -> Duration {
        let proven = Duration::from_nanos(self.proven_ns.load(Ordering::Acquire));
        at.saturating_duration_since(self.begun_at).saturating_sub(proven)
    }

    /// Returns `true` if the caller must request a proof now: at most once per `span`.
    pub(super) fn begin_proof(&self, at: Instant, span: Duration) -> bool {
        let (now, asked) = (self.since_begin(at), self.asked_ns.load(Ordering::Relaxed));
        Duration::from_nanos(now.saturating_sub(asked)) >= span
            && self
                .asked_ns
                .compare_exchange(asked, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Invalidates all copies that were read over the connection. Returns `false` if the connection
    /// has already ended.
    pub(super) fn flush(&self) -> bool {
        let next = |epoch| (epoch != ENDED).then(|| epoch + 1);
        self.epoch.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok()
    }

    /// Invalidates all copies that were read over the connection, and all later ones. Returns
    /// `false` if the connection has already ended.
    pub(super) fn end(&self) -> bool {
        self.epoch.swap(ENDED, Ordering::AcqRel) != ENDED
    }

    fn since_begin(&self, at: Instant) -> u64 {
        // 64 bits of nanoseconds last for centuries.
        u64::try_from(at.saturating_duration_since(self.begun_at).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The connection over which a copy was read, and its epoch at the time of the read.
#[derive(Clone, Debug)]
pub struct ReadMark {
    freshness: Arc<ConnectionFreshness>,
    epoch: u64,
    /// The time at which the read was sent, in nanoseconds since the start of the connection.
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

    /// Returns `true` unless the copy was invalidated with its connection since the read.
    pub(super) fn holds(&self) -> bool {
        self.epoch != ENDED && self.freshness.epoch.load(Ordering::Acquire) == self.epoch
    }
}

const ENDED: u64 = u64::MAX;
