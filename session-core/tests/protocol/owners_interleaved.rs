//! I8, in every order of the commands of two requests at the store, and with a crash after each
//! command. [`Steps`] checks the index after each command.

use std::{cell::Cell, collections::HashSet, pin::Pin, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, EventKind, Events, Lifetime, ManualClock, Session,
    SessionError, SessionId, SessionLimit, Sessions, Timestamp,
};

use crate::support::{Look as _, Steps, VISITS, interleavings, run, steps, told};

/// The clock of the second process, compared with the clock of the first.
#[derive(Clone, Copy, Debug)]
enum Skew {
    Behind,
    None,
    Ahead,
}

#[derive(Debug)]
enum Answer {
    Told(Result<CookieChange, SessionError>),
    Revoked(Result<usize, SessionError>),
    Listed(Result<usize, SessionError>),
}

type Request = Pin<Box<dyn Future<Output = Answer>>>;

#[derive(Clone)]
struct Site {
    store: Arc<Steps>,
    clock: Arc<ManualClock>,
    sessions: Sessions,
}

impl Site {
    fn new() -> Self {
        let [site, _] = Self::pair(None, Skew::None);
        site
    }

    /// Returns two processes with the same limit.
    fn limited(max: usize, at_limit: AtLimit, skew: Skew) -> [Self; 2] {
        Self::pair(Some(SessionLimit::new(max, at_limit).unwrap()), skew)
    }

    /// Returns two processes on one store.
    fn pair(limit: Option<SessionLimit>, skew: Skew) -> [Self; 2] {
        let store = Arc::new(steps());
        let now = Timestamp::from_secs(1_700_000_000);
        let second = match skew {
            Skew::Behind => Timestamp::from_secs(1_700_000_000 - 1),
            Skew::None => now,
            Skew::Ahead => now + Duration::from_secs(1),
        };
        [now, second].map(|now| {
            let clock = Arc::new(ManualClock::new(now));
            let mut sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
            if let Some(limit) = limit {
                sessions = sessions.with_session_limit(limit);
            }
            Self { store: Arc::clone(&store), clock, sessions: sessions.build().unwrap() }
        })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn open(&self, id: &SessionId) -> Session {
        run(self.sessions.open([id.expose().as_bytes()])).unwrap()
    }

    fn opens(&self, id: &SessionId) -> bool {
        self.open(id).key().is_some()
    }

    fn user(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            session.authenticate("ada").unwrap();
            told(session.finish().await.unwrap())
        })
    }

    fn visitor(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            told(session.finish().await.unwrap())
        })
    }

    fn owned(&self) -> usize {
        let live = self.store.live(self.now());
        live.iter().filter(|(_, record)| record.owner().is_some()).count()
    }

    fn entered(&self) -> usize {
        self.store.entered("ada", self.now()).len()
    }

    /// Returns a request that performs an operation on the session of a cookie.
    fn request(&self, id: Option<&SessionId>, deed: Deed) -> Request {
        let (sessions, id) = (self.sessions.clone(), id.cloned());
        Box::pin(async move {
            let cookie = id.as_ref().map(|id| id.expose().as_bytes());
            let session = match sessions.open(cookie).await {
                Ok(session) => session,
                Err(error) => return Answer::Told(Err(error)),
            };
            if id.is_none() || session.key().is_some() {
                deed.record(&session);
            }
            Answer::Told(session.finish().await)
        })
    }

    fn list(&self) -> Request {
        let sessions = self.sessions.clone();
        Box::pin(async move { Answer::Listed(sessions.list("ada").await.map(|list| list.len())) })
    }

    fn revoke_others(&self, id: &SessionId) -> Request {
        let (sessions, id) = (self.sessions.clone(), id.clone());
        Box::pin(async move {
            let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
            if session.key().is_none() {
                // The request came after a login or rotation.
                return Answer::Revoked(Err(SessionError::Ended));
            }
            Answer::Revoked(sessions.revoke_others(&session).await)
        })
    }

    fn revoke_all(&self) -> Request {
        let sessions = self.sessions.clone();
        Box::pin(async move { Answer::Revoked(sessions.revoke_all("ada").await) })
    }

    fn revoke(&self, id: &SessionId) -> Request {
        let (sessions, key) = (self.sessions.clone(), id.key());
        Box::pin(async move { Answer::Revoked(sessions.revoke("ada", key).await.map(usize::from)) })
    }
}

/// The operation of a request on its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deed {
    Login,
    Renew,
    Rotate,
    Write,
    Lengthen,
    Logout,
}

impl Deed {
    fn record(self, session: &Session) {
        match self {
            Self::Login => session.authenticate("ada"),
            Self::Renew => session.renew(),
            Self::Rotate => session.rotate(),
            Self::Write => session.set(VISITS, 1),
            Self::Lengthen => session.set_lifetime(Lifetime::aal1()),
            Self::Logout => session.destroy(),
        }
        .unwrap();
    }
}

/// Returns the ID in a response to the browser.
fn told_id(answer: &Answer) -> Option<&SessionId> {
    match answer {
        Answer::Told(Ok(CookieChange::Set { id, .. })) => Some(id),
        _ => None,
    }
}

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
            ((site, other), requests)
        };
        interleavings(10, make, |(site, other), answers, order| {
            let context = format!("{deed:?} {order:?}: {answers:?}");
            assert!(matches!(answers[0], Answer::Told(Ok(_))), "{context}");
            // A request overtaken by a login or rotation revokes nothing.
            let revokes = matches!(answers[1], Answer::Revoked(Ok(1)));
            let is_overtaken = matches!(deed, Deed::Rotate | Deed::Login);
            let is_ended = matches!(answers[1], Answer::Revoked(Err(SessionError::Ended)));
            assert!(revokes || is_overtaken && is_ended, "{context}");
            assert_eq!(site.owned(), if revokes { 1 } else { 2 }, "{context}");
            assert_eq!(site.opens(&other), !revokes, "{context}");
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
                    Deed::Login | Deed::Rotate => opens || lives,
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

/// Signs users in before the concurrent logins.
fn earlier_users(site: &Site, count: usize) -> Vec<SessionId> {
    let now = site.now();
    site.clock.set(Timestamp::from_millis(now.as_millis() - 60_000));
    let ids = (0..count).map(|_| site.user()).collect();
    site.clock.set(now);
    ids
}

const SKEWS: [Skew; 3] = [Skew::Behind, Skew::None, Skew::Ahead];

const POLICIES: [AtLimit; 3] = [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent];

/// Returns the number of received IDs that open a session.
fn open_ids(site: &Site, answers: &[Answer]) -> usize {
    answers.iter().filter_map(told_id).filter(|id| site.opens(id)).count()
}

#[test]
fn two_logins_do_not_exceed_the_limit_in_any_order() {
    let both_refused = Cell::new(0);
    for at_limit in POLICIES {
        for (max, before) in [(1, 0), (1, 1), (2, 1), (2, 2)] {
            for skew in SKEWS {
                let make = || {
                    let [site, other] = Site::limited(max, at_limit, skew);
                    let ids = earlier_users(&site, before);
                    let requests =
                        [site.request(None, Deed::Login), other.request(None, Deed::Login)];
                    ((site, ids), requests)
                };
                interleavings(8, make, |(site, ids), answers, order| {
                    let context =
                        format!("{at_limit:?} {skew:?} {max} {before} {order:?}: {answers:?}");
                    let open = open_ids(&site, &answers);
                    let former = ids.iter().filter(|id| site.opens(id)).count();
                    assert!(open + former <= max, "{context}");
                    assert_eq!(site.owned(), open + former, "nothing else is left: {context}");
                    assert_eq!(site.entered(), open + former, "{context}");
                    let told = answers.iter().filter_map(told_id).count();
                    if at_limit == AtLimit::Reject {
                        assert_eq!((former, told), (before, open), "nobody is ended: {context}");
                        both_refused
                            .set(both_refused.get() + usize::from(told == 0 && before < max));
                    } else {
                        assert_eq!(open + former, max, "no place is lost: {context}");
                        assert!(open >= 1, "they end each other: {context}");
                    }
                    for answer in &answers {
                        let is_refused = match answer {
                            Answer::Told(Err(SessionError::TooManySessions { .. })) => {
                                at_limit == AtLimit::Reject
                            }
                            Answer::Told(Err(SessionError::Contended)) => {
                                at_limit != AtLimit::Reject
                            }
                            answer => told_id(answer).is_some(),
                        };
                        assert!(is_refused, "{context}");
                    }
                });
            }
        }
    }
    assert!(both_refused.get() > 0, "no order lets two logins see each other");
}

/// A session in the middle of a move takes one place, under either key.
#[test]
fn login_counts_a_moving_session_in_every_order() {
    for at_limit in POLICIES {
        for deed in [Deed::Renew, Deed::Rotate, Deed::Write] {
            let make = || {
                let [site, other] = Site::limited(1, at_limit, Skew::None);
                let id = earlier_users(&site, 1).remove(0);
                let requests = [site.request(Some(&id), deed), other.request(None, Deed::Login)];
                ((site, id), requests)
            };
            interleavings(11, make, |(site, id), answers, order| {
                let context = format!("{at_limit:?} {deed:?} {order:?}: {answers:?}");
                assert_eq!(site.owned(), 1, "{context}");
                let moved = told_id(&answers[0]).is_some_and(|id| site.opens(id));
                let former = moved || site.opens(&id);
                if at_limit == AtLimit::Reject {
                    let is_refused = matches!(
                        answers[1],
                        Answer::Told(Err(SessionError::TooManySessions { limit: 1, .. }))
                    );
                    assert!(is_refused, "{context}");
                    assert!(former, "{context}");
                } else {
                    let is_in = told_id(&answers[1]).is_some_and(|id| site.opens(id));
                    assert!(is_in && !former, "{context}");
                }
            });
        }
    }
}

/// Runs a second login of the owner's only session beside a login elsewhere, in every order. The
/// check receives the number of sessions whose IDs the clients have.
fn login_and_login_again(check: impl Fn(&[Answer; 2], usize, &str)) {
    for at_limit in POLICIES {
        for skew in SKEWS {
            let make = || {
                let [site, other] = Site::limited(1, at_limit, skew);
                let id = earlier_users(&site, 1).remove(0);
                let requests =
                    [site.request(Some(&id), Deed::Login), other.request(None, Deed::Login)];
                ((site, id), requests)
            };
            interleavings(10, make, |(site, id), answers, order| {
                let context = format!("{at_limit:?} {skew:?} {order:?}: {answers:?}");
                let open = open_ids(&site, &answers) + usize::from(site.opens(&id));
                assert_eq!(site.owned(), open, "nothing else is left: {context}");
                check(&answers, open, &context);
            });
        }
    }
}

#[test]
fn login_again_and_another_login_do_not_exceed_the_limit() {
    login_and_login_again(|answers, open, context| {
        assert!(open <= 1, "{context}");
        let is_acknowledged = answers.iter().any(|answer| told_id(answer).is_some());
        let is_ended = matches!(answers[0], Answer::Told(Err(SessionError::Ended)));
        assert!(open == 1 || is_acknowledged && is_ended, "{context}");
    });
}

#[test]
fn login_again_and_another_login_do_not_end_each_other() {
    login_and_login_again(|_, open, context| assert_eq!(open, 1, "{context}"));
}

/// A double click on "sign in" is one login, and takes one place.
#[test]
fn double_click_on_sign_in_takes_one_place_in_every_order() {
    for at_limit in POLICIES {
        for stored_owner in [true, false] {
            let make = || {
                let [site, other] = Site::limited(1, at_limit, Skew::None);
                let id = if stored_owner { site.user() } else { site.visitor() };
                let requests =
                    [site.request(Some(&id), Deed::Login), other.request(Some(&id), Deed::Login)];
                (site, requests)
            };
            interleavings(10, make, |site, answers, order| {
                let context = format!("{at_limit:?} {order:?}: {answers:?}");
                assert_eq!((site.owned(), site.entered()), (1, 1), "{context}");
                let ids: HashSet<_> =
                    answers.iter().filter_map(told_id).map(SessionId::key).collect();
                assert_eq!(ids.len(), 1, "{context}");
                assert!(open_ids(&site, &answers) >= 1, "{context}");
            });
        }
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
