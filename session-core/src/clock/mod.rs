mod timer;

use std::{
    fmt,
    ops::Add,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// An instant, in whole milliseconds since the Unix epoch.
///
/// At most [`Timestamp::MAX`], 48 bits, which lasts until the year 10889. Sums saturate.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The latest instant.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// Creates an instant, at most [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        if millis < Self::MAX.0 { Self(millis) } else { Self::MAX }
    }

    /// Creates an instant from seconds since the Unix epoch, as in the `exp` of a JSON Web Token.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs.saturating_mul(1_000))
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Adds milliseconds: for a `Duration`, each deadline would need a division and a
    /// multiplication.
    pub(crate) const fn plus_millis(self, millis: u64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Returns the time passed since `earlier`, or zero if `earlier` lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    /// Adds a span, rounded up to whole milliseconds.
    fn add(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis_rounded_up(span)))
    }
}

impl From<SystemTime> for Timestamp {
    /// An instant before 1970 becomes 1970, and an instant after [`Timestamp::MAX`] becomes `MAX`.
    fn from(at: SystemTime) -> Self {
        at.duration_since(UNIX_EPOCH).map_or(Self(0), |since| Self(0) + since)
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(at.0)
    }
}

/// The maximum difference between the clocks of an application's servers.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(10);

/// Returns whole milliseconds, rounded up: only a zero span becomes zero.
pub(crate) fn millis_rounded_up(span: Duration) -> u64 {
    // In 64 bits: a division of 128 bits costs more than the rest of a deadline's computation.
    span.as_secs()
        .saturating_mul(1_000)
        .saturating_add(u64::from(span.subsec_nanos().div_ceil(1_000_000)))
}

/// The clock from which the protocol computes and checks all deadlines.
///
/// Servers that share a store should synchronize their clocks (by NTP): a clock 5 seconds ahead
/// ends sessions 5 seconds early.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the present instant.
    fn now(&self) -> Timestamp;

    /// Waits until this clock has moved on by a span. The wait may be inexact: the protocol checks
    /// [`now`](Self::now) afterwards.
    fn sleep(&self, span: Duration) -> Sleep<'_>;
}

/// The future of [`Clock::sleep`].
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The system's clock. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    /// Waits on a timer thread, so any runtime will do.
    fn sleep(&self, span: Duration) -> Sleep<'_> {
        Box::pin(timer::sleep(span))
    }
}

/// A clock moved only by a test. A sleep ends when the clock reaches its end.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicU64,
    sleepers: Mutex<Vec<Waker>>,
}

impl ManualClock {
    /// Creates a clock at the instant `now`.
    #[must_use]
    pub const fn new(now: Timestamp) -> Self {
        Self { now_ms: AtomicU64::new(now.0), sleepers: Mutex::new(Vec::new()) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.set(self.now() + span);
    }

    /// Sets the clock, forward or back in time.
    pub fn set(&self, now: Timestamp) {
        self.now_ms.store(now.0, Ordering::SeqCst);
        let sleepers = std::mem::take(&mut *self.sleepers());
        sleepers.into_iter().for_each(Waker::wake);
    }

    fn sleepers(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now_ms.load(Ordering::SeqCst))
    }

    fn sleep(&self, span: Duration) -> Sleep<'_> {
        let end = self.now() + span;
        Box::pin(std::future::poll_fn(move |context| {
            // Checks the time under the lock: `set` has either moved the clock already, or finds
            // this sleeper.
            let mut sleepers = self.sleepers();
            if self.now() >= end {
                return Poll::Ready(());
            }
            if !sleepers.iter().any(|sleeper| sleeper.will_wake(context.waker())) {
                sleepers.push(context.waker().clone());
            }
            Poll::Pending
        }))
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn sleep(&self, span: Duration) -> Sleep<'_> {
        (**self).sleep(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_span_is_rounded_up_to_milliseconds() {
        let at = Timestamp::from_millis(10);
        assert_eq!(at + Duration::ZERO, at);
        assert_eq!(at + Duration::from_nanos(1), Timestamp::from_millis(11));
        assert_eq!(at + Duration::from_millis(500), Timestamp::from_millis(510));
    }

    #[test]
    fn sum_never_passes_the_last_instant() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(u64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(1).since(Timestamp::MAX), Duration::ZERO);
    }

    #[tokio::test]
    async fn sleeper_wakes_when_the_manual_clock_reaches_its_end() {
        let clock = std::sync::Arc::new(ManualClock::new(Timestamp::from_millis(10)));
        let sleepers = [5, 6, 7].map(|millis| {
            let clock = std::sync::Arc::clone(&clock);
            tokio::spawn(async move { clock.sleep(Duration::from_millis(millis)).await })
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_millis(6));
        let [first, second, third] = sleepers;
        first.await.unwrap();
        second.await.unwrap();
        assert!(!third.is_finished());
        clock.advance(Duration::from_millis(1));
        third.await.unwrap();
    }

    #[test]
    fn system_clock_sleeps_without_a_runtime() {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
        let (begin, span) = (std::time::Instant::now(), Duration::from_millis(2));
        let mut sleep = SystemClock.sleep(span);
        while sleep.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending() {
            std::thread::park();
        }
        assert!(begin.elapsed() >= span);
    }
}
