//! Sleep without a runtime: one thread per process, started by the first sleep.
//!
//! Only requests around the lock of a session, and connections that outlive their request, sleep: a
//! heap under a mutex is enough.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// Returns a future that completes after `span`.
pub(super) fn sleep(span: Duration) -> impl Future<Output = ()> + Send {
    let until = Instant::now().checked_add(span).unwrap_or_else(far_future);
    Sleep { until, waker: None }
}

struct Sleep {
    until: Instant,
    /// The waker for the timer thread, replaced when the future moves to another task.
    waker: Option<Arc<Mutex<Waker>>>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        match &self.waker {
            Some(waker) => lock(waker).clone_from(context.waker()),
            None => {
                let waker = Arc::new(Mutex::new(context.waker().clone()));
                Timer::get().wake_at(self.until, Arc::clone(&waker));
                self.waker = Some(waker);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    /// The alarm stays in the heap until its time. A waker there would keep the memory of an ended
    /// task.
    fn drop(&mut self) {
        if let Some(waker) = &self.waker {
            lock(waker).clone_from(Waker::noop());
        }
    }
}

struct Timer {
    alarms: Mutex<BinaryHeap<Reverse<Alarm>>>,
    changed: Condvar,
}

struct Alarm {
    at: Instant,
    waker: Arc<Mutex<Waker>>,
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

    fn wake_at(&self, at: Instant, waker: Arc<Mutex<Waker>>) {
        lock(&self.alarms).push(Reverse(Alarm { at, waker }));
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut alarms = lock(&self.alarms);
        loop {
            let now = Instant::now();
            let wait = match alarms.peek() {
                Some(Reverse(alarm)) if alarm.at <= now => {
                    let waker = alarms.pop().map(|Reverse(alarm)| alarm.waker);
                    // The thread wakes without the lock, because a waker is foreign code.
                    drop(alarms);
                    if let Some(waker) = waker {
                        let waker = lock(&waker).clone();
                        waker.wake();
                    }
                    alarms = lock(&self.alarms);
                    continue;
                }
                Some(Reverse(alarm)) => alarm.at - now,
                None => IDLE,
            };
            alarms =
                self.changed.wait_timeout(alarms, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
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
    use super::*;

    #[test]
    fn dropped_sleep_keeps_no_task() {
        struct Task;
        impl std::task::Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        let mut sleep = Box::pin(sleep(IDLE));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop((sleep, waker));
        assert_eq!(Arc::strong_count(&task), 1);
    }
}
