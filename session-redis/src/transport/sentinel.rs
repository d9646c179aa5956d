use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline, RedisConnectionInfo,
    RedisError, Value,
};
use session_core::StoreErrorKind;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    RedisConfig,
    error::ConnectError,
    near_cache::Tracking,
    transport::{
        access::{Access, Endpoint, parse},
        connector::{Link, connect},
        handshake::{self, Wanted},
        limits::Limits,
        socket::Socket,
    },
};

/// The processes that know which server is the primary.
///
/// redis-rs has a client for them as well. It asks for the whole list of primaries and waits for a
/// sentinel that hangs before it hears the next; it cannot do without `ROLE`, which a user may be
/// forbidden; it believes the first, also one that missed the last failover; and it checks one connection
/// and then makes another. Here all sentinels are asked at once, the newest word counts, and the connection
/// that was checked is the one that is used.
#[derive(Clone)]
pub(crate) struct Sentinels {
    sentinels: Vec<Endpoint>,
    /// What the sentinels call the primary and its replicas.
    name: String,
    access: Access,
    limits: Limits,
    tracking: Tracking,
    tls: bool,
    watch: Arc<FailoverWatch>,
}

/// Whether the primary that was found is the primary still.
struct FailoverWatch {
    begun_at: Instant,
    /// When the sentinels were asked last, in milliseconds since it began. Looked at with every command, and so
    /// is the next: without a lock.
    asked_at_ms: AtomicU64,
    /// Written while `found` is held.
    has_moved: AtomicBool,
    found: Mutex<Option<(Address, Epoch)>>,
}

impl FailoverWatch {
    fn new() -> Self {
        Self {
            begun_at: Instant::now(),
            asked_at_ms: AtomicU64::new(0),
            has_moved: AtomicBool::new(false),
            found: Mutex::new(None),
        }
    }

    /// Tells whether it is time to ask again: one of those that want to know does.
    fn is_due(&self) -> bool {
        let now = u64::try_from(self.begun_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        let asked_at = self.asked_at_ms.load(Ordering::Relaxed);
        Duration::from_millis(now.saturating_sub(asked_at)) >= ASK_EVERY
            && self
                .asked_at_ms
                .compare_exchange(asked_at, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    /// Notes whom a sentinel calls the primary. One that missed the last failover says nothing new.
    fn hear(&self, address: &Address, epoch: Epoch) {
        let found = self.found();
        let is_news = |(found, found_in): &(Address, Epoch)| epoch > *found_in && address != found;
        if found.as_ref().is_some_and(is_news) {
            self.has_moved.store(true, Ordering::Relaxed);
        }
    }

    /// Notes the primary that is connected to from now on.
    fn find(&self, address: Address, epoch: Epoch) {
        let mut found = self.found();
        *found = Some((address, epoch));
        self.has_moved.store(false, Ordering::Relaxed);
    }

    fn found(&self) -> MutexGuard<'_, Option<(Address, Epoch)>> {
        // Every change is complete before anything can panic.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sentinels {
    pub(crate) fn new(
        config: &RedisConfig,
        urls: &[String],
        name: &str,
        tracking: Tracking,
    ) -> Result<Self, ConnectError> {
        let access = Access::new(config)?;
        let mut sentinels = Vec::with_capacity(urls.len());
        let mut tls = false;
        for url in urls {
            let info = parse(url)?;
            if info.redis_settings().db() != 0 {
                return Err(ConnectError::misconfigured(
                    "the URL of a sentinel names a database, and sentinels have none: \
                     `with_database` is for that of the sessions",
                ));
            }
            tls |= matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            sentinels.push(access.endpoint(info)?);
        }
        if sentinels.is_empty() {
            return Err(ConnectError::misconfigured(
                "`RedisConfig::sentinel` was given no URL: it takes those of one sentinel or more",
            ));
        }
        let (name, limits) = (name.to_owned(), Limits::of(config));
        let watch = Arc::new(FailoverWatch::new());
        Ok(Self { sentinels, name, access, limits, tracking, tls, watch })
    }

    /// What the sentinels call the primary.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether a failover has taken place since the primary was found, as far as is known: the sentinels
    /// are asked in the background, at most once a second.
    ///
    /// A primary that was cut off or silent, or whose place was given away on demand, takes itself for one until
    /// a sentinel tells it better, about ten seconds later. What is written to it until then is lost. So this holds
    /// until the new primary was found.
    pub(crate) fn have_moved(self: &Arc<Self>) -> bool {
        if self.watch.is_due() {
            tokio::spawn(Arc::clone(self).look());
        }
        self.watch.has_moved.load(Ordering::Relaxed)
    }

    async fn look(self: Arc<Self>) {
        let mut answers = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, name, limits) = (sentinel.clone(), self.name.clone(), self.limits);
            answers.spawn(async move {
                tokio::time::timeout(limits.connect, ask(&sentinel, &name, limits)).await
            });
        }
        while let Some(answer) = answers.join_next().await {
            // One that does not answer says nothing new.
            let Ok(Ok(Ok((address, epoch)))) = answer else { continue };
            self.watch.hear(&address, epoch);
        }
    }

    /// Finds the primary and connects to it, in the time that a connection may take.
    pub(crate) async fn find(&self) -> Result<Link, ConnectError> {
        let limit = self.limits.connect;
        tokio::time::timeout(limit, self.search()).await.unwrap_or_else(|_| {
            Err(ConnectError::new(
                StoreErrorKind::Timeout,
                format!("no primary of the name {:?} was found within {limit:?}", self.name),
            ))
        })
    }

    /// Asks all sentinels at once, and tries every server that one of them names.
    ///
    /// The server of the newest failover counts. A sentinel that has not heard of it yet names the former
    /// primary, which may just have come back and take itself for one: so the others are given a moment.
    async fn search(&self) -> Result<Link, ConnectError> {
        let mut steps = JoinSet::new();
        for sentinel in &self.sentinels {
            let (sentinel, name, limits) = (sentinel.clone(), self.name.clone(), self.limits);
            steps.spawn(async move { Step::Named(ask(&sentinel, &name, limits).await) });
        }
        let mut asked = self.sentinels.len();
        let mut named: HashMap<Address, Epoch> = HashMap::new();
        let mut connections = HashMap::new();
        let mut failure = Failures::default();
        let mut moment_ends_at = None;
        loop {
            let newest = named.values().max().copied();
            let is_newest = |address: &Address| named.get(address).copied() == newest;
            let found = connections.keys().find(|address| is_newest(address)).cloned();
            if found.is_some() && moment_ends_at.is_none() {
                moment_ends_at = Some(Instant::now() + MOMENT);
            }
            let is_over = asked == 0 || moment_ends_at.is_some_and(|end| end <= Instant::now());
            if is_over
                && let Some((address, connection)) =
                    found.and_then(|address| connections.remove_entry(&address))
            {
                self.watch.find(address, newest.unwrap_or_default());
                return Ok(connection);
            }
            let step = match moment_ends_at {
                Some(end) if !is_over => {
                    match tokio::time::timeout_at(end, steps.join_next()).await {
                        Ok(step) => step,
                        Err(_) => continue,
                    }
                }
                _ => steps.join_next().await,
            };
            match step {
                Some(Ok(Step::Named(answer))) => {
                    asked -= 1;
                    match answer {
                        Ok((address, epoch)) => {
                            let former = named.insert(address.clone(), epoch);
                            if let Some(former) = former {
                                named.insert(address, former.max(epoch));
                            } else {
                                let searcher = self.clone();
                                steps.spawn(async move {
                                    let result = searcher.connect(address.clone()).await;
                                    Step::Tried(address, result)
                                });
                            }
                        }
                        Err(error) => failure.of_sentinel(error),
                    }
                }
                Some(Ok(Step::Tried(address, Ok(connection)))) => {
                    connections.insert(address, connection);
                }
                Some(Ok(Step::Tried(_, Err(error)))) => failure.of_server = Some(error),
                // A task that was aborted with its runtime.
                Some(Err(_)) => {}
                None => return Err(failure.into_error()),
            }
        }
    }

    async fn connect(&self, (host, port): Address) -> Result<Link, ConnectError> {
        let addr = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let address = addr.to_string();
        let settings = self.access.settings(RedisConnectionInfo::default());
        let info = info(addr, &address)?.set_redis_settings(settings);
        let mut link =
            connect(&self.access.store_endpoint(info)?, &self.tracking, self.limits).await?;
        handshake::check(&mut link.connection, &address, Wanted::Primary, self.limits.connect)
            .await?;
        Ok(link)
    }
}

/// The host and the port of a server.
type Address = (String, u16);

/// Counts the failovers.
type Epoch = u64;

/// What came of a question.
enum Step {
    Named(Result<(Address, Epoch), ConnectError>),
    Tried(Address, Result<Link, ConnectError>),
}

/// Why there is no primary yet.
#[derive(Default)]
struct Failures {
    of_server: Option<ConnectError>,
    of_sentinel: Option<ConnectError>,
}

impl Failures {
    /// The word of a sentinel that is there counts for more than the silence of one that is not.
    fn of_sentinel(&mut self, error: ConnectError) {
        let is_told = |error: &ConnectError| error.kind() == StoreErrorKind::Misconfigured;
        if !self.of_sentinel.as_ref().is_some_and(is_told) {
            self.of_sentinel = Some(error);
        }
    }

    /// What a server says counts for more than what a sentinel says.
    fn into_error(self) -> ConnectError {
        self.of_server.or(self.of_sentinel).unwrap_or_else(|| {
            ConnectError::new(StoreErrorKind::Unavailable, "the search for a primary was ended")
        })
    }
}

async fn ask(
    sentinel: &Endpoint,
    name: &str,
    limits: Limits,
) -> Result<(Address, Epoch), ConnectError> {
    let address = sentinel.addr().to_string();
    let explain = |error: RedisError| {
        if error.to_string().contains("unknown command") {
            return ConnectError::misconfigured(format!(
                "the server at {address} is no sentinel: `RedisConfig::new` is for servers"
            ));
        }
        ConnectError::explain(error, &address)
    };
    let mut connection = Socket::connect(sentinel, limits).await.map_err(explain)?;
    let mut questions = Pipeline::with_capacity(2);
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    questions.cmd("SENTINEL").arg("MASTER").arg(name);
    let answers = connection.send_all(&questions).await.map_err(explain)?;
    let mut answers = answers.into_iter();
    let primary = answers.next().unwrap_or(Ok(Value::Nil)).map_err(explain)?;
    let primary = redis::from_redis_value::<Option<Address>>(primary).ok().flatten();
    // A user of the sentinel may be allowed the first question only.
    let epoch = answers.next().and_then(Result::ok).and_then(|state| {
        let state = redis::from_redis_value::<HashMap<String, String>>(state).ok()?;
        state.get("config-epoch")?.parse().ok()
    });
    match primary {
        Some(primary) => Ok((primary, epoch.unwrap_or_default())),
        None => Err(ConnectError::misconfigured(format!(
            "the sentinel at {address} knows no primary of the name {name:?}: \
             `SENTINEL MASTERS` tells the names"
        ))),
    }
}

fn info(addr: ConnectionAddr, address: &str) -> Result<ConnectionInfo, ConnectError> {
    addr.into_connection_info().map_err(|error| ConnectError::explain(error, address))
}

/// How long the other sentinels are waited for when a primary was found.
const MOMENT: Duration = Duration::from_millis(100);

/// How often they are asked whether the primary is the primary still.
const ASK_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failover_is_told_until_the_new_primary_was_found() {
        let [one, two] = [("one".to_owned(), 6379), ("two".to_owned(), 6379)];
        let config = RedisConfig::new("redis://one");
        let tracking = config.tracking();
        let urls = ["redis://sentinel:26379".to_owned()];
        let sentinels = Arc::new(Sentinels::new(&config, &urls, "mymaster", tracking).unwrap());
        let watch = &sentinels.watch;
        watch.hear(&two, 1);
        assert!(!sentinels.have_moved(), "nothing was found yet");
        watch.find(one.clone(), 1);
        watch.hear(&two, 1);
        watch.hear(&one, 2);
        assert!(!sentinels.have_moved(), "no newer word of another one");
        watch.hear(&two, 2);
        // The connection may be too young to be replaced by the one who hears it first.
        assert!(sentinels.have_moved());
        assert!(sentinels.have_moved());
        watch.hear(&one, 1);
        assert!(sentinels.have_moved());
        watch.find(two, 2);
        assert!(!sentinels.have_moved());
    }

    #[test]
    fn one_of_many_asks_the_sentinels_and_no_more_than_once_a_second() {
        let watch = FailoverWatch::new();
        assert!(!watch.is_due());
        let earlier = Instant::now().checked_sub(ASK_EVERY).unwrap();
        let watch = FailoverWatch { begun_at: earlier, ..watch };
        assert!(watch.is_due());
        assert!(!watch.is_due());
    }
}
