//! The changes of all sessions in a store, as Redis reports them.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{join, join_all};
use redis::{Pipeline, PushInfo, PushKind, Value};
use session_core::{SessionKey, StoreError};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use crate::{
    RedisStore,
    transport::{ServerAddress, Socket},
};

/// The changes of all sessions in a store: see [`RedisStore::changes`].
pub struct Changes {
    keys: Receiver<SessionKey>,
    is_cut_off: CancellationToken,
    lost: Arc<AtomicU64>,
    /// Probes the connections, whether the caller waits or not.
    _probes: AbortOnDropHandle<()>,
}

impl RedisStore {
    /// Subscribes to the changes of all sessions by all clients: for a program of the operator. The
    /// subscription covers the nodes of a cluster that have slots at this time, or the primary that
    /// the sentinels name.
    ///
    /// Redis reports each write and each expiry of a session (RESP3, `CLIENT TRACKING` in broadcast
    /// mode). The subscription has connections of its own, and needs the right `client|tracking`.
    /// While it lasts, each write costs Redis one short message.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] if a server does not answer, or does not report changes.
    pub async fn changes(&self) -> Result<Changes, StoreError> {
        let (sender, keys) = mpsc::channel(BUFFER);
        let is_cut_off = CancellationToken::new();
        let lost = Arc::<AtomicU64>::default();
        let listener = || {
            let listener = Listener {
                store: self.clone(),
                sender: sender.clone(),
                lost: Arc::clone(&lost),
                is_cut_off: is_cut_off.clone(),
                _guard: is_cut_off.clone().drop_guard(),
            };
            move |message| {
                listener.on_message(&message);
                Ok::<_, Infallible>(())
            }
        };
        let mut track = Pipeline::with_capacity(1);
        track.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST");
        track.arg("PREFIX").arg(self.key_prefix());
        let connections = self.connection().listen(listener, &track).await?;
        let mut subscription = Subscription { store: self.clone(), connections };
        let guard = is_cut_off.clone().drop_guard();
        let probes = tokio::spawn(async move {
            let _guard = guard;
            while subscription.is_complete().await {
                sleep(SILENCE).await;
            }
        });
        Ok(Changes { keys, is_cut_off, lost, _probes: AbortOnDropHandle::new(probes) })
    }
}

impl Changes {
    /// Waits for the next change, and returns the key of the session. The key may be that of a
    /// tombstone, or of a session that is gone.
    ///
    /// Returns `None` when changes may be missing: a connection was lost, its server has not answered
    /// for about 10 seconds, another node of the cluster has received slots, the sentinels name another
    /// primary, or Redis was emptied. The missing changes may be those of the last 10 seconds, and
    /// those for which the caller has not waited yet.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has taken no change.
    pub async fn next(&mut self) -> Option<SessionKey> {
        tokio::select! {
            biased;
            // First, because the changes of other servers may arrive faster than the caller is.
            () = self.is_cut_off.cancelled() => None,
            key = self.keys.recv() => key,
        }
    }

    /// Returns the number of changes that were left out because the caller was more than 10,000
    /// changes behind.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

/// The connections of a subscription.
struct Subscription {
    store: RedisStore,
    connections: Vec<(ServerAddress, Socket)>,
}

impl Subscription {
    /// Returns `true` if each server answers, and there is a connection to each server.
    async fn is_complete(&mut self) -> bool {
        let addresses = timeout(SILENCE, self.store.connection().addresses());
        let pings = self.connections.iter_mut().map(async |(_, connection)| {
            timeout(SILENCE, connection.send(&redis::cmd("PING"))).await.is_ok()
        });
        let (addresses, pings) = join(addresses, join_all(pings)).await;
        // The pings alone decide whether the servers answer.
        let mut addresses = addresses.into_iter().flatten().flatten();
        pings.into_iter().all(|answers| answers) && addresses.all(|server| self.covers(&server))
    }

    /// Returns `true` if there is a connection to the server, or the sentinel that names it has missed
    /// a failover.
    fn covers(&self, server: &ServerAddress) -> bool {
        self.connections.iter().any(|(connected, _)| {
            connected.address == server.address || connected.epoch > server.epoch
        })
    }
}

/// Receives the messages of one connection, for as long as the connection is read.
struct Listener {
    store: RedisStore,
    sender: Sender<SessionKey>,
    lost: Arc<AtomicU64>,
    is_cut_off: CancellationToken,
    /// redis-rs drops the listener when it stops to read the connection, for any reason.
    _guard: DropGuard,
}

impl Listener {
    fn on_message(&self, message: &PushInfo) {
        let keys = match (&message.kind, &message.data[..]) {
            (PushKind::Invalidate, [Value::Array(keys)]) => keys,
            // All keys are gone (`FLUSHALL`), which is more than one report can say.
            (PushKind::Invalidate, _) => return self.is_cut_off.cancel(),
            _ => return,
        };
        for key in keys {
            if let Value::BulkString(key) = key
                && let Some(key) = self.store.session_key(key)
                && self.sender.try_send(key).is_err()
            {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The number of changes that wait for the caller.
const BUFFER: usize = 10_000;

/// The time between two probes of the connections, and the time limit of a probe.
const SILENCE: Duration = Duration::from_secs(5);
