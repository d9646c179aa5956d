use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{ConnectionAddr, PushInfo, PushKind, RedisError, Value};
use session_core::{Entry, SessionKey};
use tokio::time::Instant;

use crate::near_cache::{
    cache::{self, Changing, ConnectionFreshness, NearCopies, ReadMark},
    settings::{NearCache, NearCacheStats},
};

/// The near cache, if any, as connections and store operations use it.
///
/// redis-rs has a cache of its own on the same command (`cache-aio`), with four disadvantages. The
/// cache keeps a reply that an invalidation has overtaken: the invalidation is handled where the
/// connection is read, the reply where the caller waits. If a connection hangs, only the age of
/// each value limits its use. Each `GET` also requests the time to live. The cache holds bytes,
/// which each read must decode again.
#[derive(Clone, Default)]
pub(crate) struct Tracking(Option<Arc<Near>>);

struct Near {
    copies: NearCopies,
    /// The prefix of the keys of sessions.
    key_prefix: String,
    /// `true` after the warning that a server does not report changes.
    has_complained: AtomicBool,
}

impl Tracking {
    pub(crate) fn new(cache: NearCache, key_prefix: String) -> Self {
        Self(Some(Arc::new(Near {
            copies: NearCopies::new(cache.capacity, cache.staleness),
            key_prefix,
            has_complained: AtomicBool::new(false),
        })))
    }

    pub(crate) fn copies(&self) -> Option<&NearCopies> {
        self.0.as_ref().map(|near| &near.copies)
    }

    pub(crate) fn stats(&self) -> Option<NearCacheStats> {
        self.copies().map(NearCopies::stats)
    }

    /// Starts to track a connection, and returns the listener for the push messages of the
    /// connection. Returns `None` if there is no near cache.
    ///
    /// redis-rs calls the listener where the connection is read: for each message in the order of
    /// arrival, and before the replies behind the message are delivered. The near cache depends on
    /// this order.
    pub(crate) fn begin(
        &self,
    ) -> Option<(Tracked, impl Fn(PushInfo) -> Result<(), Infallible> + Send + Sync + 'static)>
    {
        let near = self.0.as_ref()?;
        let freshness = ConnectionFreshness::new(Instant::now().into_std());
        let listener = Listener { near: Arc::clone(near), freshness: Arc::clone(&freshness) };
        let listen = move |message| {
            listener.hear(&message);
            Ok(())
        };
        Some((Tracked(Some(Watched { near: Arc::clone(near), freshness })), listen))
    }

    /// Logs one warning that a server does not report changes. The text of the server is untrusted,
    /// and is not logged.
    pub(crate) fn complain(&self, server: &ConnectionAddr, refusal: &RedisError) {
        if self.0.as_ref().is_some_and(|near| !near.has_complained.swap(true, Ordering::Relaxed)) {
            tracing::warn!(
                target: "session",
                %server,
                reason = ?refusal.kind(),
                "Redis does not tell what is changed (RESP3, CLIENT TRACKING): \
                 sessions read from it are not cached"
            );
        }
    }

    pub(crate) fn fetch(&self, key: &SessionKey) -> Fetch<'_> {
        Fetch(self.copies().map(|copies| copies.fetch(key)))
    }

    pub(crate) fn changing<'c>(&'c self, keys: &'c [SessionKey]) -> Option<Changing<'c>> {
        self.copies().map(|copies| copies.changing(keys))
    }

    pub(crate) fn ending<'c>(&'c self, keys: &'c [SessionKey]) -> Option<Changing<'c>> {
        self.copies().map(|copies| copies.ending(keys))
    }

    pub(crate) fn forget(&self, key: &SessionKey) {
        if let Some(copies) = self.copies() {
            copies.forget(key);
        }
    }
}

/// Receives the push messages of one connection, for as long as the connection is read.
struct Listener {
    near: Arc<Near>,
    freshness: Arc<ConnectionFreshness>,
}

impl Listener {
    fn hear(&self, message: &PushInfo) {
        let Near { copies, key_prefix, .. } = &*self.near;
        match (&message.kind, &message.data[..]) {
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    // The server tracks every key that was read, including keys of other kinds.
                    if let Value::BulkString(key) = key
                        && let Some(key) = session_key(key, key_prefix)
                    {
                        copies.invalidate(&key);
                    }
                }
            }
            // An invalidation without keys covers all keys.
            (PushKind::Invalidate, _) => copies.flush(&self.freshness),
            (PushKind::Disconnection, _) => copies.disconnect(&self.freshness),
            _ => {}
        }
    }
}

impl Drop for Listener {
    /// redis-rs drops the listener when the connection is no longer read, for any reason.
    fn drop(&mut self) {
        self.near.copies.disconnect(&self.freshness);
    }
}

fn session_key(key: &[u8], prefix: &str) -> Option<SessionKey> {
    std::str::from_utf8(key.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
}

/// The tracking of one connection: empty if the server does not report changes over the connection.
#[derive(Clone, Default)]
pub(crate) struct Tracked(Option<Watched>);

#[derive(Clone)]
struct Watched {
    near: Arc<Near>,
    freshness: Arc<ConnectionFreshness>,
}

impl Tracked {
    /// Returns the mark of a read that is about to be sent.
    pub(crate) fn seen(&self) -> ReadOrigin {
        ReadOrigin(self.0.as_ref().map(|watched| watched.freshness.mark(Instant::now().into_std())))
    }

    /// Records the reply to a command that was sent at this instant.
    pub(crate) fn prove(&self, sent_at: Instant) {
        if let Some(watched) = &self.0 {
            watched.freshness.prove(sent_at.into_std());
        }
    }

    /// Invalidates the copies that were read over a connection, and all later ones, when the
    /// connection is no longer used.
    pub(crate) fn end(&self) {
        if let Some(Watched { near, freshness }) = &self.0 {
            near.copies.disconnect(freshness);
        }
    }

    /// Invalidates the copies that were read from a cluster node, after the node turned out not to
    /// serve a key.
    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {
        if let Some(Watched { near, freshness }) = &self.0 {
            near.copies.flush(freshness);
        }
    }
}

/// The connection over which an entry was read, if the connection is tracked.
#[derive(Default)]
pub(crate) struct ReadOrigin(Option<ReadMark>);

/// A read whose reply may be kept.
pub(crate) struct Fetch<'c>(Option<cache::Fetch<'c>>);

impl Fetch<'_> {
    pub(crate) fn keep(self, entry: &Entry, seen: ReadOrigin) {
        if let (Self(Some(fetch)), ReadOrigin(Some(mark))) = (self, seen) {
            fetch.keep(entry, &mark);
        }
    }
}
