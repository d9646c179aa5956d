//! A request, as a server handles it.

use std::{sync::Arc, time::Duration};

use session_core::{
    CookieChange, Key, Lifetime, Lock, Owner, Session, SessionId, SessionInfo, Sessions,
};

use super::{
    ledger::{Change, Which},
    plan::{Deed, NAMES},
    view::View,
    wire::World,
};

/// All that a server needs to know to handle a request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) world: Arc<World>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) number: usize,
    pub(super) cookies: Vec<SessionId>,
    pub(super) deeds: Vec<Deed>,
    pub(super) lifetimes: [Lifetime; 3],
}

impl Request {
    /// Handles the request, and says what its response does to the cookie.
    pub(super) async fn handle(self) -> CookieChange {
        let cookies = self.cookies.iter().map(|id| id.expose().as_bytes());
        let session = match self.sessions.open(cookies).await {
            Ok(session) => session,
            Err(error) => {
                self.world.ledger().open_failed(self.number, &error);
                return CookieChange::Keep;
            }
        };
        self.world.ledger().opened(self.number, &View::of(&session));
        let mut held = None;
        for (at, deed) in self.deeds.iter().enumerate() {
            match deed {
                Deed::Lock => self.lock(&session, &mut held).await,
                Deed::Unlock => self.unlock(&session, &mut held).await,
                _ => self.perform(&session, *deed, at).await,
            }
        }
        self.world.ledger().finishing(self.number);
        let result = match session.finish_without_io() {
            Some(change) => Ok(change),
            None => session.finish().await,
        };
        let view = View::of(&session);
        self.world.ledger().finished(self.number, result.as_ref(), &view);
        result.unwrap_or_else(|_| session.untold_cookie())
    }

    async fn perform(&self, session: &Session, deed: Deed, at: usize) {
        let key = |slot: usize| Key::<u64>::new(NAMES[slot]);
        let (change, effective) = match deed {
            Deed::Set(slot) => {
                // No two requests write the same.
                let value = (self.number * 100 + at + 1_000) as u64;
                session.set(key(slot), &value).expect(FITS);
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
                let present = !session.names().is_empty();
                session.clear().expect(FITS);
                (Change::Clear, present)
            }
            Deed::Authenticate(owner) => {
                let owner = self.owner(owner);
                session.authenticate(owner.clone()).expect(FITS);
                (Change::Authenticate(owner), true)
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
                let new = session.created_at().is_none() || session.lifetime() != lifetime;
                session.set_lifetime(lifetime).expect(FITS);
                (Change::SetLifetime(lifetime), new)
            }
            Deed::Destroy => {
                session.destroy().expect(FITS);
                return self.world.ledger().destroyed(self.number);
            }
            Deed::List(owner) => return self.list(owner).await,
            Deed::EndAll(owner) => {
                let owner = self.owner(owner);
                self.world.ledger().revoking(self.number, owner.clone(), Which::All);
                let result = self.sessions.end_all(owner).await;
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

    /// Who does not get the lock goes on without: it binds those who have it.
    async fn lock(&self, session: &Session, held: &mut Option<Lock>) {
        if held.is_some() {
            return;
        }
        self.world.ledger().locking(self.number);
        let result = session.lock(Duration::ZERO).await;
        let leased = result.as_ref().map(|lock| lock.expires_at().is_some());
        self.world.ledger().locked(self.number, leased);
        *held = result.ok();
    }

    async fn unlock(&self, session: &Session, held: &mut Option<Lock>) {
        let Some(lock) = held.take() else { return };
        self.world.ledger().attempt(self.number);
        let result = lock.release().await;
        let view = View::of(session);
        self.world.ledger().attempted(self.number, result.as_ref().copied(), &view);
        self.world.ledger().unlocked(self.number);
    }

    async fn list(&self, owner: u8) {
        let owner = self.owner(owner);
        self.world.ledger().revoking(self.number, owner.clone(), Which::Listed);
        if let Ok(list) = self.sessions.of(owner).await {
            let keys: Vec<_> = list.iter().map(SessionInfo::key).collect();
            self.world.ledger().listed(self.number, &keys);
        }
    }

    async fn end_others(&self, session: &Session) {
        // It commits first, which is noted as a commit of its own.
        if !self.commit(session).await {
            return;
        }
        let Some(owner) = session.owner() else { return };
        self.world.ledger().revoking(self.number, owner, Which::Others);
        let result = self.sessions.end_others(session).await;
        self.world.ledger().revoked(self.number, &result);
    }

    async fn end_one(&self, session: &Session, which: u64) {
        let key = self.world.ledger().some_key(which);
        let (Some(owner), Some(key)) = (session.owner(), key) else { return };
        self.world.ledger().revoking(self.number, owner.clone(), Which::One(key));
        let result = self.sessions.end_one(owner, key).await.map(usize::from);
        self.world.ledger().revoked(self.number, &result);
    }

    fn owner(&self, number: u8) -> Owner {
        Owner::from(format!("{}-{number}", self.world.seed))
    }
}
const FITS: &str = "the response has not begun, and numbers fit";
