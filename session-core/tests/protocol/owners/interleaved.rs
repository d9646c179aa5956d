//! I8: lists and revocations find each session, in every order of commands and after a crash.

use session_core::{EventKind, Events, SessionError};

use super::site::{Answer, Deed, Request, Site, told_id};
use crate::support::{Look as _, interleavings, run};

#[test]
fn revocation_misses_no_session_whatever_it_does_meanwhile() {
    for deed in [Deed::Login, Deed::Renew, Deed::Rotate, Deed::Write, Deed::Lengthen, Deed::Logout]
    {
        for all in [true, false] {
            let make = || {
                let site = Site::new();
                let id = site.user();
                let revoke = if all { site.revoke_all() } else { site.revoke(&id) };
                let requests = [site.request(Some(&id), deed), revoke];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                assert!(!matches!(answers[1], Answer::Revoked(Err(_))), "{answers:?}");
                assert_eq!(site.owned(), 0, "{deed:?} {order:?}: {answers:?}");
                // An entry extended by a longer lifetime leaves at its deadline.
                if deed != Deed::Lengthen {
                    assert_eq!(site.entered(), 0, "{deed:?} {order:?}: {answers:?}");
                }
            });
        }
    }
}

/// A concurrent login comes before or after the revocation, and always succeeds.
#[test]
fn login_during_a_revocation_is_revoked_or_in_the_index() {
    for stored_before in [true, false] {
        let make = || {
            let site = Site::new();
            let id = stored_before.then(|| site.visitor());
            let requests = [site.request(id.as_ref(), Deed::Login), site.revoke_all()];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            let Some(id) = told_id(&answers[0]) else { panic!("{order:?}: {answers:?}") };
            let Answer::Revoked(Ok(revoked)) = answers[1] else { panic!("{order:?}: {answers:?}") };
            let lives = usize::from(site.opens(id));
            assert_eq!(lives + revoked, 1, "{order:?}");
            assert_eq!((site.owned(), site.entered()), (lives, lives), "{order:?}");
        });
    }
}

#[test]
fn two_revocations_count_each_session_once() {
    let make = || {
        let site = Site::new();
        let _ = (site.user(), site.user());
        let requests = [site.revoke_all(), site.revoke_all()];
        (site, requests)
    };
    interleavings(8, make, |site, answers, order| {
        let [Answer::Revoked(Ok(one)), Answer::Revoked(Ok(other))] = answers else {
            panic!("{order:?}: {answers:?}")
        };
        assert_eq!((one + other, site.owned(), site.entered()), (2, 0, 0), "{order:?}");
    });
}

/// If a session gets another ID meanwhile, the count and the events include it once.
#[test]
fn revocation_counts_a_moving_session_once() {
    for deed in [Deed::Renew, Deed::Rotate, Deed::Login] {
        for all in [true, false] {
            let make = || {
                let site = Site::new();
                let id = site.user();
                let events: Events = site.sessions.events();
                let revoke = if all { site.revoke_all() } else { site.revoke(&id) };
                let requests = [site.request(Some(&id), deed), revoke];
                (events, requests)
            };
            interleavings(11, make, |mut events: Events, answers, order| {
                let Answer::Revoked(revoked) = &answers[1] else {
                    panic!("{order:?}: {answers:?}")
                };
                let reported = std::iter::from_fn(|| events.try_next());
                let reported = reported.filter(|event| event.kind == EventKind::Revoked).count();
                let context = format!("{deed:?} {order:?}: {revoked:?}, {reported} reported");
                assert!(matches!(revoked, Ok(1)) && reported == 1, "{context}");
            });
        }
    }
}

/// The list shows one line, whether the session has one key or two at that moment.
#[test]
fn list_shows_a_moving_session_once_in_every_order() {
    for deed in [Deed::Renew, Deed::Rotate, Deed::Login, Deed::Write] {
        let make = || {
            let site = Site::new();
            let id = site.user();
            let requests = [site.request(Some(&id), deed), site.list()];
            (site, requests)
        };
        interleavings(11, make, |_, answers, order| {
            assert!(matches!(answers[1], Answer::Listed(Ok(1))), "{deed:?} {order:?}: {answers:?}");
        });
    }
}

/// The revocation spares only the request's own session, while another request moves or changes it.
#[test]
fn revoke_others_spares_a_moving_session_in_every_order() {
    for deed in [Deed::Renew, Deed::Rotate, Deed::Login, Deed::Write] {
        let make = || {
            let site = Site::new();
            let (own, other) = (site.user(), site.user());
            let requests = [site.request(Some(&own), deed), site.revoke_others(&own)];
            ((site, own, other), requests)
        };
        interleavings(10, make, |(site, own, other), answers, order| {
            let context = format!("{deed:?} {order:?}: {answers:?}");
            assert!(matches!(answers[0], Answer::Told(Ok(_))), "{context}");
            // A request overtaken by a login or rotation revokes nothing.
            let revokes = matches!(answers[1], Answer::Revoked(Ok(1)));
            let is_overtaken = matches!(deed, Deed::Rotate | Deed::Login);
            let is_ended = matches!(answers[1], Answer::Revoked(Err(SessionError::Ended)));
            assert!(revokes || is_overtaken && is_ended, "{context}");
            assert_eq!(site.owned(), if revokes { 1 } else { 2 }, "{context}");
            assert_eq!(site.opens(&other), !revokes, "{context}");
            let own = told_id(&answers[0]).unwrap_or(&own);
            assert!(site.opens(own), "{context}");
        });
    }
}

/// After a crash at any point, no session is lost, and a revocation finds every session.
#[test]
fn crash_at_any_point_loses_no_session_and_no_entry() {
    for deed in [Deed::Login, Deed::Renew, Deed::Rotate, Deed::Lengthen, Deed::Logout] {
        for owned in [true, false] {
            for steps in 0..12 {
                let site = Site::new();
                let id = if owned { site.user() } else { site.visitor() };
                let mut request = site.request(Some(&id), deed);
                poll(&mut request, steps);
                drop(request);

                // The new record is stored before the old one is replaced, so a session is there at
                // every point.
                let opens = site.opens(&id);
                let lives = !site.store.live(site.now()).is_empty();
                let kept = match deed {
                    // The session is under the client's ID, or under an ID that the client has not
                    // received: the tombstone of a login opens no session.
                    Deed::Login
                    | Deed::LinkedLogin
                    | Deed::Link
                    | Deed::Act
                    | Deed::StopActing
                    | Deed::Rotate => opens || lives,
                    Deed::Renew | Deed::Lengthen | Deed::Write => opens,
                    Deed::Logout => true,
                };
                assert!(kept, "{deed:?} lost the session after {steps} steps");
                let listed = run(site.sessions.list("ada")).unwrap().len();
                assert!(listed <= 1, "{deed:?}: {listed} devices after {steps} steps");

                run(site.sessions.revoke_all("ada")).unwrap();
                let left = (site.owned(), site.entered());
                assert_eq!(left, (0, 0), "{deed:?}, {steps} steps");
            }
        }
    }
}

#[test]
fn interrupted_revocation_can_be_repeated() {
    for steps in 0..8 {
        let site = Site::new();
        let ids = [site.user(), site.user()];
        let mut request = site.revoke_all();
        poll(&mut request, steps);
        drop(request);
        run(site.sessions.revoke_all("ada")).unwrap();
        assert_eq!((site.owned(), site.entered()), (0, 0));
        assert!(!ids.iter().any(|id| site.opens(id)));
    }
}

fn poll(request: &mut Request, times: usize) -> Option<Answer> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..times {
        if let std::task::Poll::Ready(answer) = request.as_mut().poll(&mut context) {
            return Some(answer);
        }
    }
    None
}
