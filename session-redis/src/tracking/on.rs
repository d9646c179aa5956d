use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    Client, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, ServerErrorKind, Value, cmd,
};
use session_core::{Entry, LocalReads, SessionKey, SessionStore as _, Timestamp};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    NearCacheStats, RedisConfig, RedisStore,
    copies::{Changing, Found, Horizon, Mark, NearCopies},
    node::Limits,
    tracking::Link,
    wire::Wire,
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
    pub(crate) fn of(config: &RedisConfig) -> Self {
        Self(config.near_cache.map(|cache| {
            Arc::new(Near {
                copies: NearCopies::new(cache.capacity, cache.staleness),
                key_prefix: config.key_prefix(),
                has_complained: AtomicBool::new(false),
            })
        }))
    }

    pub(crate) fn copies(&self) -> Option<&NearCopies> {
        self.0.as_ref().map(|near| &near.copies)
    }

    pub(crate) fn stats(&self) -> Option<NearCacheStats> {
        self.copies().map(NearCopies::stats)
    }

    /// Connects to a server, and asks it to tell what is changed. One that does not is used without.
    pub(crate) async fn connect(
        &self,
        client: &Client,
        limits: Limits,
    ) -> Result<Link, RedisError> {
        let Some(near) = &self.0 else {
            return Wire::connect(client, limits).await.map(Link::untracked);
        };
        match connect_tracked(near, client, limits).await {
            Err(refusal) if is_lasting(&refusal) => {
                let connection = Wire::connect(client, limits).await?;
                if !near.has_complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        target: "session",
                        server = %client.get_connection_info().addr(),
                        error = %refusal,
                        "Redis does not tell what is changed (RESP3, CLIENT TRACKING): \
                         sessions read from it are not cached"
                    );
                }
                Ok(Link::untracked(connection))
            }
            connected => connected,
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

impl LocalReads for RedisStore {
    fn staleness(&self) -> Duration {
        self.tracking().copies().map_or(Duration::ZERO, NearCopies::staleness)
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let copies = self.tracking().copies()?;
        let Found { entry, wants_proof } = copies.find(key, Instant::now().into_std(), now)?;
        if wants_proof && let Ok(runtime) = Handle::try_current() {
            // The session itself and no `PING`: a node of a cluster that has lost its keys answers that too.
            let (store, key) = (self.clone(), *key);
            runtime.spawn(async move {
                if let Err(error) = store.load(&key, now).await {
                    tracing::debug!(target: "session", %key, %error, "copy not confirmed");
                }
            });
        }
        Some(entry)
    }
}

async fn connect_tracked(
    near: &Arc<Near>,
    client: &Client,
    limits: Limits,
) -> Result<Link, RedisError> {
    let info = client.get_connection_info();
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(info.clone().set_redis_settings(settings))?;
    let horizon = Horizon::new(Instant::now().into_std());
    let listener = Listener { near: Arc::clone(near), horizon: Arc::clone(&horizon) };
    // Called where the connection is read, for one message after the other in the order of their coming, and
    // before the answers behind one are handed on: the order that all of this rests on.
    let listen = move |message| {
        listener.hear(&message);
        Ok::<_, Infallible>(())
    };
    let config = Wire::config().set_push_sender(listen);
    let mut connection = Wire::connect_with(&client, limits, config).await?;
    let mut track = cmd("CLIENT");
    track.arg("TRACKING").arg("ON");
    connection.send(&track).await?.extract_error()?;
    Ok(Link { connection, tracked: Tracked(Some(Watched { near: Arc::clone(near), horizon })) })
}

/// Tells whether the server will say the same the next time: not if it is busy, or starting. What has nothing to do
/// with tracking is refused again without it.
fn is_lasting(refusal: &RedisError) -> bool {
    let passes = matches!(
        refusal.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
        )
    ) || refusal.code() == Some("BUSY")
        || refusal.detail().is_some_and(|detail| detail.contains("max number of clients"));
    !passes && !refusal.is_io_error() && !refusal.is_connection_dropped()
}

/// Hears what the server tells over one connection, for as long as that is read.
struct Listener {
    near: Arc<Near>,
    horizon: Arc<Horizon>,
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
            (PushKind::Invalidate, _) => copies.flush(&self.horizon),
            (PushKind::Disconnection, _) => copies.disconnect(&self.horizon),
            _ => {}
        }
    }
}

impl Drop for Listener {
    /// Nobody reads the connection any more, whatever the reason.
    fn drop(&mut self) {
        self.near.copies.disconnect(&self.horizon);
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
    horizon: Arc<Horizon>,
}

impl Tracked {
    /// Marks what is read from now on.
    pub(crate) fn seen(&self) -> Seen {
        Seen(self.0.as_ref().map(|watched| watched.horizon.mark()))
    }

    /// Notes that something was answered that was sent at this instant.
    pub(crate) fn prove(&self, sent_at: Instant) {
        if let Some(watched) = &self.0 {
            watched.horizon.prove(sent_at.into_std());
        }
    }

    /// Gives up what was read over a connection that is not used any more.
    pub(crate) fn end(&self) {
        if let Some(Watched { near, horizon }) = &self.0 {
            near.copies.disconnect(horizon);
        }
    }

    /// Gives up what was read from a node that turned out not to have what it is asked for.
    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {
        if let Some(Watched { near, horizon }) = &self.0 {
            near.copies.flush(horizon);
        }
    }
}

/// Over which connection something was read, if that is tracked.
#[derive(Default)]
pub(crate) struct Seen(Option<Mark>);

/// A read whose answer may be kept.
pub(crate) struct Fetch<'c>(Option<crate::copies::Fetch<'c>>);

impl Fetch<'_> {
    pub(crate) fn keep(self, entry: &Entry, seen: Seen) {
        if let (Self(Some(fetch)), Seen(Some(mark))) = (self, seen) {
            fetch.keep(entry, &mark);
        }
    }
}
