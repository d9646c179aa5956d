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

/// Keeps requests from waiting for a Redis that does not answer, and too many from waiting for one that does.
///
/// After several commands in a row without an answer only one at a time is let through, and the others are
/// refused immediately. The first that is answered ends that, and how many may wait doubles with each
/// answer from then on, so that a server that is just back is not buried. Nothing runs in the background:
/// the requests are the probes.
pub(crate) struct CircuitBreaker {
    max_failures: u32,
    max_waiting: usize,
    /// How many may wait now: few just after the circuit was open, and twice as many after each answer.
    room: AtomicUsize,
    waiting: Alone<AtomicUsize>,
    /// How many commands in a row got no answer.
    failures: AtomicU32,
    is_open: AtomicBool,
    /// When the probe under way counts for nothing any more, in nanoseconds since `made_at`; zero without one.
    probe_ends_at: AtomicU64,
    /// How long a probe may take: whoever holds one need not poll it, and must not keep the others out for ever.
    probe_limit: Duration,
    made_at: Instant,
    /// Held while it is opened or closed.
    change: Mutex<Change>,
    metrics: CircuitMetrics,
}

/// The last time that the circuit was opened or closed.
struct Change {
    at: Instant,
    /// Lives while the circuit is open.
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

    /// Lets a command through, or says why not.
    pub(crate) fn enter(&self) -> Result<Pass<'_>, Refused> {
        let probe = if self.is_open.load(Ordering::Relaxed) {
            Some(self.probe_at(Instant::now()).ok_or(Refused::NoAnswers)?)
        } else {
            None
        };
        // From here on dropping the pass undoes it.
        let pass = Pass { breaker: self, probe };
        if self.waiting.0.fetch_add(1, Ordering::Relaxed) >= self.room(probe) {
            return Err(Refused::TooManyWait);
        }
        Ok(pass)
    }

    fn room(&self, probe: Option<u64>) -> usize {
        if probe.is_some() { self.max_waiting } else { self.room.load(Ordering::Relaxed) }
    }

    /// Takes the place of the probe, unless there is one whose time is not over: answers until when it is.
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
        // Five centuries.
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
            tracing::warn!(target: "session", "Redis does not answer: requests fail at once");
        } else {
            self.metrics.on_close();
            tracing::info!(target: "session", ?lasted, "Redis answers again");
        }
    }

    fn change(&self) -> MutexGuard<'_, Change> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has its cache lines to itself: it is written with every command, and what is only read stands elsewhere.
#[repr(align(128))]
struct Alone<T>(T);

/// The permission of one command, until it is dropped: with its answer, its failure, or the request that
/// nobody waits for any more, which says nothing about Redis.
pub(crate) struct Pass<'b> {
    breaker: &'b CircuitBreaker,
    /// Which probe it is, if it is one.
    probe: Option<u64>,
}

impl Pass<'_> {
    /// Redis said something, be it an error.
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

    /// It said nothing in time, or could not be reached. Returns `true` if the circuit is open now.
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
            // Unless its time was over, and another one is under way.
            let place = &self.breaker.probe_ends_at;
            let _ = place.compare_exchange(probe, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// Why a command was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("Redis did not answer the last commands, and is being asked again")]
    NoAnswers,
    #[error("too many commands wait for Redis")]
    TooManyWait,
}

/// Whether Redis answered the last commands of a [`RedisStore`](crate::RedisStore), and how many wait for it. Of a
/// cluster it is the node that is worst off, and what waits for all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RedisState {
    circuit: Circuit,
    since: Instant,
    waiting: usize,
}

impl RedisState {
    /// The state of many servers: that of the one that is worst off. One that knows of none is closed.
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

    /// Whether commands are sent.
    #[must_use]
    pub fn circuit(&self) -> Circuit {
        self.circuit
    }

    /// When the circuit was last closed, or opened; when the store connected, if it never was. Probes do not
    /// count.
    #[must_use]
    pub fn since(&self) -> Instant {
        self.since
    }

    /// How long ago that was.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.since.elapsed()
    }

    /// How many commands wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

/// Whether commands are sent to Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Circuit {
    /// All are.
    Closed,
    /// None was answered lately. One is sent now, to see; the others fail at once.
    HalfOpen,
    /// None was answered lately. The next one will be sent, to see.
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
        // The next one is the probe.
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

    /// A request that is held, and polled by nobody, neither answers nor fails.
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
        // The former one takes nothing with it.
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

    /// A probe that finds no place must leave the place of the probe.
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
}
