//! Whether another server is the primary by now.
//!
//! A failover on demand as the sentinels announce it, measured on Redis 7.0.15 (L: the sentinel that leads
//! it), and the effect here:
//!
//! ```text
//!   0 ms  L       +selected-slave B                 commands wait; connects to B until B is the primary
//!  60 ms  L       +failover-state-wait-promotion B  the same; L has just sent REPLICAOF NO ONE to B
//! 1.4 s   L       +promoted-slave B                 the same; from now on L names B when it is asked
//! 1.7 s   others  +switch-master A B                asks all sentinels
//! 2.7 s   L       +switch-master A B                asks all sentinels
//! ```
//!
//! Until a sentinel demotes it, A takes itself for the primary, and its writes after the promotion are
//! lost. Messages can be missed, so the sentinels are also asked, once a second while commands come.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::time::Instant;

/// The host and the port of a server.
pub(super) type Address = (String, u16);

/// A server that a sentinel calls the primary. The greater one is of the newer failover.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Named {
    /// Counts the failovers.
    pub(super) epoch: u64,
    pub(super) address: Address,
}

/// Compares the primary of the connection with the announcements and answers of the sentinels.
pub(super) struct FailoverWatch {
    /// The name that the sentinels give to the primary and its replicas.
    name: String,
    begun_at: Instant,
    /// When the sentinels are asked next, in milliseconds since the begin. Read with every command, and so
    /// is the next field: without a lock.
    ask_at_ms: AtomicU64,
    /// Written while `known` is held.
    has_moved: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The server of the connection.
    primary: Option<Named>,
    /// The replica that a sentinel promotes, and until when its promotion is waited for.
    successor: Option<(Named, Instant)>,
}

/// The channels on which sentinels announce the steps of a failover.
pub(super) const CHANNELS: [&str; 4] =
    ["+selected-slave", "+failover-state-wait-promotion", "+promoted-slave", "+switch-master"];

impl FailoverWatch {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            begun_at: Instant::now(),
            ask_at_ms: AtomicU64::new(ASK_EVERY_MS),
            has_moved: AtomicBool::new(false),
            known: Mutex::default(),
        }
    }

    /// The name that the sentinels give to the primary and its replicas.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns `true` if another server is to be connected to, as far as is known.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Relaxed)
    }

    /// Returns `true` if the sentinels are to be asked now: to one caller, and then a second later.
    pub(super) fn is_due(&self) -> bool {
        let now = u64::try_from(self.begun_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ask_at = self.ask_at_ms.load(Ordering::Relaxed);
        let next = now.saturating_add(ASK_EVERY_MS);
        now >= ask_at
            && self
                .ask_at_ms
                .compare_exchange(ask_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Records the announcement of a sentinel.
    pub(super) fn on_message(&self, message: &PushInfo) {
        let (PushKind::Message, [_, Value::BulkString(text)]) = (&message.kind, &*message.data)
        else {
            return;
        };
        let Ok(text) = std::str::from_utf8(text) else { return };
        match *text.split(' ').collect::<Vec<_>>() {
            // A replica that is promoted: its type, name and address, and those of the primary.
            [_, _, host, port, "@", name, _, _] if name == self.name => {
                if let Ok(port) = port.parse() {
                    self.on_promotion((host.to_owned(), port));
                }
            }
            // The name, the former address and the new one. The epoch is missing, and a sentinel may have
            // missed a newer failover.
            [name, _, _, _, _] if name == self.name => self.ask_at_ms.store(0, Ordering::Relaxed),
            _ => {}
        }
    }

    fn on_promotion(&self, address: Address) {
        let mut known = self.known();
        if let Some(primary) = &known.primary
            && primary.address != address
        {
            let successor = Named { epoch: primary.epoch.saturating_add(1), address };
            known.successor = Some((successor, Instant::now() + PROMOTION));
            self.has_moved.store(true, Ordering::Relaxed);
        }
    }

    /// Records the answer of a sentinel. One that missed the last failover proves nothing.
    pub(super) fn on_answer(&self, named: &Named) {
        let known = self.known();
        let is_news =
            |primary: &Named| named.epoch > primary.epoch && named.address != primary.address;
        if known.primary.as_ref().is_some_and(is_news) {
            self.has_moved.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the replica whose promotion is waited for, and until when: also after the promotion, as the
    /// sentinels may still name the former primary.
    pub(super) fn successor(&self) -> Option<(Named, Instant)> {
        let mut known = self.known();
        known.successor.take_if(|(_, until)| *until <= Instant::now());
        known.successor.clone()
    }

    /// Records the server that is connected to from now on.
    pub(super) fn on_connected(&self, primary: Named) {
        let mut known = self.known();
        // A promotion may have been announced meanwhile.
        let is_outdated = known.successor.as_ref().is_some_and(|(successor, until)| {
            successor.address != primary.address && *until > Instant::now()
        });
        self.has_moved.store(is_outdated, Ordering::Relaxed);
        known.primary = Some(primary);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is complete before anything can panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time between two rounds of questions to the sentinels, in milliseconds.
const ASK_EVERY_MS: u64 = 1_000;

/// How long commands wait for a replica that is being promoted. A sentinel itself waits for its
/// `failover-timeout`, 3 minutes by default, and the former primary serves until then.
const PROMOTION: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn named(epoch: u64, host: &str) -> Named {
        Named { epoch, address: (host.to_owned(), 6379) }
    }

    fn announce(watch: &FailoverWatch, text: &str) {
        let data = [CHANNELS[0], text].map(|part| Value::BulkString(part.into()));
        watch.on_message(&PushInfo { kind: PushKind::Message, data: data.into() });
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_until_the_new_primary_is_connected() {
        let watch = FailoverWatch::new("mymaster");
        watch.on_answer(&named(1, "two"));
        assert!(!watch.has_moved(), "there is no primary to move from");
        watch.on_connected(named(1, "one"));
        for nothing_new in [named(1, "two"), named(2, "one")] {
            watch.on_answer(&nothing_new);
            assert!(!watch.has_moved());
        }
        watch.on_answer(&named(2, "two"));
        watch.on_answer(&named(1, "one"));
        assert!(watch.has_moved());
        watch.on_connected(named(2, "two"));
        assert!(!watch.has_moved());
    }

    #[tokio::test(start_paused = true)]
    async fn a_promotion_counts_until_the_replica_is_connected_or_its_time_is_over() {
        let promotion = "slave two:6379 two 6379 @ mymaster one 6379";
        let watch = FailoverWatch::new("mymaster");
        watch.on_connected(named(1, "one"));
        for of_others in ["slave two:6379 two 6379 @ other one 6379", "two 6379", "", "a b c d e"] {
            announce(&watch, of_others);
            assert!(!watch.has_moved(), "{of_others}");
        }
        announce(&watch, promotion);
        assert!(watch.has_moved());
        let (successor, until) = watch.successor().unwrap();
        assert_eq!(
            (successor.address, until),
            (named(0, "two").address, Instant::now() + PROMOTION)
        );
        // A search that began before ends with the former primary.
        watch.on_connected(named(1, "one"));
        assert!(watch.has_moved());
        watch.on_connected(named(2, "two"));
        announce(&watch, promotion);
        watch.on_answer(&named(1, "one"));
        assert!(!watch.has_moved(), "it is connected");
        assert!(watch.successor().is_some(), "the sentinels may not know yet");

        announce(&watch, "slave three:6379 three 6379 @ mymaster two 6379");
        tokio::time::advance(PROMOTION).await;
        assert!(watch.successor().is_none());
        watch.on_connected(named(2, "two"));
        assert!(!watch.has_moved());
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_many_asks_once_a_second_and_after_a_switch() {
        let watch = FailoverWatch::new("mymaster");
        assert!(!watch.is_due());
        tokio::time::advance(Duration::from_millis(ASK_EVERY_MS)).await;
        assert!(watch.is_due());
        assert!(!watch.is_due());
        announce(&watch, "other one 6379 two 6379");
        assert!(!watch.is_due());
        announce(&watch, "mymaster one 6379 two 6379");
        assert!(watch.is_due());
        assert!(!watch.is_due());
    }
}
