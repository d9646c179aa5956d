use std::time::Duration;

use crate::{Nonce, Timestamp};

/// The lock of a session, as its record holds it: the request holding the lock, and its deadline.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lease {
    /// The fencing token: the mark of the request holding the lock.
    pub(crate) token: Nonce,
    pub(crate) until: Timestamp,
    /// The length of the lease when it was granted.
    pub(crate) span: Duration,
}

impl Lease {
    pub(crate) fn new(token: Nonce, now: Timestamp, span: Duration) -> Self {
        Self { token, until: now + span, span }
    }

    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Returns the lease, shortened to its length from now, if it ends later than twice its length.
    /// Such a lease was granted by a clock that was ahead, or the clock has been set back since.
    pub(crate) fn shortened(self, now: Timestamp, longest: Duration) -> Option<Self> {
        let span = self.span.min(longest);
        (self.until > now + span + span).then(|| Self { until: now + span, ..self })
    }
}
