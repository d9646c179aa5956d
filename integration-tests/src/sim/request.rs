//! A request, from the view of the server that handles it.

use std::{sync::Arc, time::Duration};

use session_core::{
    Clock as _, CookieChange, IndexKey, Key, Lifetime, Owner, Session, SessionError, SessionId,
    SessionInfo, Sessions,
};

use super::{
    broken::Broken,
    ledger::{Change, Which},
    plan::{Deed, LinkName, NAMES},
    view::{User, View},
    wire::World,
};

/// All inputs of a server for one request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) world: Arc<World>,
    pub(super) sessions: Sessions,
    pub(super) number: usize,
    pub(super) cookies: Vec<SessionId>,
    pub(super) deeds: Vec<Deed>,
    pub(super) lifetimes: [Lifetime; 3],
}

impl Request {
    /// Handles the request, and returns the cookie change of its response.
    pub(super) async fn handle(self) -> CookieChange {
        let cookies = self.cookies.iter().map(|id| id.expose().as_bytes());
        let session = match self.sessions.open(cookies).await {
            Ok(session) => session,
            Err(error) => {
                self.world.ledger().open_failed(self.number, &error);
                return CookieChange::Keep;
            }
        };
        let opens_nothing = session.key().is_none();
        self.world.ledger().opened(self.number, &View::of(&session));
        let mut at = 0;
        while at < self.deeds.len() {
            at = match self.deeds[at] {
                Deed::Lock => self.locked(&session, at + 1).await,
                deed => {
                    self.perform(&session, deed, at).await;
                    at + 1
                }
            };
        }
        self.world.ledger().finishing(self.number);
        let mut result = match session.try_finish() {
            Some(change) => Ok(change),
            None => session.finish().await,
        };
        let view = View::of(&session);
        if self.world.broken == Some(Broken::RemovesUnknownCookie)
            && opens_nothing
            && !self.cookies.is_empty()
            && view.key.is_none()
        {
            result = result.map(|_| CookieChange::Remove);
        }
        self.world.ledger().finished(self.number, result.as_ref(), &view);
        result.unwrap_or_else(|_| session.pending_cookie())
    }

    async fn perform(&self, session: &Session, deed: Deed, at: usize) {
        let key = |slot: usize| Key::<u64>::new(NAMES[slot]);
        let now = self.world.clock.now();
        let (change, effective) = match deed {
            Deed::Set(slot) => {
                // Every request writes different values.
                let value = (self.number * 100 + at + 1_000) as u64;
                session.set(key(slot), value).expect(FITS);
                (Change::Set(slot, value), true)
            }
            Deed::Increment(slot) => {
                session.update(key(slot), |count| *count += 1).expect(FITS);
                (Change::Increment(slot), true)
            }
            Deed::Remove(slot) => {
                let present = session.contains(key(slot));
                session.remove(key(slot)).expect(FITS);
                (Change::Remove(slot), present)
            }
            Deed::Take(slot) => {
                let taken = session.take(key(slot)).expect(FITS);
                (Change::Remove(slot), taken.is_some())
            }
            Deed::Clear => {
                let seen = View::of(session).values.map(|value| value.is_some());
                session.clear().expect(FITS);
                (Change::Clear(seen), seen.contains(&true))
            }
            Deed::Authenticate(owner) => {
                let owner = self.owner(owner);
                session.authenticate(owner.clone()).expect(FITS);
                (Change::login(owner, now, None), true)
            }
            Deed::LinkedLogin(owner, link) => {
                let (owner, link) = (self.owner(owner), LinkName::Shared(link));
                session.authenticate(owner.clone()).expect(FITS);
                let link = self.link(session, link);
                (Change::login(owner, now, link), true)
            }
            Deed::Link => {
                let name = LinkName::Own(self.number * 100 + at);
                let Some(link) = self.link(session, name) else { return };
                self.world.ledger().linked(name);
                (Change::Link(link), true)
            }
            Deed::ActAs(user, time) => {
                let user = self.owner(user);
                let [lifetime, ..] = self.lifetimes;
                let time = [lifetime.idle() / 2, lifetime.absolute(), Duration::ZERO][time];
                let until = now + time;
                let User { owner, actor } = View::of(session).user;
                let may_act = actor.is_none() && owner.is_some_and(|owner| owner != user);
                let does_act = session.act_as(user.clone(), time).is_ok();
                self.world.ledger().asked_to_act(may_act, does_act);
                if !does_act {
                    return;
                }
                (Change::ActAs { user, until }, true)
            }
            Deed::StopActing => {
                let acted = session.actor().is_some();
                session.stop_acting().expect(FITS);
                if !acted {
                    return;
                }
                (Change::StopActing, true)
            }
            Deed::Rotate => {
                session.rotate().expect(FITS);
                if session.key().is_none() {
                    return;
                }
                (Change::Rotate, true)
            }
            Deed::Renew => {
                session.renew().expect(FITS);
                if session.key().is_none() {
                    return;
                }
                (Change::Renew, true)
            }
            Deed::SetLifetime(which) => {
                let lifetime = self.lifetimes[which];
                let is_new = session.created_at().is_none();
                let before = session.lifetime();
                session.set_lifetime(lifetime).expect(FITS);
                // The lifetime of an impersonation is shortened to that of the login.
                (Change::SetLifetime(lifetime), is_new || session.lifetime() != before)
            }
            Deed::Destroy => {
                session.destroy().expect(FITS);
                return self.world.ledger().destroyed(self.number);
            }
            Deed::List(owner) => {
                let owner = self.owner(owner);
                self.world.ledger().revoking(self.number, owner.key(), Which::Listed);
                return self.listed(self.sessions.list(owner).await);
            }
            Deed::ListLinked(link) => {
                let (value, key) = self.link_value(link);
                self.world.ledger().revoking(self.number, key, Which::Listed);
                return self.listed(self.sessions.list_linked(LINK, value).await);
            }
            Deed::EndAll(owner) => {
                let owner = self.owner(owner);
                self.world.ledger().revoking(self.number, owner.key(), Which::All);
                let result = self.sessions.revoke_all(owner).await;
                return self.world.ledger().revoked(self.number, &result);
            }
            Deed::EndLinked(link) => {
                let (value, key) = self.link_value(link);
                self.world.ledger().revoking(self.number, key, Which::All);
                let result = self.sessions.revoke_linked(LINK, value).await;
                return self.world.ledger().revoked(self.number, &result);
            }
            Deed::EndOthers => return self.end_others(session).await,
            Deed::EndOne(which) => return self.end_one(session, which).await,
            Deed::Commit => {
                self.commit(session).await;
                return;
            }
            Deed::Lock | Deed::Unlock => return,
            Deed::Discard => {
                session.discard();
                return self.world.ledger().discarded(self.number, &View::of(session));
            }
        };
        self.world.ledger().recorded(self.number, change, effective);
    }

    async fn commit(&self, session: &Session) -> bool {
        self.world.ledger().attempt(self.number);
        let result = session.commit().await;
        let view = View::of(session);
        self.world.ledger().attempted(self.number, result.as_ref().copied(), &view);
        result.is_ok()
    }

    /// Performs the deeds from `first` to the next `Unlock` under the session's lock. If the lock is
    /// held, the request goes on without it. Returns the place of the next deed.
    async fn locked(&self, session: &Session, first: usize) -> usize {
        let rest = &self.deeds[first..];
        let count = rest.iter().position(|deed| matches!(deed, Deed::Lock | Deed::Unlock));
        let end = first + count.unwrap_or(rest.len());
        if !self.commit(session).await {
            return first;
        }
        let is_leased = session.key().is_some();
        self.world.ledger().locking(self.number);
        let mut has_begun = false;
        let result: Result<(), SessionError> = session
            .locked(Duration::ZERO, async || {
                has_begun = true;
                self.world.ledger().locked(self.number, Ok(is_leased));
                for at in first..end {
                    self.perform(session, self.deeds[at], at).await;
                }
                self.world.ledger().attempt(self.number);
                Ok(())
            })
            .await;
        if !has_begun {
            let error = result.expect_err("without the lock the work does not begin");
            self.world.ledger().locked(self.number, Err(&error));
            return first;
        }
        let view = View::of(session);
        self.world.ledger().attempted(self.number, result.as_ref().copied(), &view);
        if result.is_err() {
            self.world.ledger().discarded(self.number, &view);
        }
        self.world.ledger().unlocked(self.number);
        end
    }

    fn listed(&self, list: Result<Vec<SessionInfo>, SessionError>) {
        if let Ok(list) = list {
            let keys: Vec<_> = list.iter().map(SessionInfo::key).collect();
            self.world.ledger().listed(self.number, &keys);
        }
    }

    async fn end_others(&self, session: &Session) {
        // `revoke_others` commits first, and the model needs a separate record of that commit.
        if !self.commit(session).await {
            return;
        }
        let Some(owner) = session.owner() else { return };
        self.world.ledger().revoking(self.number, owner.key(), Which::Others);
        let result = self.sessions.revoke_others(session).await;
        self.world.ledger().revoked(self.number, &result);
    }

    async fn end_one(&self, session: &Session, which: u64) {
        let key = self.world.ledger().some_key(which);
        let (Some(owner), Some(key)) = (session.owner(), key) else { return };
        self.world.ledger().revoking(self.number, owner.key(), Which::One(key));
        let result = self.sessions.revoke(owner, key).await.map(usize::from);
        self.world.ledger().revoked(self.number, &result);
    }

    fn owner(&self, number: u8) -> Owner {
        Owner::from(format!("{}-{number}", self.world.seed))
    }

    /// Links a session. Returns `None` if the session has as many links as possible.
    fn link(&self, session: &Session, name: LinkName) -> Option<IndexKey> {
        let (value, key) = self.link_value(name);
        match session.link(LINK, value) {
            Err(SessionError::TooLarge { .. }) => None,
            result => result.map(|()| Some(key)).expect(FITS),
        }
    }

    fn link_value(&self, name: LinkName) -> (String, IndexKey) {
        let value = match name {
            LinkName::Shared(number) => format!("{}-{number}", self.world.seed),
            LinkName::Own(number) => format!("{}-own-{number}", self.world.seed),
            LinkName::Any(which) => {
                let name = self.world.ledger().some_link(which);
                return self.link_value(name);
            }
        };
        let key = IndexKey::of_link(LINK, value.as_bytes()).expect(FITS);
        (value, key)
    }
}

const LINK: &str = "sid";
const FITS: &str = "the response has not begun, and numbers fit";
