//! The changes that servers report over connections (`CLIENT TRACKING`, RESP3).
//!
//! ```text
//! GET key ────────────▶ the server notes: this connection has read the key
//!                       another connection changes the key
//! copy dropped, watches completed ◀─── message, once per read
//! connection lost: all its copies dropped, all watches completed ◀─── ×
//! ```
//!
//! The near cache needs the messages for its copies, and live connections for the ends of their
//! sessions. The transport calls a [`Tracking`] for each connection.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{ConnectionAddr, PushInfo, PushKind, RedisError, Value};
use session_core::{SessionKey, Watchers};
use tokio::time::Instant;

use crate::near_cache::{self, Copies, Freshness, ReadOrigin};

/// The tracking of a client's connections. Disabled by default.
///
/// redis-rs has a cache of its own on the same command (`cache-aio`), with four disadvantages. The
/// cache keeps a reply that an invalidation has overtaken: the invalidation is handled where the
/// connection is read, the reply where the caller waits. If a connection hangs, only the age of
/// each value limits its use. Each `GET` also requests the time to live. The cache holds bytes,
/// which each read must decode again.
#[derive(Clone, Default)]
pub(crate) struct Tracking(Option<Arc<Shared>>);

struct Shared {
    copies: Copies,
    watchers: Watchers,
    /// The prefix of the keys of sessions.
    key_prefix: String,
    /// The effect of a server that does not report changes, for the log.
    without_reports: &'static str,
    /// `true` after the warning that a server does not report changes.
    has_complained: AtomicBool,
}

impl Tracking {
    pub(crate) fn new(copies: Copies, key_prefix: String, without_reports: &'static str) -> Self {
        Self(Some(Arc::new(Shared {
            copies,
            watchers: Watchers::default(),
            key_prefix,
            without_reports,
            has_complained: AtomicBool::new(false),
        })))
    }

    /// Returns the watches of the sessions that are read over the connections, or `None` if tracking
    /// is disabled.
    pub(crate) fn watchers(&self) -> Option<&Watchers> {
        self.0.as_ref().map(|shared| &shared.watchers)
    }

    /// Returns the near cache, if one is configured.
    #[cfg(feature = "near-cache")]
    pub(crate) fn copies(&self) -> Option<&near_cache::cache::NearCopies> {
        self.0.as_ref()?.copies.get()
    }

    /// Starts to track a connection, and returns the listener for the push messages of the
    /// connection. Returns `None` if tracking is disabled.
    ///
    /// redis-rs calls the listener where the connection is read: for each message in the order of
    /// arrival, and before the replies behind the message are delivered. The near cache depends on
    /// this order.
    pub(crate) fn begin(
        &self,
    ) -> Option<(Tracked, impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static)>
    {
        let shared = Arc::clone(self.0.as_ref()?);
        let freshness = shared.copies.freshness();
        let tracked = Tracked(Some(Arc::new(TrackedConnection {
            shared,
            freshness,
            state: Mutex::new(State::SetUp),
        })));
        let listener = Listener(tracked.clone());
        let listen = move |message| {
            listener.on_message(&message);
            Ok(())
        };
        Some((tracked, listen))
    }

    /// Logs one warning that a server does not report changes. The text of the server is untrusted,
    /// and is not logged.
    pub(crate) fn complain(&self, server: &ConnectionAddr, refusal: &RedisError) {
        if let Some(shared) = &self.0
            && !shared.has_complained.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                target: "session",
                %server,
                reason = ?refusal.kind(),
                "Redis does not report changes (RESP3, CLIENT TRACKING): {}", shared.without_reports
            );
        }
    }

    /// Announces a read whose reply the near cache may keep.
    pub(crate) fn fetch(&self, key: &SessionKey) -> Option<near_cache::Fetch<'_>> {
        self.0.as_ref().map(|shared| shared.copies.fetch(key))
    }

    /// Announces a change of sessions by this process to the near cache. The report of the server
    /// arrives after the reply, and the next request must not read the former session meanwhile.
    ///
    /// Watches wait for the report, because the server reports the changes over the same connection
    /// too. A second report here would cost the watching caller a second load.
    pub(crate) fn changing<'c>(
        &'c self,
        keys: &'c [SessionKey],
    ) -> Option<near_cache::Changing<'c>> {
        self.0.as_ref().map(|shared| shared.copies.changing(keys))
    }

    /// Announces the end of sessions by this process, as [`changing`](Self::changing) does.
    pub(crate) fn ending<'c>(&'c self, keys: &'c [SessionKey]) -> Option<near_cache::Changing<'c>> {
        self.0.as_ref().map(|shared| shared.copies.ending(keys))
    }

    pub(crate) fn forget(&self, key: &SessionKey) {
        if let Some(shared) = &self.0 {
            shared.copies.forget(key);
        }
    }
}

/// The tracking of one connection: empty if the server does not report changes over the connection.
#[derive(Clone, Default)]
pub(crate) struct Tracked(Option<Arc<TrackedConnection>>);

struct TrackedConnection {
    shared: Arc<Shared>,
    freshness: Freshness,
    state: Mutex<State>,
}

/// The states of a tracked connection, in this order.
#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    /// The connection is being set up. No command has read over it, so its loss is no loss of
    /// reports.
    SetUp,
    InUse,
    Ended,
}

impl TrackedConnection {
    /// Sets the state, unless the connection has ended. Returns the former state.
    fn set(&self, state: State) -> State {
        let mut present = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let former = *present;
        if former != State::Ended {
            *present = state;
        }
        former
    }
}

impl Tracked {
    /// Records that the connection is set up and its server accepted. From now on, the loss of the
    /// connection is a loss of reports.
    pub(crate) fn begin_use(&self) {
        if let Some(tracked) = &self.0 {
            tracked.set(State::InUse);
        }
    }

    /// Returns the mark of a read that is about to be sent.
    pub(crate) fn seen(&self) -> ReadOrigin {
        self.0.as_ref().map(|tracked| tracked.freshness.mark()).unwrap_or_default()
    }

    /// Records the reply to a command that was sent at this instant.
    pub(crate) fn prove(&self, sent_at: Instant) {
        if let Some(tracked) = &self.0 {
            tracked.freshness.prove(sent_at);
        }
    }

    /// Ends the tracking when the connection is lost or no longer used. Invalidates the copies that
    /// were read over the connection, and all later ones.
    pub(crate) fn end(&self) {
        if let Some(tracked) = &self.0 {
            tracked.shared.copies.disconnect(&tracked.freshness);
            if tracked.set(State::Ended) == State::InUse {
                tracked.shared.watchers.report_loss();
            }
        }
    }

    /// Invalidates the copies that were read from a cluster node, after the node turned out not to
    /// serve a key.
    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {
        if let Some(tracked) = &self.0 {
            tracked.shared.copies.flush(&tracked.freshness);
        }
    }
}

/// Receives the push messages of one connection, for as long as the connection is read.
struct Listener(Tracked);

impl Listener {
    fn on_message(&self, message: &PushInfo) {
        let Some(tracked) = &self.0.0 else { return };
        let TrackedConnection { shared, freshness, .. } = &**tracked;
        match (&message.kind, &message.data[..]) {
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    // The server tracks every key that was read, including keys of other kinds.
                    if let Value::BulkString(key) = key
                        && let Some(key) = session_key(key, &shared.key_prefix)
                    {
                        shared.copies.invalidate(&key);
                        shared.watchers.report_change(&key);
                    }
                }
            }
            // An invalidation without keys covers all keys.
            (PushKind::Invalidate, _) => {
                shared.copies.flush(freshness);
                shared.watchers.report_loss();
            }
            (PushKind::Disconnection, _) => self.0.end(),
            _ => {}
        }
    }
}

impl Drop for Listener {
    /// redis-rs drops the listener when the connection is no longer read, for any reason.
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Returns the key of a session by its name in Redis.
pub(crate) fn session_key(key: &[u8], prefix: &str) -> Option<SessionKey> {
    std::str::from_utf8(key.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use session_core::WatchOutcome;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([1; SessionKey::LEN]);

    fn tracking() -> Tracking {
        Tracking::new(Copies::default(), "s:".to_owned(), "")
    }

    #[test]
    fn loss_of_a_connection_in_use_is_a_loss_of_reports() {
        let tracking = tracking();
        let (tracked, _listener) = tracking.begin().unwrap();
        tracked.begin_use();
        let watch = tracking.watchers().unwrap().watch(&KEY);
        tracked.end();
        assert_eq!(watch.now_or_never(), Some(WatchOutcome::Lost));
    }

    /// A node that flaps, or has become a replica, fails in each set-up.
    #[test]
    fn failed_set_up_is_no_loss_of_reports() {
        let tracking = tracking();
        let watch = tracking.watchers().unwrap().watch(&KEY);
        let (tracked, listener) = tracking.begin().unwrap();
        drop(listener);
        tracked.begin_use();
        tracked.end();
        assert_eq!(watch.now_or_never(), None);
    }
}
