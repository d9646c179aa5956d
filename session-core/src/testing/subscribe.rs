use std::sync::LazyLock;

use tracing::{
    Dispatch, Subscriber,
    subscriber::{self, DefaultGuard, NoSubscriber},
};

/// Makes a subscriber of `tracing` the default of this thread until the guard is dropped, for a
/// test that reads the log. Other tests may log in other threads meanwhile.
///
/// A program with only one subscriber needs this function: there, `tracing` caches the interest in a
/// call site from the thread that reaches the call site first. A thread without a subscriber so
/// turns the call site off for all threads. With a second subscriber, which receives nothing,
/// `tracing` asks every subscriber.
#[must_use]
pub fn subscribe(subscriber: impl Subscriber + Send + Sync) -> DefaultGuard {
    static SECOND: LazyLock<Dispatch> = LazyLock::new(|| NoSubscriber::new().into());
    LazyLock::force(&SECOND);
    subscriber::set_default(subscriber)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use tracing::{
        Event, Metadata,
        span::{Attributes, Id, Record},
    };

    use super::*;

    /// Counts the events that it receives.
    #[derive(Clone, Default)]
    struct Events(Arc<AtomicUsize>);

    impl Subscriber for Events {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn thread_without_a_subscriber_leaves_a_call_site_on() {
        let events = Events::default();
        let guard = subscribe(events.clone());
        let log = || tracing::info!("from one call site");
        thread::spawn(log).join().unwrap();
        log();
        drop(guard);
        log();
        assert_eq!(events.0.load(Ordering::SeqCst), 1);
    }
}
