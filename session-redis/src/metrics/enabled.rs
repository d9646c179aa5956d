use std::sync::OnceLock;
#[cfg(feature = "near-cache")]
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};
use redis::{Arg, Cmd, ConnectionAddr, ErrorKind, RedisError};
use tokio::time::Instant;

/// Registers the units and descriptions of all metrics.
pub(crate) fn describe() {
    describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Duration of a command, from its start to its answer or failure"
    );
    describe_gauge!(CONNECTIONS, Unit::Count, "Open connections");
    describe_histogram!(
        CREATE_TIME,
        Unit::Seconds,
        "Duration of an attempt to set up a connection"
    );
    describe_counter!(WRITES, Unit::Count, "Writes to connections, each of one command or more");
    describe_counter!(RETRIES, Unit::Count, "Commands that were sent again");
    describe_gauge!(OPEN_CIRCUITS, Unit::Count, "Circuits that are open or half-open");
    describe_counter!(TRANSITIONS, Unit::Count, "Circuits that opened or closed");
    #[cfg(feature = "near-cache")]
    {
        describe_counter!(HITS, Unit::Count, "Sessions that were read from the near cache");
        describe_counter!(MISSES, Unit::Count, "Sessions that were not in the near cache");
        describe_counter!(INVALIDATIONS, Unit::Count, "Sessions that Redis reported as changed");
        describe_counter!(FLUSHES, Unit::Count, "Connections whose copies were all given up");
        describe_gauge!(ENTRIES, Unit::Count, "Sessions in the near cache");
    }
}

/// Counts a command that is sent again after an error of this type.
pub(crate) fn retried(error_type: &'static str) {
    counter!(RETRIES, vec![Label::from_static_parts("error.type", error_type)]).increment(1);
}

/// Returns the `error.type` of an error of redis-rs: a code of Redis, or the type of a connection
/// error.
pub(crate) fn error_type(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => "timeout",
        ErrorKind::Io if error.is_connection_refusal() => "connection_refused",
        ErrorKind::Io if error.is_connection_dropped() => "connection_lost",
        ErrorKind::Io => "io",
        ErrorKind::AuthenticationFailed => "authentication",
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => "protocol",
        _ => ERROR_TYPES[index(error.code().unwrap_or(OTHER))],
    }
}

/// Returns the index in [`ERROR_TYPES`]. An unknown code of a server has the index of [`OTHER`].
fn index(error_type: &str) -> usize {
    let found = ERROR_TYPES.iter().position(|known| *known == error_type);
    found.unwrap_or(ERROR_TYPES.len() - 1)
}

/// The labels that name a server.
#[derive(Clone)]
pub(crate) struct ServerLabels(Vec<Label>);

impl ServerLabels {
    pub(crate) fn of(addr: &ConnectionAddr) -> Self {
        match addr {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                let mut labels = Self::named(host);
                labels.0.push(Label::new("server.port", port.to_string()));
                labels
            }
            other => Self::named(&other.to_string()),
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self(vec![
            Label::from_static_parts("db.system.name", "redis"),
            Label::new("server.address", name.to_owned()),
        ])
    }

    fn and(&self, name: &'static str, value: &'static str) -> Vec<Label> {
        let mut labels = self.0.clone();
        labels.push(Label::from_static_parts(name, value));
        labels
    }

    /// Starts to measure an attempt to connect.
    pub(crate) fn on_attempt(&self, begun_at: Instant) -> Attempt<'_> {
        Attempt { server: self, begun_at, error_type: Some("timeout") }
    }

    /// Counts an open connection until the returned value is dropped.
    pub(crate) fn on_open(&self) -> Raised {
        Raised::new(&gauge!(CONNECTIONS, self.0.clone()))
    }
}

/// An attempt to connect. An attempt that is dropped before `end` counts as a timeout, because the
/// caller has given up.
pub(crate) struct Attempt<'s> {
    server: &'s ServerLabels,
    begun_at: Instant,
    error_type: Option<&'static str>,
}

impl Attempt<'_> {
    pub(crate) fn end(mut self, failure: Option<&RedisError>) {
        self.error_type = failure.map(error_type);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let labels = match self.error_type {
            Some(error_type) => self.server.and("error.type", error_type),
            None => self.server.0.clone(),
        };
        histogram!(CREATE_TIME, labels).record(self.begun_at.elapsed());
    }
}

/// An increment of a gauge. Dropping the value decrements the gauge again.
pub(crate) struct Raised(Gauge);

impl Raised {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// The operation name of a command: an index into [`OPERATIONS`].
#[derive(Clone, Copy)]
pub(crate) struct Operation(usize);

impl Operation {
    /// Several commands that are sent together.
    pub(crate) const PIPELINE: Self = Self(0);

    pub(crate) fn of(command: &Cmd) -> Self {
        let Some(Arg::Simple(name)) = command.args_iter().next() else { return Self::OTHER };
        let index = OPERATIONS.iter().position(|known| known.as_bytes() == name);
        index.map_or(Self::OTHER, Self)
    }

    const OTHER: Self = Self(OPERATIONS.len() - 1);
}

/// The durations of the commands that are sent to one server.
pub(crate) struct CommandMetrics {
    server: ServerLabels,
    /// The histograms by operation and outcome, each registered at first use.
    durations: Box<[OnceLock<Histogram>]>,
}

impl CommandMetrics {
    pub(crate) fn new(server: ServerLabels) -> Self {
        let durations = (0..OPERATIONS.len() * OUTCOMES).map(|_| OnceLock::new()).collect();
        Self { server, durations }
    }

    /// Records the end of a command.
    pub(crate) fn on_end(
        &self,
        operation: Operation,
        sent_at: Instant,
        error_type: Option<&'static str>,
    ) {
        let outcome = error_type.map_or(0, |error| 1 + index(error));
        let duration = self.durations[operation.0 * OUTCOMES + outcome].get_or_init(|| {
            let mut labels = self.server.and("db.operation.name", OPERATIONS[operation.0]);
            labels.extend(error_type.map(|error| Label::from_static_parts("error.type", error)));
            histogram!(DURATION, labels)
        });
        duration.record(sent_at.elapsed());
    }
}

/// The number of writes to one connection.
#[derive(Default)]
pub(crate) struct WriteMetrics(Option<Counter>);

impl WriteMetrics {
    pub(crate) fn new(server: &ServerLabels) -> Self {
        Self(Some(counter!(WRITES, server.0.clone())))
    }

    pub(crate) fn on_write(&self) {
        if let Some(writes) = &self.0 {
            writes.increment(1);
        }
    }
}

/// The state changes of the circuit breaker of one server.
pub(crate) struct CircuitMetrics {
    open: Gauge,
    openings: Counter,
    closings: Counter,
}

impl CircuitMetrics {
    pub(crate) fn new(server: &ServerLabels) -> Self {
        let to = |state| counter!(TRANSITIONS, server.and("session_redis.circuit.state", state));
        Self {
            open: gauge!(OPEN_CIRCUITS, server.0.clone()),
            openings: to("open"),
            closings: to("closed"),
        }
    }

    /// Counts the circuit as open until the returned value is dropped.
    pub(crate) fn on_open(&self) -> Raised {
        self.openings.increment(1);
        Raised::new(&self.open)
    }

    pub(crate) fn on_close(&self) {
        self.closings.increment(1);
    }
}

/// The metrics of a near cache.
#[cfg(feature = "near-cache")]
pub(crate) struct NearCacheMetrics {
    hits: Counter,
    misses: Counter,
    invalidations: Counter,
    flushes: Counter,
    entries: Gauge,
    /// The share of this cache in the gauge.
    contributed: AtomicU64,
}

#[cfg(feature = "near-cache")]
impl NearCacheMetrics {
    pub(crate) fn new() -> Self {
        Self {
            hits: counter!(HITS),
            misses: counter!(MISSES),
            invalidations: counter!(INVALIDATIONS),
            flushes: counter!(FLUSHES),
            entries: gauge!(ENTRIES),
            contributed: AtomicU64::new(0),
        }
    }

    pub(crate) fn on_find(&self, is_hit: bool) {
        if is_hit { &self.hits } else { &self.misses }.increment(1);
    }

    pub(crate) fn on_invalidation(&self) {
        self.invalidations.increment(1);
    }

    pub(crate) fn on_flush(&self) {
        self.flushes.increment(1);
    }

    /// Records the number of sessions in the cache. The gauge is the sum over all caches of the
    /// process.
    pub(crate) fn on_entries(&self, entries: impl FnOnce() -> usize) {
        let entries = entries() as u64;
        let before = self.contributed.swap(entries, Ordering::Relaxed);
        if entries >= before {
            self.entries.increment((entries - before) as f64);
        } else {
            self.entries.decrement((before - entries) as f64);
        }
    }
}

#[cfg(feature = "near-cache")]
impl Drop for NearCacheMetrics {
    fn drop(&mut self) {
        self.on_entries(|| 0);
    }
}

const DURATION: &str = "db.client.operation.duration";
const CONNECTIONS: &str = "db.client.connection.count";
const CREATE_TIME: &str = "db.client.connection.create_time";
const WRITES: &str = "session_redis.writes";
const RETRIES: &str = "session_redis.retries";
const OPEN_CIRCUITS: &str = "session_redis.circuit.open";
const TRANSITIONS: &str = "session_redis.circuit.transitions";
#[cfg(feature = "near-cache")]
const HITS: &str = "session_redis.near_cache.hits";
#[cfg(feature = "near-cache")]
const MISSES: &str = "session_redis.near_cache.misses";
#[cfg(feature = "near-cache")]
const INVALIDATIONS: &str = "session_redis.near_cache.invalidations";
#[cfg(feature = "near-cache")]
const FLUSHES: &str = "session_redis.near_cache.flushes";
#[cfg(feature = "near-cache")]
const ENTRIES: &str = "session_redis.near_cache.entries";

/// The values of `db.operation.name`. By the convention of OpenTelemetry, `PIPELINE` stands for
/// commands that are sent together.
const OPERATIONS: [&str; 10] = [
    "PIPELINE",
    "GET",
    "SET",
    "EVALSHA",
    "EVAL",
    "ZRANGEBYSCORE",
    "INFO",
    "CLUSTER",
    "SCAN",
    OTHER,
];

/// The number of outcomes of a command: success, and each type of error.
const OUTCOMES: usize = 1 + ERROR_TYPES.len();

/// The values of `error.type`.
const ERROR_TYPES: [&str; 32] = [
    // Errors of this client.
    "timeout",
    "circuit_open",
    "too_many_waiting",
    "no_connection",
    "connection_refused",
    "connection_lost",
    "io",
    "authentication",
    "protocol",
    // Codes of the server.
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "DENIED",
    "ERR",
    "EXECABORT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "NOTBUSY",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "UNKILLABLE",
    "WRONGPASS",
    "WRONGTYPE",
    OTHER,
];

/// The value of OpenTelemetry for all names that are not listed.
const OTHER: &str = "_OTHER";

#[cfg(test)]
mod tests {
    use metrics_util::debugging::DebuggingRecorder;

    use super::*;

    /// The time limit of the caller may end before the attempt does.
    #[test]
    fn attempt_that_is_dropped_is_a_timeout() {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, || {
            drop(ServerLabels::named("host").on_attempt(Instant::now()));
        });
        let series = snapshotter.snapshot().into_vec();
        let [(key, ..)] = &series[..] else { panic!("{series:?}") };
        let timeout = Label::new("error.type", "timeout");
        assert!(key.key().labels().any(|label| *label == timeout), "{key:?}");
    }
}
