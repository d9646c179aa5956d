//! Detection of failovers, from the announcements and replies of the sentinels.
//!
//! The announcements during a manual failover, measured on Redis 7.0.15, and their effect here (L:
//! the sentinel that leads the failover):
//!
//! ```text
//!   0 ms  L       +selected-slave B                 commands wait; connects to B until B is the primary
//!  60 ms  L       +failover-state-wait-promotion B  the same; L has just sent REPLICAOF NO ONE to B
//! 1.4 s   L       +promoted-slave B                 the same; from now on L names B when it is asked
//! 1.7 s   others  +switch-master A B                asks all sentinels
//! 2.7 s   L       +switch-master A B                asks all sentinels
//! ```
//!
//! Until a sentinel demotes A, A acts as a primary, and writes to A after the promotion are lost.
//! Because messages can be missed, the sentinels are also asked once a second while commands
//! arrive.

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

/// A primary that a sentinel names. The greater value is from the newer failover.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Named {
    /// The number of failovers so far, which Sentinel calls the configuration epoch.
    pub(super) epoch: u64,
    pub(super) address: Address,
}

/// Compares the connected primary with the announcements and replies of the sentinels.
pub(super) struct FailoverWatch {
    /// The sentinels' name for the primary and its replicas.
    name: String,
    begun_at: Instant,
    /// When the sentinels are asked next, in milliseconds since `begun_at`. Every command reads
    /// this field and `has_moved`, so both are atomic and need no lock.
    ask_at_ms: AtomicU64,
    /// Written only while `known` is locked.
    has_moved: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The connected server.
    primary: Option<Named>,
    /// The replica that a sentinel promotes, and the end of the wait for the promotion.
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

    /// Returns the sentinels' name for the primary and its replicas.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns `true` if the watch knows of another server that must be connected to.
    pub(super) fn has_moved(&self) -> bool {
        self.has_moved.load(Ordering::Relaxed)
    }

    /// Returns `true` if the sentinels are to be asked now. Only one of concurrent callers receives
    /// `true`, and the next caller a second later.
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
            // A replica under promotion: its type, name and address, then the name and address of
            // the primary.
            [_, _, host, port, "@", name, _, _] if name == self.name => {
                if let Ok(port) = port.parse() {
                    self.on_promotion((host.to_owned(), port));
                }
            }
            // A switch: the name, the former address and the new address. All sentinels are asked,
            // because the message lacks the epoch and its sender may have missed a newer failover.
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

    /// Records the reply of a sentinel. A reply without a newer epoch is ignored, because the
    /// sentinel may have missed the last failover.
    pub(super) fn on_answer(&self, named: &Named) {
        let known = self.known();
        let is_news =
            |primary: &Named| named.epoch > primary.epoch && named.address != primary.address;
        if known.primary.as_ref().is_some_and(is_news) {
            self.has_moved.store(true, Ordering::Relaxed);
        }
    }

    /// Returns the replica under promotion, and the end of the wait. The replica is returned until
    /// then, also after the promotion, because the sentinels may still name the former primary.
    pub(super) fn successor(&self) -> Option<(Named, Instant)> {
        let mut known = self.known();
        known.successor.take_if(|(_, until)| *until <= Instant::now());
        known.successor.clone()
    }

    /// Records the newly connected server.
    pub(super) fn on_connected(&self, primary: Named) {
        let mut known = self.known();
        // A sentinel may have announced another promotion meanwhile.
        let is_outdated = known.successor.as_ref().is_some_and(|(successor, until)| {
            successor.address != primary.address && *until > Instant::now()
        });
        self.has_moved.store(is_outdated, Ordering::Relaxed);
        known.primary = Some(primary);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is complete before a panic can occur.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time between two rounds of requests to the sentinels, in milliseconds.
const ASK_EVERY_MS: u64 = 1_000;

/// How long commands wait for the promotion of a replica. A sentinel waits for its
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
        // A search that began before the announcement may end at the former primary.
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
