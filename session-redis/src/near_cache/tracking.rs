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

/// The near cache as connections and the store's verbs see it, if there is one.
///
/// redis-rs has a cache of its own on the same command (`cache-aio`). It keeps an answer that an invalidation has
/// overtaken, as the one is handled where the connection is read and the other where it is waited for; nothing in
/// it notices a connection that has gone silent but the age of each value; it asks for the time to live with every
/// `GET`; and it keeps bytes, to be decoded at each read.
#[derive(Clone, Default)]
pub(crate) struct Tracking(Option<Arc<Near>>);

struct Near {
    copies: NearCopies,
    /// What the keys of sessions begin with.
    key_prefix: String,
    /// It was said that the server tells nobody what was changed.
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

    /// Begins to track a connection, and returns the listener that receives its messages. Returns
    /// `None` if there is no near cache.
    ///
    /// The listener is called where the connection is read, for one message after the other in the
    /// order in which they arrive, and before the answers behind a message are handed on. The near
    /// cache rests on that order.
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

    /// Warns once that a server does not report changes. The server's text is not trusted, and stays out of
    /// the log.
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

    pub(crate) fn forget(&self, key: &SessionKey) {
        if let Some(copies) = self.copies() {
            copies.forget(key);
        }
    }
}

/// Hears what the server tells over one connection, for as long as that is read.
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
                    // Everything that was read is tracked, other keys too.
                    if let Value::BulkString(key) = key
                        && let Some(key) = session_key(key, key_prefix)
                    {
                        copies.invalidate(&key);
                    }
                }
            }
            // Without keys it means all of them.
            (PushKind::Invalidate, _) => copies.flush(&self.freshness),
            (PushKind::Disconnection, _) => copies.disconnect(&self.freshness),
            _ => {}
        }
    }
}

impl Drop for Listener {
    /// Nobody reads the connection any more, whatever the reason.
    fn drop(&mut self) {
        self.near.copies.disconnect(&self.freshness);
    }
}

fn session_key(key: &[u8], prefix: &str) -> Option<SessionKey> {
    std::str::from_utf8(key.strip_prefix(prefix.as_bytes())?).ok()?.parse().ok()
}

/// Whether the server tells over a connection what was changed, and how far that reaches.
#[derive(Clone, Default)]
pub(crate) struct Tracked(Option<Watched>);

#[derive(Clone)]
struct Watched {
    near: Arc<Near>,
    freshness: Arc<ConnectionFreshness>,
}

impl Tracked {
    /// Marks what is read from now on.
    pub(crate) fn seen(&self) -> ReadOrigin {
        ReadOrigin(self.0.as_ref().map(|watched| watched.freshness.mark(Instant::now().into_std())))
    }

    /// Notes that something was answered that was sent at this instant.
    pub(crate) fn prove(&self, sent_at: Instant) {
        if let Some(watched) = &self.0 {
            watched.freshness.prove(sent_at.into_std());
        }
    }

    /// Gives up what was read over a connection that is not used any more.
    pub(crate) fn end(&self) {
        if let Some(Watched { near, freshness }) = &self.0 {
            near.copies.disconnect(freshness);
        }
    }

    /// Gives up what was read from a node that turned out not to have what it is asked for.
    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {
        if let Some(Watched { near, freshness }) = &self.0 {
            near.copies.flush(freshness);
        }
    }
}

/// Over which connection something was read, if that is tracked.
#[derive(Default)]
pub(crate) struct ReadOrigin(Option<ReadMark>);

/// A read whose answer may be kept.
pub(crate) struct Fetch<'c>(Option<cache::Fetch<'c>>);

impl Fetch<'_> {
    pub(crate) fn keep(self, entry: &Entry, seen: ReadOrigin) {
        if let (Self(Some(fetch)), ReadOrigin(Some(mark))) = (self, seen) {
            fetch.keep(entry, &mark);
        }
    }
}
