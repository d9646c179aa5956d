//! I8 in every order in which the commands of two requests can reach the store, and at every point where
//! one can break off. [`Steps`] looks at the index after each command.

use std::{pin::Pin, sync::Arc};

use session_core::{
    AtLimit, Clock as _, CookieChange, Event, Events, Lifetime, Session, SessionError, SessionId,
    SessionLimit, Sessions, SystemClock,
};

use crate::support::{Steps, VISITS, interleavings, run, told};

#[derive(Debug)]
enum Answer {
    Told(Result<CookieChange, SessionError>),
    Ended(Result<usize, SessionError>),
}

type Request = Pin<Box<dyn Future<Output = Answer>>>;

struct Site {
    store: Arc<Steps>,
    sessions: Arc<Sessions>,
}

impl Site {
    fn new() -> Self {
        Self::with(|sessions| sessions)
    }

    fn with(configure: impl FnOnce(Sessions) -> Sessions) -> Self {
        let store = Arc::new(Steps::default());
        let sessions = Arc::new(configure(Sessions::new(Arc::clone(&store))));
        Self { store, sessions }
    }

    fn open(&self, id: &SessionId) -> Session {
        run(self.sessions.open([id.expose().as_bytes()])).unwrap()
    }

    fn user(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, &0).unwrap();
            session.authenticate("ada").unwrap();
            told(session.finish().await.unwrap())
        })
    }

    fn visitor(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, &0).unwrap();
            told(session.finish().await.unwrap())
        })
    }

    fn owned(&self) -> usize {
        let live = self.store.live(SystemClock.now());
        live.iter().filter(|(_, record)| record.owner().is_some()).count()
    }

    fn entered(&self) -> usize {
        self.store.entered("ada", SystemClock.now()).len()
    }

    /// A request that does something to the session of a cookie.
    fn request(&self, id: Option<&SessionId>, deed: fn(&Session)) -> Request {
        let (sessions, id) = (Arc::clone(&self.sessions), id.cloned());
        Box::pin(async move {
            let cookie = id.as_ref().map(|id| id.expose().as_bytes());
            let session = match sessions.open(cookie).await {
                Ok(session) => session,
                Err(error) => return Answer::Told(Err(error)),
            };
            if id.is_none() || session.key().is_some() {
                deed(&session);
            }
            Answer::Told(session.finish().await)
        })
    }

    fn end_all(&self) -> Request {
        let sessions = Arc::clone(&self.sessions);
        Box::pin(async move { Answer::Ended(sessions.end_all("ada").await) })
    }

    fn end_one(&self, id: &SessionId) -> Request {
        let (sessions, key) = (Arc::clone(&self.sessions), id.key());
        Box::pin(async move { Answer::Ended(sessions.end_one("ada", key).await.map(usize::from)) })
    }
}

fn login(session: &Session) {
    session.authenticate("ada").unwrap();
}

fn renew(session: &Session) {
    session.renew().unwrap();
}

fn write(session: &Session) {
    session.set(VISITS, &1).unwrap();
}

fn lengthen(session: &Session) {
    session.set_lifetime(Lifetime::aal1()).unwrap();
}

fn logout(session: &Session) {
    session.destroy().unwrap();
}

/// Whatever a session does meanwhile, it is not there when all have been ended, nor is its entry.
#[test]
fn ending_all_or_one_misses_no_session_whatever_it_does_meanwhile() {
    for deed in [login, renew, write, lengthen, logout] {
        for all in [true, false] {
            let make = || {
                let site = Site::new();
                let id = site.user();
                let end = if all { site.end_all() } else { site.end_one(&id) };
                let requests = [site.request(Some(&id), deed), end];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                assert!(!matches!(answers[1], Answer::Ended(Err(_))), "{answers:?}");
                assert_eq!(site.owned(), 0, "{order:?}: {answers:?}");
                assert_eq!(site.entered(), 0, "{order:?}: {answers:?}");
            });
        }
    }
}

/// A login at the same time comes before or after the end of all, and succeeds in any case.
#[test]
fn a_login_while_all_are_ended_is_ended_or_in_the_index() {
    for stored_before in [true, false] {
        let make = || {
            let site = Site::new();
            let id = stored_before.then(|| site.visitor());
            let requests = [site.request(id.as_ref(), login), site.end_all()];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            let [Answer::Told(told), Answer::Ended(Ok(ended))] = answers else {
                panic!("{order:?}: {answers:?}")
            };
            let Ok(CookieChange::Set { id, .. }) = told else { panic!("{order:?}: {told:?}") };
            let lives = site.open(&id).key().is_some();
            assert_eq!(usize::from(lives) + ended, 1, "{order:?}");
            assert_eq!((site.owned(), site.entered()), (usize::from(lives), usize::from(lives)));
        });
    }
}

#[test]
fn two_who_end_all_at_once_end_each_session_once() {
    let make = || {
        let site = Site::new();
        let _ = (site.user(), site.user());
        let requests = [site.end_all(), site.end_all()];
        (site, requests)
    };
    interleavings(8, make, |site, answers, order| {
        let [Answer::Ended(Ok(one)), Answer::Ended(Ok(other))] = answers else {
            panic!("{order:?}: {answers:?}")
        };
        assert_eq!((one + other, site.owned(), site.entered()), (2, 0, 0), "{order:?}");
    });
}

/// A session that gets another ID meanwhile is one session to who counts and to who listens.
#[test]
fn ending_all_counts_a_session_once_that_gets_another_id() {
    for deed in [renew as fn(&Session), login] {
        let make = || {
            let events = Events::with_capacity(100).unwrap();
            let site = Site::with(|sessions| sessions.with_events(&events));
            let id = site.user();
            while events.try_next().is_some() {}
            let requests = [site.request(Some(&id), deed), site.end_all()];
            (events, requests)
        };
        interleavings(11, make, |events: Events, answers, order| {
            let Answer::Ended(ended) = &answers[1] else { panic!("{order:?}: {answers:?}") };
            let told = std::iter::from_fn(|| events.try_next());
            let revoked = told.filter(|event| matches!(event, Event::Revoked { .. })).count();
            assert!(matches!(ended, Ok(1)) && revoked == 1, "{order:?}: {ended:?}, {revoked} told");
        });
    }
}

/// A request that breaks off at any point leaves nothing that the end of all misses, and logs nobody out.
#[test]
fn a_crash_at_any_point_leaves_no_session_outside_the_index_and_loses_none() {
    for deed in [Deed::Login, Deed::Renew, Deed::Lengthen, Deed::Logout] {
        for owned in [true, false] {
            for steps in 0..12 {
                let site = Site::new();
                let id = if owned { site.user() } else { site.visitor() };
                let mut request = site.request(Some(&id), deed.act());
                poll(&mut request, steps);
                drop(request);

                // New before old: whatever was stored so far, the session is there.
                let opens = site.open(&id).key().is_some();
                let lives = !site.store.live(SystemClock.now()).is_empty();
                let kept = match deed {
                    // Under the ID that the client has, or under one that it was not told: the tombstone of a
                    // login opens nothing.
                    Deed::Login => opens || lives,
                    Deed::Renew | Deed::Lengthen => opens,
                    Deed::Logout => true,
                };
                assert!(kept, "{deed:?} lost the session after {steps} steps");

                run(site.sessions.end_all("ada")).unwrap();
                assert_eq!((site.owned(), site.entered()), (0, 0), "{deed:?}, {steps} steps");
            }
        }
    }
}

/// What a request that breaks off was about.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Login,
    Renew,
    Lengthen,
    Logout,
}

impl Deed {
    fn act(self) -> fn(&Session) {
        match self {
            Self::Login => login,
            Self::Renew => renew,
            Self::Lengthen => lengthen,
            Self::Logout => logout,
        }
    }
}

/// Who ends all may break off too, and asking again does the rest.
#[test]
fn an_end_of_all_that_broke_off_can_be_repeated() {
    for steps in 0..8 {
        let site = Site::new();
        let ids = [site.user(), site.user()];
        let mut request = site.end_all();
        poll(&mut request, steps);
        drop(request);
        run(site.sessions.end_all("ada")).unwrap();
        assert_eq!((site.owned(), site.entered()), (0, 0));
        assert!(ids.iter().all(|id| site.open(id).key().is_none()));
    }
}

/// Two logins where there is room for one: one has it, whatever the order.
#[test]
fn two_logins_at_once_do_not_exceed_a_limit_of_one() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let make = || {
            let limit = SessionLimit::new(1, at_limit).unwrap();
            let site = Site::with(|sessions| sessions.with_session_limit(limit));
            // As two processes, which do not wait for each other.
            let other = Sessions::new(Arc::clone(&site.store)).with_session_limit(limit);
            let other = Site { store: Arc::clone(&site.store), sessions: Arc::new(other) };
            let requests = [site.request(None, login), other.request(None, login)];
            (site, requests)
        };
        interleavings(10, make, |site, answers, order| {
            assert_eq!((site.owned(), site.entered()), (1, 1), "{order:?}: {answers:?}");
            let refused = answers
                .iter()
                .filter(|answer| {
                    matches!(answer, Answer::Told(Err(SessionError::TooManySessions { .. })))
                })
                .count();
            let expected = usize::from(at_limit == AtLimit::Reject);
            assert_eq!(refused, expected, "{order:?}: {answers:?}");
        });
    }
}

/// A double click on "sign in again" replaces the session once or twice, and is never refused.
#[test]
fn two_logins_of_one_session_at_once_keep_its_place() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for stored_owner in [true, false] {
            let make = || {
                let limit = SessionLimit::new(1, at_limit).unwrap();
                let site = Site::with(|sessions| sessions.with_session_limit(limit));
                let id = if stored_owner { site.user() } else { site.visitor() };
                let requests = [site.request(Some(&id), login), site.request(Some(&id), login)];
                (site, requests)
            };
            interleavings(10, make, |site, answers, order| {
                assert_eq!((site.owned(), site.entered()), (1, 1), "{order:?}: {answers:?}");
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
