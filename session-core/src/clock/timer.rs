//! Sleep without a runtime: one thread per process, started by the first sleep.
//!
//! ```text
//! first poll ──▶ alarm in the map ──▶ due: the thread removes it and wakes the task
//!                      │
//!                      └──▶ the sleep is dropped: it removes its alarm
//! ```
//!
//! Only requests around the lock of a session, and connections that outlive their request, sleep: a
//! map under a mutex is enough.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// Returns a future that completes after `span`.
pub(super) fn sleep(span: Duration) -> impl Future<Output = ()> + Send {
    let until = Instant::now().checked_add(span).unwrap_or_else(far_future);
    Sleep { until, alarm: None }
}

struct Sleep {
    until: Instant,
    /// The alarm, and the waker in it: another one when the future moves to another task.
    alarm: Option<(Alarm, Waker)>,
}

/// The place of an alarm in the timer: its time, and a number among the alarms of that time.
type Alarm = (Instant, u64);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        let waker = context.waker();
        match &self.alarm {
            Some((_, known)) if known.will_wake(waker) => {}
            known => {
                let timer = Timer::get();
                let alarm = known.as_ref().map_or_else(|| timer.alarm(self.until), |(at, _)| *at);
                timer.set(alarm, waker.clone());
                self.alarm = Some((alarm, waker.clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((alarm, _)) = &self.alarm {
            Timer::get().remove(alarm);
        }
    }
}

struct Timer {
    alarms: Mutex<Alarms>,
    changed: Condvar,
}

#[derive(Default)]
struct Alarms {
    wakers: BTreeMap<Alarm, Waker>,
    /// The number of alarms so far.
    count: u64,
}

impl Timer {
    fn get() -> &'static Self {
        static TIMER: OnceLock<&'static Timer> = OnceLock::new();
        TIMER.get_or_init(|| {
            let timer: &'static Self =
                Box::leak(Box::new(Self { alarms: Mutex::default(), changed: Condvar::new() }));
            thread::Builder::new()
                .name("session-timer".to_owned())
                .spawn(|| timer.run())
                .expect("the operating system starts a thread");
            timer
        })
    }

    /// Returns the place of a new alarm.
    fn alarm(&self, at: Instant) -> Alarm {
        let mut alarms = lock(&self.alarms);
        alarms.count += 1;
        (at, alarms.count)
    }

    /// Sets the waker of an alarm.
    fn set(&self, alarm: Alarm, waker: Waker) {
        // The former waker is dropped without the lock, because a waker is foreign code.
        let (_former, is_first) = {
            let wakers = &mut lock(&self.alarms).wakers;
            let former = wakers.insert(alarm, waker);
            (former, wakers.first_key_value().is_some_and(|(first, _)| *first == alarm))
        };
        if is_first {
            self.changed.notify_one();
        }
    }

    fn remove(&self, alarm: &Alarm) {
        let _waker = lock(&self.alarms).wakers.remove(alarm);
    }

    fn run(&self) {
        let mut alarms = lock(&self.alarms);
        loop {
            let now = Instant::now();
            let wait = match alarms.wakers.first_key_value() {
                Some(((at, _), _)) if *at <= now => {
                    let due = alarms.wakers.pop_first();
                    // The thread wakes without the lock, because a waker is foreign code, which may
                    // also panic.
                    drop(alarms);
                    if let Some((_, waker)) = due {
                        let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
                    }
                    alarms = lock(&self.alarms);
                    continue;
                }
                Some(((at, _), _)) => *at - now,
                None => IDLE,
            };
            alarms =
                self.changed.wait_timeout(alarms, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn far_future() -> Instant {
    Instant::now() + IDLE
}

/// The wait of the thread while no sleep is registered.
const IDLE: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        task::Wake,
    };

    use super::*;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn timer_survives_a_waker_that_panics() {
        struct Panicking;
        impl Wake for Panicking {
            fn wake(self: Arc<Self>) {
                panic!("a waker that panics");
            }
        }
        struct Telling(mpsc::Sender<()>);
        impl Wake for Telling {
            fn wake(self: Arc<Self>) {
                let _ = self.0.send(());
            }
        }
        let (sender, woken) = mpsc::channel();
        let wakers = [Waker::from(Arc::new(Panicking)), Waker::from(Arc::new(Telling(sender)))];
        let mut sleeps = [200, 400].map(|millis| Box::pin(sleep(Duration::from_millis(millis))));
        for (sleep, waker) in sleeps.iter_mut().zip(&wakers) {
            let _ = sleep.as_mut().poll(&mut Context::from_waker(waker));
        }
        woken.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn dropped_sleep_keeps_no_task() {
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        let mut sleep = Box::pin(sleep(IDLE));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop((sleep, waker));
        assert_eq!(Arc::strong_count(&task), 1);
    }

    #[test]
    fn dropped_sleeps_leave_no_alarms() {
        // Later than the alarms of the other tests.
        let (begin, span) = (Instant::now() + 2 * IDLE, 3 * IDLE);
        let count = || lock(&Timer::get().alarms).wakers.range((begin, 0)..).count();
        let mut sleeps: Vec<_> = (0..100_000).map(|_| Box::pin(sleep(span))).collect();
        let tasks = [Waker::from(Arc::new(Task)), Waker::from(Arc::new(Task))];
        for task in &tasks {
            for sleep in &mut sleeps {
                assert!(sleep.as_mut().poll(&mut Context::from_waker(task)).is_pending());
            }
            assert_eq!(count(), 100_000, "one per sleep, also after a move to another task");
        }
        sleeps.truncate(1);
        assert_eq!(count(), 1);
        drop(sleeps);
        assert_eq!(count(), 0);
    }
}
