mod changes;
mod health;
mod key;
#[cfg(feature = "near-cache")]
mod local_reads;
mod replicated_ends;
mod scan;
mod scripts;
mod session_index;
mod watching;

use std::{fmt, slice, sync::Arc};

use redis::{Cmd, Value, cmd};
use session_core::{
    Committed, Created, Ended, Entry, Expected, IndexKey, SessionKey, SessionStore, StoreError,
    Timestamp, Tombstone, Touched, Watched, async_trait,
    envelope::{self, HEADER_LEN, MOVED, VERSION},
};

use crate::{
    RedisConfig, RedisState,
    error::unexpected,
    health::warnings::Warnings,
    near_cache::ReadOrigin,
    store::{
        key::RedisKey, replicated_ends::ReplicatedEnds, scripts::Scripts, session_index::CHUNK,
        watching::WatchConnection,
    },
    tracking::{Tracking, session_key},
    transport::{Connection, Script},
};

pub use {changes::Changes, scan::Scan};

/// A store of sessions in Redis, shared by any number of processes.
///
/// The store works with Redis 6.0 and later, and with Valkey. All commands share one multiplexed
/// connection, or one per node of a cluster. A lost connection is set up again automatically, and
/// every command has a time limit. Clones share the connection. Commands of concurrent requests are
/// written together. Operations that end sessions and [wait for
/// replicas](RedisConfig::with_revocation_replicas) use a connection of their own.
#[derive(Clone)]
pub struct RedisStore(Arc<Shared>);

struct Shared {
    connection: Connection,
    scripts: Scripts,
    key_prefix: String,
    index_prefix: String,
    warnings: Warnings,
    revocations: Option<ReplicatedEnds>,
    tracking: Tracking,
    watching: WatchConnection,
}

impl RedisStore {
    /// Connects to Redis. The argument is a URL or a [`RedisConfig`].
    ///
    /// The store asks for the [health](Self::health) of Redis, and logs a warning (`tracing`,
    /// target `session`) if Redis evicts sessions when its memory is full. A server that does not
    /// report its health is accepted. A server that reports the role of a replica, or a version
    /// before 6.0, is refused.
    ///
    /// Applications that share a Redis need a [prefix](RedisConfig::with_prefix) each: with one prefix
    /// they share their sessions and owners.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] of the kind
    /// [`Misconfigured`](session_core::StoreErrorKind::Misconfigured) if the URL is invalid or the
    /// server refuses this client, and [`Unavailable`](session_core::StoreErrorKind::Unavailable)
    /// or [`Timeout`](session_core::StoreErrorKind::Timeout) if the server cannot be reached.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use session_redis::RedisStore;
    ///
    /// # async fn example() -> Result<(), session_core::StoreError> {
    /// let store = RedisStore::connect("redis://127.0.0.1").await?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(config: impl Into<RedisConfig>) -> Result<Self, StoreError> {
        let store = Self::connect_lazy(config)?;
        store.0.connection.connect().await?;
        if let Some(revocations) = &store.0.revocations {
            revocations.connect().await?;
        }
        store.check().await?;
        Ok(store)
    }

    /// Creates a store that connects at the first command, so that an application can start while
    /// Redis is down. Until Redis is up, pages without sessions work,
    /// [`ping`](SessionStore::ping) returns an error, and requests with sessions fail with a 503.
    ///
    /// If [`connect`](Self::connect) would refuse the server, each command and
    /// [`health`](Self::health) return the error instead. A warning (`tracing`, target `session`)
    /// gives the reason when the first connection fails. The store repeats the attempt with the
    /// same back-off as after the loss of a connection.
    ///
    /// # Errors
    ///
    /// Returns a [`StoreError`] of the kind
    /// [`Misconfigured`](session_core::StoreErrorKind::Misconfigured) if a URL or a certificate
    /// cannot be used.
    ///
    /// # Examples
    ///
    /// ```
    /// use session_redis::RedisStore;
    ///
    /// # fn main() -> Result<(), session_core::StoreError> {
    /// let store = RedisStore::connect_lazy("redis://127.0.0.1")?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_lazy(config: impl Into<RedisConfig>) -> Result<Self, StoreError> {
        let config = config.into();
        let tracking = config.tracking();
        let connection = Connection::new(&config, &tracking)?;
        let key_prefix = config.key_prefix();
        let index_prefix = format!("{}i:", config.prefix);
        let shared = Shared {
            connection,
            scripts: Scripts::new(),
            key_prefix,
            index_prefix,
            warnings: Warnings::new(config.place.is_cluster()),
            revocations: ReplicatedEnds::new(&config)?,
            tracking,
            watching: WatchConnection::new(&config),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Returns the state of the connection: whether Redis answered the last commands. The method
    /// sends no command. Use the state for a metric, or on a page for operators.
    ///
    /// The state comes from the commands of requests. A process without requests, such as a server
    /// that a load balancer has taken out, must use [`ping`](SessionStore::ping).
    #[must_use]
    pub fn state(&self) -> RedisState {
        self.0.connection.state()
    }

    /// Returns the statistics of the near cache, or `None` [without
    /// one](RedisConfig::with_near_cache).
    #[cfg(feature = "near-cache")]
    #[must_use]
    pub fn near_cache(&self) -> Option<crate::NearCacheStats> {
        self.0.tracking.copies().map(crate::near_cache::cache::NearCopies::stats)
    }

    /// Runs a script that ends a session, and waits for the replicas if the configuration requires
    /// the wait.
    async fn revoke(
        &self,
        script: &Script,
        key: RedisKey<'_>,
        size: usize,
        arguments: impl FnOnce(&mut Cmd),
    ) -> Result<Value, StoreError> {
        match &self.0.revocations {
            // An `EVAL` with the complete script, because `ReplicatedEnds` does not repeat an
            // `EVALSHA` of an unknown script.
            Some(revocations) => {
                let mut command = script.eval(key);
                arguments(&mut command);
                revocations.run_one(command).await
            }
            None => {
                let mut command = script.call(key, size);
                arguments(&mut command);
                self.0.connection.run(script, &command).await
            }
        }
    }

    /// Calls a script that ends sessions, once per session, and waits for the replicas if the
    /// configuration requires the wait.
    pub(crate) async fn revoke_all(
        &self,
        script: &Script,
        mut calls: Vec<Cmd>,
    ) -> Result<Vec<Result<Value, StoreError>>, StoreError> {
        match &self.0.revocations {
            Some(revocations) => {
                script.put_code_into_the_first(&mut calls);
                revocations.run(calls).await
            }
            None => self.0.connection.run_all(script, calls).await,
        }
    }

    /// Converts a reply of the script `end` to the result for the key.
    async fn ended(&self, key: &SessionKey, answer: Value) -> Result<Ended, StoreError> {
        match answer {
            Value::Int(1) => Ok(Ended::Session(None)),
            Value::Nil => Ok(Ended::Blocked),
            Value::BulkString(bytes) => match self.decode_or_discard(key, bytes).await? {
                Some(Entry::Tombstone(tombstone)) => Ok(Ended::Tombstone(tombstone)),
                Some(Entry::Session(record)) => Ok(Ended::Session(Some(record))),
                None => Ok(Ended::Session(None)),
            },
            _ => Err(unexpected()),
        }
    }

    /// Decodes an entry that a script returned. Returns `None` if the entry is damaged. The scripts
    /// check only the header and keep tombstones, so this method deletes a damaged tombstone.
    async fn decode_or_discard(
        &self,
        key: &SessionKey,
        bytes: Vec<u8>,
    ) -> Result<Option<Entry>, StoreError> {
        let head = bytes.first_chunk::<HEADER_LEN>().copied();
        if let Ok(entry) = Entry::decode(bytes) {
            return Ok(Some(entry));
        }
        if let Some(head) = head.filter(|head| head.starts_with(&[VERSION, MOVED])) {
            let arguments = |discard: &mut Cmd| {
                discard.arg(&head[..]);
            };
            let script = &self.0.scripts.discard;
            let discard = self.revoke(script, self.redis_key(key), HEADER_LEN, arguments);
            Box::pin(discard).await?;
        }
        Ok(None)
    }

    pub(crate) fn warnings(&self) -> &Warnings {
        &self.0.warnings
    }

    pub(crate) fn tracking(&self) -> &Tracking {
        &self.0.tracking
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.0.connection
    }

    pub(crate) fn scripts(&self) -> &Scripts {
        &self.0.scripts
    }

    pub(crate) fn key_prefix(&self) -> &str {
        &self.0.key_prefix
    }

    /// Returns the session of a key in Redis.
    pub(crate) fn session_key(&self, redis_key: &[u8]) -> Option<SessionKey> {
        session_key(redis_key, &self.0.key_prefix)
    }

    /// Returns a key that belongs to no session.
    pub(crate) fn probe_key(&self, number: usize) -> String {
        format!("{}{number}", self.0.key_prefix)
    }

    pub(crate) fn index_key(&self, index: &IndexKey) -> String {
        format!("{}{index}", self.0.index_prefix)
    }

    pub(crate) fn create_command(&self, key: &SessionKey, entry: &Entry, now: Timestamp) -> Cmd {
        let mut set = cmd("SET");
        set.arg(self.redis_key(key)).arg(entry.encode()).arg("NX");
        set.arg("PX").arg(time_to_live_ms(entry, now));
        set
    }

    pub(crate) fn get_command(&self, key: &SessionKey) -> Cmd {
        let key = self.redis_key(key);
        let mut get = Cmd::with_capacity(2, GET.len() + key.len());
        get.arg(GET).arg(key);
        get
    }

    pub(crate) fn redis_key<'s>(&'s self, session: &'s SessionKey) -> RedisKey<'s> {
        RedisKey { prefix: &self.0.key_prefix, session }
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("key_prefix", &self.0.key_prefix).finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        let _changing = self.0.tracking.changing(slice::from_ref(key));
        match self.0.connection.write(&self.create_command(key, &entry, now)).await? {
            Value::Okay => Ok(Created::Created),
            Value::Nil => Ok(Created::Exists),
            _ => Err(unexpected()),
        }
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let fetch = self.0.tracking.fetch(key);
        let mut seen = ReadOrigin::default();
        match self.0.connection.read_seen(&self.get_command(key), &mut seen).await? {
            Value::BulkString(bytes) => {
                let entry = Entry::decode(bytes)?;
                if !entry.is_live(now) {
                    return Ok(None);
                }
                if let Some(fetch) = fetch {
                    fetch.keep(&entry, seen);
                }
                Ok(Some(entry))
            }
            Value::Nil => {
                // The session is missing, so a copy must not be used either. Some changes
                // (`SWAPDB`) cause no invalidation.
                self.0.tracking.forget(key);
                Ok(None)
            }
            _ => Err(unexpected()),
        }
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        if expected.expires_at() <= now {
            // The expected session has expired, unless a request has used the session since then.
            // The commit continues only if the session is live now and still the expected one. The
            // script compares revision and nonce again.
            match Box::pin(self.load(key, now)).await? {
                Some(Entry::Session(found)) if expected.is(&found) => {}
                Some(other) => return Ok(Committed::Conflict(other)),
                None => return Ok(Committed::Gone),
            }
        }
        let keys = slice::from_ref(key);
        let _changing = match &entry {
            Entry::Session(_) => self.0.tracking.changing(keys),
            Entry::Tombstone(_) => self.0.tracking.ending(keys),
        };
        let record = entry.encode();
        let size = record.len();
        let arguments = |commit: &mut Cmd| {
            commit.arg(&envelope::live_start(expected.revision(), expected.nonce())[..]);
            commit.arg(record).arg(time_to_live_ms(&entry, now));
        };
        let (script, key) = (&self.0.scripts.commit, self.redis_key(key));
        let answer = match &entry {
            // The end of the former ID. The future is boxed because most commits do not need its
            // size.
            Entry::Tombstone(_) => Box::pin(self.revoke(script, key, size, arguments)).await?,
            Entry::Session(_) => {
                let mut commit = script.call(key, size);
                arguments(&mut commit);
                self.0.connection.run(script, &commit).await?
            }
        };
        match answer {
            Value::Int(1) => Ok(Committed::Committed),
            Value::BulkString(bytes) => match Entry::decode(bytes)? {
                stored if stored.is_live(now) => Ok(Committed::Conflict(stored)),
                _ => Ok(Committed::Gone),
            },
            Value::Nil => Ok(Committed::Gone),
            _ => Err(unexpected()),
        }
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        let _changing = self.0.tracking.changing(slice::from_ref(key));
        let mut touch = self.0.scripts.touch.call(self.redis_key(key), 0);
        touch.arg(now.as_millis()).arg(&envelope::u48(now.as_millis())[..]);
        match self.0.connection.run(&self.0.scripts.touch, &touch).await? {
            Value::Int(1) => Ok(Touched::Touched),
            Value::Int(0) => Ok(Touched::Gone),
            _ => Err(unexpected()),
        }
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let _ending = self.0.tracking.ending(slice::from_ref(key));
        match self.revoke(&self.0.scripts.delete, self.redis_key(key), 0, |_| {}).await? {
            Value::BulkString(bytes) => match self.decode_or_discard(key, bytes).await? {
                Some(entry) => Ok(Some(entry).filter(|entry| entry.is_live(now))),
                None => Ok(None),
            },
            Value::Nil => Ok(None),
            _ => Err(unexpected()),
        }
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut loaded = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let loads = chunk.iter().map(|key| self.get_command(key)).collect();
            for answer in self.connection().read_all(loads).await? {
                loaded.push(answer.and_then(|answer| entry(answer, now)));
            }
        }
        if loaded.len() == keys.len() { Ok(loaded) } else { Err(unexpected()) }
    }

    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let _ending = self.tracking().ending(keys);
        let script = &self.scripts().end;
        let marker = Entry::Tombstone(Arc::new(marker));
        let (bytes, time_to_live) = (marker.encode(), time_to_live_ms(&marker, now));
        let mut ended = Vec::with_capacity(keys.len());
        let mut failure = None;
        for chunk in keys.chunks(CHUNK) {
            let end = |key| {
                let mut end = script.call(self.redis_key(key), bytes.len());
                end.arg(&bytes).arg(time_to_live).arg(now.as_millis());
                end
            };
            let ends = chunk.iter().map(end).collect();
            let answers = self.revoke_all(script, ends).await?;
            for (key, answer) in chunk.iter().zip(answers) {
                let answer = match answer {
                    Ok(answer) => self.ended(key, answer).await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(answer) => ended.push(answer),
                    // The error is returned after all other sessions were tried.
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None if ended.len() == keys.len() => Ok(ended),
            None => Err(unexpected()),
        }
    }

    /// Sends a read to Redis, as a request with a session does.
    ///
    /// While Redis is down, a `ping` is one of the commands by which the store notices that Redis
    /// is up again.
    async fn ping(&self, _: Timestamp) -> Result<(), StoreError> {
        // Keys of sessions are longer than the prefix alone.
        let mut get = cmd(GET);
        get.arg(&self.0.key_prefix);
        self.0.connection.read(&get).await.map(drop)
    }

    async fn watch(&self, key: &SessionKey, now: Timestamp) -> Result<Watched, StoreError> {
        // With a near cache, Redis reports changes over the connection of all loads.
        let watch = match self.0.tracking.watchers() {
            Some(watchers) => Some(watchers.watch(key)),
            None => {
                // Redis tracks each key that is read, and one byte is enough.
                let mut read = cmd("GETRANGE");
                read.arg(self.redis_key(key)).arg(0).arg(0);
                self.0.watching.watch(key, &read).await
            }
        };
        Ok(Watched { entry: self.load(key, now).await?, watch })
    }

    #[cfg(feature = "near-cache")]
    fn local_reads(&self) -> Option<&dyn session_core::LocalReads> {
        self.0.tracking.copies().map(|_| self as &dyn session_core::LocalReads)
    }
}

/// Converts the reply to a `GET` to the live entry.
fn entry(answer: Value, now: Timestamp) -> Result<Option<Entry>, StoreError> {
    match answer {
        Value::BulkString(bytes) => Ok(Some(Entry::decode(bytes)?).filter(|it| it.is_live(now))),
        Value::Nil => Ok(None),
        _ => Err(unexpected()),
    }
}

const GET: &str = "GET";

/// Returns the time to live of an entry in milliseconds. The minimum is 1, because Redis refuses
/// zero.
pub(crate) fn time_to_live_ms(entry: &Entry, now: Timestamp) -> u64 {
    let left = entry.expires_at().as_millis().saturating_sub(now.as_millis());
    left.max(1)
}
