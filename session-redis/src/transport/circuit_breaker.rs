use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    metrics::{CircuitMetrics, Raised},
    transport::limits::Limits,
};

/// A circuit breaker. Requests do not wait for a silent Redis, and only a limited number waits for
/// a Redis that replies.
///
/// After several commands in a row without a reply, the circuit opens. From then on, one command at
/// a time is sent as a probe, and the others are refused immediately. The first reply closes the
/// circuit. The number of commands that may wait then starts small and doubles with each reply, so
/// that a recovered server is not overloaded. The requests themselves are the probes, and replace a
/// background task.
pub(crate) struct CircuitBreaker {
    max_failures: u32,
    max_waiting: usize,
    /// The current limit of waiting commands: small just after the circuit was open, and doubled
    /// with each reply.
    room: AtomicUsize,
    waiting: Alone<AtomicUsize>,
    /// The number of commands in a row without a reply.
    failures: AtomicU32,
    is_open: AtomicBool,
    /// The time at which the current probe expires, in nanoseconds since `made_at`. Zero without a
    /// probe.
    probe_ends_at: AtomicU64,
    /// The time until a probe expires. The task that holds a probe may never poll the request, and
    /// must not block other commands for ever.
    probe_limit: Duration,
    made_at: Instant,
    /// Locked while the circuit opens or closes.
    change: Mutex<Change>,
    metrics: CircuitMetrics,
}

/// The last time the circuit opened or closed.
struct Change {
    at: Instant,
    /// Raises the metric of open circuits while present.
    _open: Option<Raised>,
}

impl CircuitBreaker {
    pub(crate) fn new(limits: Limits, metrics: CircuitMetrics) -> Self {
        Self {
            max_failures: limits.failures,
            max_waiting: limits.waiting,
            room: AtomicUsize::new(limits.waiting),
            waiting: Alone(AtomicUsize::new(0)),
            failures: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            probe_ends_at: AtomicU64::new(0),
            probe_limit: limits.operation,
            made_at: Instant::now(),
            change: Mutex::new(Change { at: Instant::now(), _open: None }),
            metrics,
        }
    }

    /// Admits a command, or returns the reason for the refusal.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Refused> {
        let probe = if self.is_open.load(Ordering::Relaxed) {
            Some(self.probe_at(Instant::now()).ok_or(Refused::NoAnswers)?)
        } else {
            None
        };
        // From here on, dropping the pass frees the place and the probe.
        let pass = Pass { breaker: self, probe };
        if self.waiting.0.fetch_add(1, Ordering::Relaxed) >= self.room(probe) {
            return Err(Refused::TooManyWait);
        }
        Ok(pass)
    }

    fn room(&self, probe: Option<u64>) -> usize {
        if probe.is_some() { self.max_waiting } else { self.room.load(Ordering::Relaxed) }
    }

    /// Begins a probe, and returns the time at which the probe expires. Returns `None` if another
    /// probe is under way.
    fn probe_at(&self, now: Instant) -> Option<u64> {
        let former = self.probe_ends_at.load(Ordering::Relaxed);
        if former > self.nanos(now) {
            return None;
        }
        let ends_at = self.nanos(now + self.probe_limit);
        let place = &self.probe_ends_at;
        let taken = place.compare_exchange(former, ends_at, Ordering::Relaxed, Ordering::Relaxed);
        taken.ok().map(|_| ends_at)
    }

    fn nanos(&self, at: Instant) -> u64 {
        // A `u64` holds five centuries.
        u64::try_from(at.saturating_duration_since(self.made_at).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn state(&self) -> RedisState {
        let since = self.change().at;
        let circuit = if !self.is_open.load(Ordering::Relaxed) {
            Circuit::Closed
        } else if self.probe_ends_at.load(Ordering::Relaxed) > self.nanos(Instant::now()) {
            Circuit::HalfOpen
        } else {
            Circuit::Open
        };
        RedisState { circuit, since, waiting: self.waiting.0.load(Ordering::Relaxed) }
    }

    fn set(&self, open: bool) {
        let mut change = self.change();
        if self.is_open.swap(open, Ordering::Relaxed) == open {
            return;
        }
        let lasted = change.at.elapsed();
        *change = Change { at: Instant::now(), _open: open.then(|| self.metrics.on_open()) };
        drop(change);
        if open {
            tracing::warn!(target: "session", "Redis does not answer: requests fail immediately");
        } else {
            self.metrics.on_close();
            tracing::info!(target: "session", ?lasted, "Redis answers again");
        }
    }

    fn change(&self) -> MutexGuard<'_, Change> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a value its own cache lines: every command writes the value, and other fields are mostly
/// read.
#[repr(align(128))]
struct Alone<T>(T);

/// The permission to send one command. A reply or a failure ends the pass. If the request is
/// cancelled, the pass is dropped, and the circuit is unchanged.
pub(crate) struct Pass<'b> {
    breaker: &'b CircuitBreaker,
    /// The expiry of the probe, as its identity. `None` if the command is not a probe.
    probe: Option<u64>,
}

impl Pass<'_> {
    /// Records a reply, error replies included.
    pub(crate) fn answered(self) {
        let breaker = self.breaker;
        if breaker.failures.load(Ordering::Relaxed) != 0 {
            breaker.failures.store(0, Ordering::Relaxed);
        }
        if breaker.is_open.load(Ordering::Relaxed) {
            breaker.room.store(1, Ordering::Relaxed);
            breaker.set(false);
        }
        let room = breaker.room.load(Ordering::Relaxed);
        if room < breaker.max_waiting {
            breaker.room.store(breaker.max_waiting.min(2 * room), Ordering::Relaxed);
        }
    }

    /// Records that Redis did not reply in time, or could not be reached. Returns `true` if the
    /// circuit is open now.
    pub(crate) fn failed(self) -> bool {
        let breaker = self.breaker;
        let failures = breaker.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let is_open = failures >= breaker.max_failures;
        if is_open && !breaker.is_open.load(Ordering::Relaxed) {
            breaker.set(true);
        }
        is_open
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.breaker.waiting.0.fetch_sub(1, Ordering::Relaxed);
        if let Some(probe) = self.probe {
            // The exchange does nothing if the probe has expired and another probe is under way.
            let place = &self.breaker.probe_ends_at;
            let _ = place.compare_exchange(probe, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// The reason why a command was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Redis did not answer the last commands, and is being asked again")]
    NoAnswers,
    #[error("too many commands wait for Redis")]
    TooManyWait,
}

/// The state of the circuit breaker of a [`RedisStore`](crate::RedisStore), and the number of
/// commands that wait for a reply. For a cluster, the circuit is that of the node in the worst
/// state, and the number is the sum over all nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisState {
    circuit: Circuit,
    since: Instant,
    waiting: usize,
}

impl RedisState {
    /// Returns the worst of several states, with the sum of the waiting commands. Without any
    /// states, the circuit is closed.
    #[cfg(feature = "cluster")]
    pub(crate) fn worst(states: Vec<Self>) -> Self {
        let waiting = states.iter().map(|state| state.waiting).sum();
        let rank = |state: &Self| match state.circuit {
            Circuit::Closed => 0,
            Circuit::HalfOpen => 1,
            Circuit::Open => 2,
        };
        let worst = states.into_iter().max_by_key(rank);
        let closed = Self { circuit: Circuit::Closed, since: Instant::now(), waiting: 0 };
        Self { waiting, ..worst.unwrap_or(closed) }
    }

    /// Returns the state of the circuit: whether commands are sent.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// Returns when the circuit last opened or closed. Returns when the client for the server was
    /// created, if the circuit was always closed. Probes do not count.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Returns the time since [`since`](Self::since).
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns the number of commands that wait for a reply.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

/// The state of the circuit: whether commands are sent to Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Circuit {
    /// Commands are sent, up to the limit of
    /// [`with_max_waiting`](crate::RedisConfig::with_max_waiting).
    Closed,
    /// The last commands got no reply. One command is under way as a probe, and the others fail
    /// immediately.
    HalfOpen,
    /// The last commands got no reply. The next command will be sent as a probe.
    Open,
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RedisConfig, metrics::ServerLabels};

    fn with(config: &RedisConfig) -> CircuitBreaker {
        let server = ServerLabels::named("host");
        CircuitBreaker::new(Limits::of(config), CircuitMetrics::new(&server))
    }

    fn breaker() -> CircuitBreaker {
        let config = RedisConfig::new("redis://host");
        let config = config.with_max_failures(3).and_then(|config| config.with_max_waiting(4));
        with(&config.unwrap())
    }

    fn fail(breaker: &CircuitBreaker, times: usize) {
        for _ in 0..times {
            breaker.enter().unwrap().failed();
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let breaker = breaker();
        fail(&breaker, 2);
        breaker.enter().unwrap().answered();
        fail(&breaker, 2);
        let closed = breaker.state();
        assert_eq!(closed.circuit(), Circuit::Closed);
        fail(&breaker, 1);
        let open = breaker.state();
        assert_eq!(open.circuit(), Circuit::Open);
        assert!(open.since() >= closed.since());

        let probe = breaker.enter().unwrap();
        assert_eq!(breaker.state().circuit(), Circuit::HalfOpen);
        assert_eq!(breaker.state().since(), open.since(), "a probe changes nothing yet");
        assert_eq!(breaker.enter().err(), Some(Refused::NoAnswers));
        probe.failed();
        assert_eq!(breaker.state().circuit(), Circuit::Open);

        breaker.enter().unwrap().answered();
        assert_eq!(breaker.state().circuit(), Circuit::Closed);
        fail(&breaker, 2);
        assert_eq!(breaker.state().circuit(), Circuit::Closed, "counted from the start again");
    }

    #[test]
    fn a_request_that_goes_away_says_nothing() {
        let breaker = breaker();
        for _ in 0..10 {
            drop(breaker.enter().unwrap());
        }
        assert_eq!(breaker.state().circuit(), Circuit::Closed);
        fail(&breaker, 3);
        drop(breaker.enter().unwrap());
        assert_eq!(breaker.state().circuit(), Circuit::Open);
        // The next command is the probe.
        breaker.enter().unwrap().answered();
        assert_eq!(breaker.state().circuit(), Circuit::Closed);
    }

    #[test]
    fn an_answer_to_what_was_sent_before_closes_it_too() {
        let breaker = breaker();
        let early = breaker.enter().unwrap();
        fail(&breaker, 3);
        let probe = breaker.enter().unwrap();
        early.answered();
        assert_eq!(breaker.state().circuit(), Circuit::Closed);
        drop(probe);
        drop((breaker.enter().unwrap(), breaker.enter().unwrap()));
    }

    /// A request that is held but never polled does not end by itself.
    #[test]
    fn a_probe_that_is_held_for_ever_keeps_the_others_out_for_its_time_only() {
        let breaker = breaker();
        fail(&breaker, 3);
        let begun_at = Instant::now();
        let held = breaker.enter().unwrap();
        let limit = breaker.probe_limit;
        assert_eq!(breaker.probe_at(begun_at + limit / 2), None);
        let next = breaker.probe_at(Instant::now() + limit).unwrap();
        assert_eq!(breaker.state().circuit(), Circuit::HalfOpen);
        // Dropping the former probe must keep the new probe.
        drop(held);
        assert_eq!(breaker.probe_ends_at.load(Ordering::Relaxed), next);
        assert_eq!(breaker.enter().err(), Some(Refused::NoAnswers));
    }

    #[test]
    fn only_so_many_wait() {
        let breaker = breaker();
        let passes: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
        for _ in 0..3 {
            assert_eq!(breaker.enter().err(), Some(Refused::TooManyWait));
        }
        assert_eq!(breaker.state().waiting(), 4);
        assert_eq!(breaker.state().circuit(), Circuit::Closed, "they wait, and that is all");
        drop(passes);
        assert_eq!(breaker.state().waiting(), 0);
        breaker.enter().unwrap().answered();
    }

    #[test]
    fn load_doubles_with_each_answer_after_the_circuit_was_open() {
        let config = RedisConfig::new("redis://host").with_max_waiting(100).unwrap();
        let breaker = with(&config);
        let admitted = |breaker: &CircuitBreaker| {
            std::iter::repeat_with(|| breaker.enter())
                .map_while(Result::ok)
                .map(std::mem::forget)
                .count()
        };
        fail(&breaker, 5);
        let mut most = Vec::new();
        for _ in 0..8 {
            breaker.enter().unwrap().answered();
            most.push(admitted(&breaker));
            breaker.waiting.0.store(0, Ordering::Relaxed);
        }
        assert_eq!(most, [2, 4, 8, 16, 32, 64, 100, 100]);
    }

    /// A command that is refused during a probe is not a probe. Dropping the probe frees its place.
    #[test]
    fn a_probe_that_is_refused_is_no_probe() {
        let breaker = breaker();
        let mut passes: Vec<_> = (0..4).map(|_| breaker.enter().unwrap()).collect();
        for pass in passes.drain(1..) {
            pass.failed();
        }
        assert_eq!(breaker.state().circuit(), Circuit::Open);
        let probe = breaker.enter().unwrap();
        assert_eq!(breaker.enter().err(), Some(Refused::NoAnswers));
        drop((probe, passes));
        assert_eq!((breaker.state().waiting(), breaker.state().circuit()), (0, Circuit::Open));
    }

    /// Requests that wait since before the circuit opened may fill all places.
    #[test]
    fn a_probe_without_a_place_leaves_the_probe_to_the_next() {
        let breaker = breaker();
        fail(&breaker, 3);
        breaker.waiting.0.store(4, Ordering::Relaxed);
        assert_eq!(breaker.enter().err(), Some(Refused::TooManyWait));
        assert_eq!(breaker.state().circuit(), Circuit::Open);
        breaker.waiting.0.store(3, Ordering::Relaxed);
        breaker.enter().unwrap().answered();
    }
}
