//! The lock in every order of the commands of two and three requests.

use std::{pin::Pin, sync::Arc};

use session_core::{ManualClock, Timestamp};

use super::*;
use crate::support::{StepClock, Steps, interleavings, run, steps, turn};

type Request = Pin<Box<dyn Future<Output = Result<(), SessionError>>>>;

/// A session, and work outside of it that two requests must not do concurrently.
struct Place {
    store: Arc<Steps>,
    clock: Arc<StepClock>,
    lease: Duration,
    id: SessionId,
    at_work: AtomicUsize,
    overlaps: AtomicUsize,
}

impl Place {
    fn new(lease: Duration) -> Arc<Self> {
        let store = Arc::new(steps());
        let start = Timestamp::from_millis(1_700_000_000_000);
        let clock = Arc::new(StepClock(ManualClock::new(start)));
        let sessions = process(&store, &clock, lease);
        let id = run(async {
            let session = sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            told(session.finish().await.unwrap())
        });
        Arc::new(Self { store, clock, lease, id, at_work: 0.into(), overlaps: 0.into() })
    }

    /// Each request is one of another process: the clock goes on while a request queues.
    async fn open(&self) -> Session {
        let sessions = process(&self.store, &self.clock, self.lease);
        sessions.open([self.id.expose().as_bytes()]).await.unwrap()
    }

    fn visits(&self) -> Option<u64> {
        run(self.open()).get(VISITS)
    }

    async fn work(&self) {
        if self.at_work.fetch_add(1, Ordering::SeqCst) > 0 {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        turn().await;
        self.at_work.fetch_sub(1, Ordering::SeqCst);
    }
}

fn process(store: &Arc<Steps>, clock: &Arc<StepClock>, lease: Duration) -> Sessions {
    let sessions = Sessions::builder(Arc::clone(store)).with_clock(Arc::clone(clock));
    sessions.with_lease(lease).build().unwrap()
}

/// Adds one visit in a way that needs the lock: reads, works, and sets.
fn counting(place: &Arc<Place>) -> Request {
    let place = Arc::clone(place);
    Box::pin(async move {
        let session = place.open().await;
        let work = async || {
            let seen = session.get(VISITS).unwrap_or_default();
            place.work().await;
            session.set(VISITS, seen + 1)
        };
        session.locked(600 * SECOND, work).await?;
        session.finish().await.map(drop)
    })
}

fn count<const REQUESTS: usize>(length: u32) {
    let make = || {
        let place = Place::new(LEASE);
        let requests = std::array::from_fn(|_| counting(&place));
        (place, requests)
    };
    interleavings::<REQUESTS, _, _>(length, make, |place, answers, order| {
        assert!(answers.iter().all(Result::is_ok), "{order:?}: {answers:?}");
        assert_eq!(place.overlaps.load(Ordering::SeqCst), 0, "{order:?}");
        assert_eq!(place.visits(), Some(REQUESTS as u64), "{order:?}");
    });
}

#[test]
fn two_requests_work_one_after_another() {
    count::<2>(10);
}

#[test]
fn three_requests_work_one_after_another() {
    count::<3>(7);
}

/// The lease is so short that it may lapse under work: then works overlap, and some are refused.
#[test]
fn only_acknowledged_work_is_stored_if_leases_lapse() {
    let lost = AtomicUsize::new(0);
    for millis in [1, 8, 30] {
        let make = || {
            let place = Place::new(millis * MILLISECOND);
            let requests = [counting(&place), counting(&place), counting(&place)];
            (place, requests)
        };
        interleavings(6, make, |place, answers, order| {
            let stored = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            assert_eq!(place.visits(), Some(stored), "{millis} ms, {order:?}: {answers:?}");
            for answer in answers.iter().filter(|answer| answer.is_err()) {
                let is_lost = matches!(answer, Err(SessionError::LeaseLost));
                assert!(is_lost, "{millis} ms, {order:?}: {answers:?}");
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    assert!(lost.into_inner() > 0, "no lease lapsed under work");
}

#[test]
fn logout_and_login_do_not_wait_for_the_lock() {
    for logs_in in [false, true] {
        let make = || {
            let place = Place::new(LEASE);
            let ending = {
                let place = Arc::clone(&place);
                async move {
                    let session = place.open().await;
                    if logs_in {
                        session.authenticate("ada")?;
                    } else if session.key().is_some() {
                        session.destroy()?;
                    }
                    session.finish().await.map(drop)
                }
            };
            let requests: [Request; 2] = [counting(&place), Box::pin(ending)];
            (place, requests)
        };
        interleavings(10, make, |place, [counted, ended], order| {
            assert!(ended.is_ok(), "{order:?}: {ended:?}");
            assert_eq!(place.visits(), None, "{order:?}");
            let is_fine = matches!(counted, Ok(()) | Err(SessionError::Ended));
            assert!(is_fine, "{order:?}: {counted:?}");
        });
    }
}
