//! The lock, in every order of the steps of two and three requests.

use std::pin::Pin;

use super::*;
use crate::support::{StepClock, Steps, interleavings, run, steps, turn};

type Request = Pin<Box<dyn Future<Output = Result>>>;

/// A session, and work outside of the session, for one request at a time.
struct Place {
    /// Two processes on one store. Requests of one process queue in memory.
    processes: [Sessions; 2],
    id: SessionId,
    at_work: AtomicBool,
    overlaps: AtomicUsize,
}

impl Place {
    fn new(lease: Duration) -> Arc<Self> {
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let (store, clock) = (Arc::new(steps()), Arc::new(StepClock(clock)));
        let processes = std::array::from_fn(|_| {
            let sessions = Sessions::builder(Arc::<Steps>::clone(&store));
            sessions.with_clock(Arc::clone(&clock)).with_lease(lease).build().unwrap()
        });
        let id = run(async {
            let session = processes[0].open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            told(session.finish().await.unwrap())
        });
        Arc::new(Self { processes, id, at_work: AtomicBool::new(false), overlaps: 0.into() })
    }

    async fn open(&self, process: usize) -> Session {
        self.processes[process].open([self.id.expose().as_bytes()]).await.unwrap()
    }

    fn visits(&self) -> Option<u64> {
        run(self.open(0)).get(VISITS)
    }

    async fn work(&self) {
        if self.at_work.swap(true, Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        turn().await;
        self.at_work.store(false, Ordering::SeqCst);
    }

    fn overlaps(&self) -> usize {
        self.overlaps.load(Ordering::SeqCst)
    }
}

/// Adds one visit by a read, work, and a set: without a lock, concurrent visits would be lost.
fn counting(place: &Arc<Place>, process: usize, ending: Ending) -> Request {
    let place = Arc::clone(place);
    Box::pin(async move {
        let session = place.open(process).await;
        let work = async || {
            let seen = session.get(VISITS).unwrap_or_default();
            place.work().await;
            session.set(VISITS, seen + 1)?;
            match ending {
                Ending::Return => Ok(()),
                Ending::Commit => session.commit().await,
                Ending::Renew => session.renew(),
                Ending::Fail => Err(SessionError::NotFresh),
            }
        };
        match session.locked(60 * SECOND, work).await {
            Err(SessionError::NotFresh) if ending == Ending::Fail => {}
            result => result?,
        }
        session.finish().await.map(drop)
    })
}

/// The end of the work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ending {
    Return,
    Commit,
    Renew,
    Fail,
}

/// Signs in or out.
fn ending(place: &Arc<Place>, logs_in: bool) -> Request {
    let place = Arc::clone(place);
    Box::pin(async move {
        let session = place.open(1).await;
        if session.key().is_none() {
            return Ok(());
        }
        if logs_in {
            session.authenticate("ada")?;
        } else {
            session.destroy()?;
        }
        session.finish().await.map(drop)
    })
}

#[test]
fn two_requests_under_a_lock_never_overlap_and_both_count() {
    for endings in [
        [Ending::Return, Ending::Return],
        [Ending::Commit, Ending::Return],
        [Ending::Renew, Ending::Return],
        [Ending::Renew, Ending::Renew],
        [Ending::Fail, Ending::Return],
    ] {
        for second in [0, 1] {
            let make = || {
                let place = Place::new(LEASE);
                let [first, other] = endings;
                let requests = [counting(&place, 0, first), counting(&place, second, other)];
                (place, requests)
            };
            interleavings(9, make, |place, answers, order| {
                assert!(answers.iter().all(Result::is_ok), "{endings:?} {order:?}: {answers:?}");
                assert_eq!(place.overlaps(), 0, "{endings:?} {order:?}");
                let counted = endings.iter().filter(|ending| **ending != Ending::Fail).count();
                assert_eq!(place.visits(), Some(counted as u64), "{endings:?} {order:?}");
            });
        }
    }
}

#[test]
fn three_requests_under_a_lock_come_one_after_another() {
    let make = || {
        let place = Place::new(LEASE);
        let requests = [0, 0, 1].map(|process| counting(&place, process, Ending::Return));
        (place, requests)
    };
    interleavings(7, make, |place, answers, order| {
        assert!(answers.iter().all(Result::is_ok), "{order:?}: {answers:?}");
        assert_eq!(place.overlaps(), 0, "{order:?}");
        assert_eq!(place.visits(), Some(3), "{order:?}");
    });
}

/// The lease is so short that it lapses during work. Then some work overlaps, but only the
/// acknowledged work counts.
#[test]
fn only_acknowledged_work_is_stored_if_leases_lapse() {
    let (lost, overlaps) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for millis in [1, 40, 100, 200] {
        let make = || {
            let place = Place::new(millis * MILLISECOND);
            let requests = [
                counting(&place, 0, Ending::Return),
                counting(&place, 1, Ending::Commit),
                counting(&place, 0, Ending::Renew),
            ];
            (place, requests)
        };
        interleavings(7, make, |place, answers, order| {
            let stored = place.visits().unwrap();
            let acknowledged = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            // The second request commits within its work, and may lose its lease afterwards.
            let committed = acknowledged + u64::from(answers[1].is_err());
            let context = format!("{millis} ms, {order:?}: {answers:?}");
            assert!((acknowledged..=committed).contains(&stored), "{stored}, {context}");
            for answer in answers.iter().filter(|answer| answer.is_err()) {
                assert!(is_lost(answer), "{context}");
                lost.fetch_add(1, Ordering::Relaxed);
            }
            overlaps.fetch_add(place.overlaps(), Ordering::Relaxed);
        });
    }
    assert!(lost.into_inner() > 0, "no lease lapsed under work");
    assert!(overlaps.into_inner() > 0, "no work overlapped");
}

/// In every order, the changes of a request without a lock and a request with a lock add up.
#[test]
fn request_without_a_lock_is_merged_in_every_order() {
    let make = || {
        let place = Place::new(LEASE);
        let locking = async |place: Arc<Place>| {
            let session = place.open(0).await;
            session.locked(SECOND, async || add(&session, 1)).await?;
            session.finish().await.map(drop)
        };
        let writing = async |place: Arc<Place>| {
            let session = place.open(1).await;
            add(&session, 10)?;
            session.finish().await.map(drop)
        };
        let requests: [Request; 2] =
            [Box::pin(locking(Arc::clone(&place))), Box::pin(writing(Arc::clone(&place)))];
        (place, requests)
    };
    interleavings(9, make, |place, answers, order| {
        assert!(answers.iter().all(Result::is_ok), "{order:?}: {answers:?}");
        assert_eq!(place.visits(), Some(11), "{order:?}");
        run(async {
            place.open(1).await.locked(NO_WAIT, async || Ok::<_, SessionError>(())).await
        })
        .unwrap();
    });
}

/// In every order, the old ID stays dead despite the holder's work, and the other request never
/// waits.
#[test]
fn logout_and_login_do_not_wait_for_a_lock() {
    for logs_in in [false, true] {
        let make = || {
            let place = Place::new(LEASE);
            let requests = [counting(&place, 0, Ending::Return), ending(&place, logs_in)];
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
