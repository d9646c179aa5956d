//! Two processes on one store, and requests that a test runs in every order of their commands.

use std::{pin::Pin, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Lifetime, ManualClock, Session, SessionError, SessionId,
    SessionLimit, Sessions, Timestamp,
};

use crate::support::{Look as _, Steps, VISITS, run, steps, told};

/// The clock of the second process, compared with the clock of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Skew {
    Behind,
    None,
    Ahead,
}

#[derive(Debug)]
pub(crate) enum Answer {
    Told(Result<CookieChange, SessionError>),
    Revoked(Result<usize, SessionError>),
    Listed(Result<usize, SessionError>),
}

pub(crate) type Request = Pin<Box<dyn Future<Output = Answer>>>;

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) store: Arc<Steps>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sessions: Sessions,
}

impl Site {
    pub(crate) fn new() -> Self {
        let [site, _] = Self::pair(None, Skew::None);
        site
    }

    /// Returns two processes with the same limit.
    pub(crate) fn limited(max: usize, at_limit: AtLimit, skew: Skew) -> [Self; 2] {
        Self::pair(Some(SessionLimit::new(max, at_limit).unwrap()), skew)
    }

    /// Returns two processes on one store.
    pub(crate) fn pair(limit: Option<SessionLimit>, skew: Skew) -> [Self; 2] {
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

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn open(&self, id: &SessionId) -> Session {
        run(self.sessions.open([id.expose().as_bytes()])).unwrap()
    }

    pub(crate) fn opens(&self, id: &SessionId) -> bool {
        self.open(id).key().is_some()
    }

    pub(crate) fn user(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            session.authenticate("ada").unwrap();
            told(session.finish().await.unwrap())
        })
    }

    /// Returns the ID of a user whose first request also performed these operations.
    pub(crate) fn user_who(&self, deeds: &[Deed]) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            session.authenticate("ada").unwrap();
            deeds.iter().for_each(|deed| deed.record(&session).unwrap());
            told(session.finish().await.unwrap())
        })
    }

    pub(crate) fn visitor(&self) -> SessionId {
        run(async {
            let session = self.sessions.open([]).await.unwrap();
            session.set(VISITS, 0).unwrap();
            told(session.finish().await.unwrap())
        })
    }

    pub(crate) fn owned(&self) -> usize {
        let live = self.store.live(self.now());
        live.iter().filter(|(_, record)| record.owner().is_some()).count()
    }

    pub(crate) fn entered(&self) -> usize {
        self.store.entered("ada", self.now()).len()
    }

    pub(crate) fn listed(&self) -> usize {
        run(self.sessions.list("ada")).unwrap().len()
    }

    /// Returns a request that performs an operation on the session of a cookie, if the cookie opens
    /// a session.
    pub(crate) fn request(&self, id: Option<&SessionId>, deed: Deed) -> Request {
        let has_cookie = id.is_some();
        self.click(id, move |session| match session.key() {
            None if has_cookie => Ok(()),
            _ => deed.record(session),
        })
    }

    /// Returns a request of the sign-in page, whether or not its cookie opens a session.
    pub(crate) fn click(
        &self,
        id: Option<&SessionId>,
        record: impl Fn(&Session) -> Result<(), SessionError> + 'static,
    ) -> Request {
        let (sessions, id) = (self.sessions.clone(), id.cloned());
        Box::pin(async move {
            let cookie = id.as_ref().map(|id| id.expose().as_bytes());
            let session = match sessions.open(cookie).await {
                Ok(session) => session,
                Err(error) => return Answer::Told(Err(error)),
            };
            record(&session).unwrap();
            Answer::Told(session.finish().await)
        })
    }

    pub(crate) fn list(&self) -> Request {
        let sessions = self.sessions.clone();
        Box::pin(async move { Answer::Listed(sessions.list("ada").await.map(|list| list.len())) })
    }

    pub(crate) fn revoke_others(&self, id: &SessionId) -> Request {
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

    pub(crate) fn revoke_all(&self) -> Request {
        self.revoke_all_of("ada")
    }

    pub(crate) fn revoke_all_of(&self, owner: &'static str) -> Request {
        let sessions = self.sessions.clone();
        Box::pin(async move { Answer::Revoked(sessions.revoke_all(owner).await) })
    }

    pub(crate) fn revoke_linked(&self) -> Request {
        let sessions = self.sessions.clone();
        Box::pin(async move { Answer::Revoked(sessions.revoke_linked("sid", "1").await) })
    }

    pub(crate) fn revoke(&self, id: &SessionId) -> Request {
        let (sessions, key) = (self.sessions.clone(), id.key());
        Box::pin(async move { Answer::Revoked(sessions.revoke("ada", key).await.map(usize::from)) })
    }
}

/// The operation of a request on its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deed {
    Login,
    LinkedLogin,
    Link,
    Act,
    StopActing,
    Renew,
    Rotate,
    Write,
    Lengthen,
    Logout,
}

impl Deed {
    fn record(self, session: &Session) -> Result<(), SessionError> {
        match self {
            Self::Login => session.authenticate("ada"),
            Self::LinkedLogin => {
                session.authenticate("ada")?;
                session.link("sid", "1")
            }
            Self::Link => session.link("sid", "1"),
            Self::Act => session.act_as("grace", Duration::from_secs(1800)),
            Self::StopActing => session.stop_acting(),
            Self::Renew => session.renew(),
            Self::Rotate => session.rotate(),
            Self::Write => session.set(VISITS, 1),
            Self::Lengthen => session.set_lifetime(Lifetime::aal1()),
            Self::Logout => session.destroy(),
        }
    }
}

/// Returns the ID in a response to the browser.
pub(crate) fn told_id(answer: &Answer) -> Option<&SessionId> {
    match answer {
        Answer::Told(Ok(CookieChange::Set { id, .. })) => Some(id),
        _ => None,
    }
}
