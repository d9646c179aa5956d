//! I4, I8: concurrent logins on one session leave one session, in every order of commands.

use std::{pin::Pin, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Key, ManualClock, Session, SessionError, SessionId,
    SessionKey, SessionLimit, Sessions, Timestamp,
};

use crate::support::{
    Look as _, MOVES, Move, NOTE, Steps, VISITS, interleavings, run, sign_in, steps, told,
};

const CART: Key<Vec<u32>> = Key::new("cart");

type Answer = Result<CookieChange, SessionError>;

type Request = Pin<Box<dyn Future<Output = Answer>>>;

/// Two processes on a store that lets other requests in before each command.
struct Site {
    store: Arc<Steps>,
    clock: Arc<ManualClock>,
    one: Sessions,
    other: Sessions,
}

impl Site {
    fn new(limit: Option<SessionLimit>) -> Self {
        let store = Arc::new(steps());
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000)));
        let process = || {
            let sessions = Sessions::builder(Arc::clone(&store)).with_clock(Arc::clone(&clock));
            match limit {
                Some(limit) => sessions.with_session_limit(limit).build().unwrap(),
                None => sessions.build().unwrap(),
            }
        };
        Self { one: process(), other: process(), store, clock }
    }

    fn visitor(&self) -> SessionId {
        self.begin(|session| session.set(CART, &[1, 2][..]))
    }

    fn user(&self) -> SessionId {
        self.begin(sign_in)
    }

    /// Begins a session, with its last use a moment ago.
    fn begin(&self, deed: Move) -> SessionId {
        let id = run(async {
            let session = self.one.open([]).await.unwrap();
            deed(&session).unwrap();
            told(session.finish().await.unwrap())
        });
        self.clock.advance(Duration::from_secs(1));
        id
    }

    fn open(&self, id: &SessionId) -> Session {
        run(self.one.open([id.expose().as_bytes()])).unwrap()
    }

    fn opens(&self, id: &SessionId) -> bool {
        self.open(id).key().is_some()
    }

    /// Returns the numbers of live sessions and of entries in the index.
    fn counts(&self) -> (usize, usize) {
        let now = self.clock.now();
        (self.store.live(now).len(), self.store.entered("ada", now).len())
    }

    fn list(&self) -> Vec<SessionKey> {
        run(self.one.list("ada")).unwrap().iter().map(|info| info.key()).collect()
    }
}

/// Runs an operation on the session of a cookie, if the cookie opens a session.
fn request(sessions: &Sessions, id: Option<&SessionId>, deed: Move) -> Request {
    let (sessions, id) = (sessions.clone(), id.cloned());
    Box::pin(async move {
        let session = sessions.open(id.as_ref().map(|id| id.expose().as_bytes())).await?;
        if id.is_none() || session.key().is_some() {
            deed(&session).unwrap();
        }
        session.finish().await
    })
}

/// Gives a browser's session another ID, and goes on under the new ID.
fn request_and_next(sessions: &Sessions, id: &SessionId, deed: Move) -> Request {
    let (first, sessions) = (request(sessions, Some(id), deed), sessions.clone());
    Box::pin(async move {
        let change = first.await?;
        if let CookieChange::Set { id, .. } = &change {
            let session = sessions.open([id.expose().as_bytes()]).await?;
            session.set(VISITS, 1)?;
            let _ = session.finish().await?;
        }
        Ok(change)
    })
}

fn revoke_others(sessions: &Sessions, id: &SessionId) -> Request {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        sessions.revoke_others(&session).await?;
        session.finish().await
    })
}

/// Runs a request of the sign-in page, whether or not its cookie opens a session.
fn click(sessions: &Sessions, id: &SessionId, deed: Move) -> Request {
    let (sessions, id) = (sessions.clone(), id.clone());
    Box::pin(async move {
        let session = sessions.open([id.expose().as_bytes()]).await?;
        deed(&session).unwrap();
        session.finish().await
    })
}

#[test]
fn revoking_the_others_spares_the_own_session_in_every_order() {
    for deed in MOVES {
        let make = || {
            let site = Site::new(None);
            let (id, _) = (site.user(), site.user());
            let requests =
                [request_and_next(&site.one, &id, deed), revoke_others(&site.other, &id)];
            (site, requests)
        };
        interleavings(12, make, |site, [moved, ended], order| {
            let Ok(CookieChange::Set { id, .. }) = &moved else { panic!("{order:?}: {moved:?}") };
            assert!(site.opens(id), "{order:?}: {ended:?}");
        });
    }
}

/// A double click on "sign in": both requests carry the visitor's cookie, and the browser keeps the
/// last answer, in any order.
#[test]
fn double_click_on_sign_in_leaves_one_session_in_every_order() {
    let first: Move = |session| {
        session.set(VISITS, 1)?;
        session.authenticate("ada")
    };
    let second: Move = |session| {
        session.authenticate("ada")?;
        session.set(NOTE, "second")
    };
    for (two_processes, limit) in [
        (false, None),
        (true, None),
        (true, Some(AtLimit::Reject)),
        (true, Some(AtLimit::EvictOldest)),
    ] {
        let make = || {
            let limit = limit.map(|at_limit| SessionLimit::new(1, at_limit).unwrap());
            let site = Site::new(limit);
            let id = site.visitor();
            let other = if two_processes { &site.other } else { &site.one };
            let clicks = [click(&site.one, &id, first), click(other, &id, second)];
            ((site, id), clicks)
        };
        interleavings(11, make, |(site, former), answers, order| {
            let order = format!("{order:?} {limit:?}: {answers:?}");
            for answer in &answers {
                let Ok(CookieChange::Set { id, .. }) = answer else { panic!("{order}") };
                let session = site.open(id);
                assert_eq!(session.owner(), Some("ada".into()), "{order}");
                assert_eq!(session.get(CART), Some(vec![1, 2]), "{order}");
                assert_eq!(session.get(VISITS), Some(1), "{order}");
                assert_eq!(session.get(NOTE).as_deref(), Some("second"), "{order}");
            }
            assert!(!site.opens(&former), "{order}");
            assert_eq!(site.counts(), (1, 1), "{order}");
            assert_eq!(site.list().len(), 1, "{order}");
        });
    }
}

/// On a user's session, only one of two concurrent logins counts, and the other receives no ID.
#[test]
fn two_logins_on_a_users_session_keep_one_in_every_order() {
    for at_limit in [None, Some(AtLimit::Reject), Some(AtLimit::EvictOldest)] {
        let make = || {
            let limit = at_limit.map(|at_limit| SessionLimit::new(1, at_limit).unwrap());
            let site = Site::new(limit);
            let id = site.user();
            let requests =
                [request(&site.one, Some(&id), sign_in), request(&site.other, Some(&id), sign_in)];
            (site, requests)
        };
        interleavings(11, make, |site, answers, order| {
            assert_eq!(site.counts(), (1, 1), "{order:?}: {answers:?}");
            let told = answers.iter().filter(|answer| match answer {
                Ok(CookieChange::Set { id, .. }) => site.opens(id),
                Ok(_) | Err(SessionError::Ended) => false,
                Err(error) => panic!("{order:?}: {error}"),
            });
            assert_eq!(told.count(), 1, "{order:?}: {answers:?}");
        });
    }
}

/// In every order, a move and a login elsewhere keep the limit, and one of the two sessions stays
/// signed in.
#[test]
fn login_beside_a_move_keeps_the_limit_in_every_order() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest] {
        for (max, deed) in [
            (1, sign_in as Move),
            (1, Session::renew),
            (1, Session::rotate),
            (2, sign_in),
            (2, Session::renew),
        ] {
            let make = || {
                let site = Site::new(Some(SessionLimit::new(max, at_limit).unwrap()));
                let id = site.user();
                let requests =
                    [request(&site.one, Some(&id), deed), request(&site.other, None, sign_in)];
                (site, requests)
            };
            interleavings(11, make, |site, answers, order| {
                let order = format!("{order:?} {at_limit:?} {max}: {answers:?}");
                let (live, entered) = site.counts();
                assert_eq!((live, site.list().len()), (max, max), "{order}");
                assert!(entered >= live, "{order}");
                let told = answers.iter().filter(|answer| match answer {
                    Ok(CookieChange::Set { id, .. }) => site.opens(id),
                    Err(SessionError::TooManySessions { .. }) => {
                        assert!((max, at_limit) == (1, AtLimit::Reject), "{order}");
                        false
                    }
                    Ok(_) | Err(SessionError::Ended | SessionError::Contended) => {
                        assert!((max, at_limit) == (1, AtLimit::EvictOldest), "{order}");
                        false
                    }
                    Err(error) => panic!("{order}: {error}"),
                });
                let told = told.count();
                assert!(told <= max, "{order}");
                assert!(told == max || at_limit == AtLimit::Reject, "{order}");
            });
        }
    }
}
