//! The lock in every order in which the steps of two and three requests can come.

use std::{pin::Pin, sync::atomic::AtomicBool};

use session_core::ManualClock;

use super::*;
use crate::support::{StepClock, Steps, interleavings, run, turn};

type Request = Pin<Box<dyn Future<Output = Result<(), SessionError>>>>;

/// A session, and work outside of it that two requests must not do at the same time.
struct Place {
    sessions: Arc<Sessions>,
    id: SessionId,
    at_work: AtomicBool,
    overlaps: AtomicUsize,
}

impl Place {
    fn new(lease: Duration) -> Arc<Self> {
        let clock = StepClock(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
        let sessions = Sessions::new(Steps::default()).with_clock(clock);
        let sessions = Arc::new(sessions.with_lease(lease).unwrap());
        let id = run(async {
            let session = sessions.open([]).await.unwrap();
            session.set(VISITS, &0).unwrap();
            told(session.finish().await.unwrap())
        });
        Arc::new(Self { sessions, id, at_work: AtomicBool::new(false), overlaps: 0.into() })
    }

    async fn open(&self) -> Session {
        self.sessions.open([self.id.expose().as_bytes()]).await.unwrap()
    }

    fn visits(&self) -> Option<u64> {
        run(self.open()).get(VISITS)
    }

    async fn work(&self) {
        if self.at_work.swap(true, Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        turn().await;
        self.at_work.store(false, Ordering::SeqCst);
    }
}

/// Adds one visit in a way that loses others' without a lock: reads, works, and sets.
fn counting(place: &Arc<Place>, ending: Ending) -> Request {
    let place = Arc::clone(place);
    Box::pin(async move {
        let session = place.open().await;
        let lock = session.lock(60 * SECOND).await?;
        let seen = session.get(VISITS).unwrap_or_default();
        place.work().await;
        session.set(VISITS, &(seen + 1))?;
        match ending {
            Ending::Release => lock.release().await?,
            Ending::Finish => drop(lock),
            Ending::Renew => session.renew()?,
        }
        session.finish().await.map(drop)
    })
}

/// Signs in, or out.
fn ending(place: &Arc<Place>, logs_in: bool) -> Request {
    let place = Arc::clone(place);
    Box::pin(async move {
        let session = place.open().await;
        if session.key().is_none() {
            return Ok(());
        }
        if logs_in {
            session.authenticate("ada")?
        } else {
            session.destroy()?
        };
        session.finish().await.map(drop)
    })
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Release,
    Finish,
    Renew,
}

#[test]
fn two_requests_under_a_lock_never_work_at_the_same_time_and_both_count() {
    for endings in [
        [Ending::Release, Ending::Release],
        [Ending::Release, Ending::Finish],
        [Ending::Finish, Ending::Finish],
        [Ending::Renew, Ending::Finish],
        [Ending::Renew, Ending::Renew],
    ] {
        let make = || {
            let place = Place::new(LEASE);
            let requests = endings.map(|ending| counting(&place, ending));
            (place, requests)
        };
        interleavings(10, make, |place, answers, order| {
            assert!(answers.iter().all(Result::is_ok), "{endings:?} {order:?}: {answers:?}");
            assert_eq!(place.overlaps.load(Ordering::SeqCst), 0, "{endings:?} {order:?}");
            assert_eq!(place.visits(), Some(2), "{endings:?} {order:?}");
        });
    }
}

#[test]
fn three_requests_under_a_lock_come_one_after_another() {
    let make = || {
        let place = Place::new(LEASE);
        let requests = [Ending::Finish; 3].map(|ending| counting(&place, ending));
        (place, requests)
    };
    interleavings(8, make, |place, answers, order| {
        assert!(answers.iter().all(Result::is_ok), "{order:?}: {answers:?}");
        assert_eq!(place.overlaps.load(Ordering::SeqCst), 0, "{order:?}");
        assert_eq!(place.visits(), Some(3), "{order:?}");
    });
}

/// The lease is so short that it ends under work. Then some overlap, but what is acknowledged counts,
/// and nothing else does.
#[test]
fn what_is_acknowledged_under_a_lease_that_may_end_is_all_that_is_stored() {
    let lost = AtomicUsize::new(0);
    for millis in [1, 8, 15, 30] {
        let make = || {
            let place = Place::new(millis * MILLISECOND);
            let requests = [Ending::Finish, Ending::Release, Ending::Renew]
                .map(|ending| counting(&place, ending));
            (place, requests)
        };
        interleavings(7, make, |place, answers, order| {
            let stored = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
            assert_eq!(place.visits(), Some(stored), "{millis} ms, {order:?}: {answers:?}");
            for answer in answers.iter().filter(|answer| answer.is_err()) {
                assert!(is_lost(answer), "{millis} ms, {order:?}: {answers:?}");
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    assert!(lost.into_inner() > 0, "no lease ended under work");
}

/// A request that does not lock adds up with one that does, whenever it comes.
#[test]
fn a_request_without_a_lock_is_merged_with_one_under_a_lock() {
    let make = || {
        let place = Place::new(LEASE);
        let locking = async |place: Arc<Place>| {
            let session = place.open().await;
            let _lock = session.lock(SECOND).await?;
            session.update(VISITS, |visits| *visits += 1)?;
            session.finish().await.map(drop)
        };
        let writing = async |place: Arc<Place>| {
            let session = place.open().await;
            session.update(VISITS, |visits| *visits += 10)?;
            session.finish().await.map(drop)
        };
        let requests: [Request; 2] =
            [Box::pin(locking(Arc::clone(&place))), Box::pin(writing(Arc::clone(&place)))];
        (place, requests)
    };
    interleavings(9, make, |place, answers, order| {
        assert!(answers.iter().all(Result::is_ok), "{order:?}: {answers:?}");
        assert_eq!(place.visits(), Some(11), "{order:?}");
        run(async { place.open().await.lock(AT_ONCE).await.map(drop) }).unwrap();
    });
}

/// Who logs out or signs in while another holds the lock is not held up, and no order leaves the
/// holder's work in a session that is over.
#[test]
fn a_logout_and_a_login_do_not_wait_for_a_lock() {
    for logs_in in [false, true] {
        let make = || {
            let place = Place::new(LEASE);
            let requests: [Request; 2] =
                [counting(&place, Ending::Finish), ending(&place, logs_in)];
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
