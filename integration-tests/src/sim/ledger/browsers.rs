//! Checks the cookie of each browser against the responses that replace it.
//!
//! A browser keeps the cookie of the last response to arrive (the limits of I4). As long as the former
//! ID opens a live session, the browser still needs it, and the response that replaces it keeps these
//! rules:
//!
//! - A removal comes from a request that ended the session of its own cookie within 5 minutes. Before
//!   that end, no request with a cookie of the same session received the former ID in its response.
//! - An ID replaces another one of its session only if it opened the session when the request's handler
//!   finished, or made its last commit. After two simultaneous logins or rotations, a slow network may
//!   leave the browser signed out.
//! - For 30 seconds after a login or a rotation, a request with the old ID begins no new session, unless
//!   the request signs in, or has ended the session before. A new session would replace the cookie of
//!   the login.
//!
//! Two cookies of unrelated sessions may replace each other.

use std::time::Duration;

use session_core::{Clock as _, CookieChange, SessionKey, Sessions};

use super::Ledger;

/// The cookie of a browser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookie {
    key: SessionKey,
    /// The request whose response set the cookie.
    by: usize,
}

impl Ledger {
    /// Notes that a response arrives at a browser.
    pub(crate) fn arrived(&mut self, browser: usize, number: usize, change: &CookieChange) {
        let former = self.cookies.get(&browser).copied();
        let new = match change {
            CookieChange::Keep => return,
            CookieChange::Set { id, .. } => Some(id.key()),
            CookieChange::Remove => None,
        };
        if let Some(former) = former
            && new != Some(former.key)
            && self.must_open(former.key, self.clock.now())
        {
            self.counters.cookies_replaced += 1;
            match new {
                None => self.check_removal(number, former),
                Some(new) if self.life_of.get(&new) == self.life_of.get(&former.key) => {
                    self.check_same_session(number, new);
                }
                Some(_) => self.check_other_session(number, former.key),
            }
        }
        match new {
            Some(key) => self.cookies.insert(browser, Cookie { key, by: number }),
            None => self.cookies.remove(&browser),
        };
    }

    /// The request of a removal has ended a session, see `check_cookie`. `former` is of one that goes on.
    fn check_removal(&mut self, number: usize, former: Cookie) {
        let request = &self.requests[&number];
        if request.latest.since(request.earliest) >= Sessions::ROTATION_WINDOW {
            return;
        }
        let told = &self.requests[&former.by];
        let told_life = told.presented.and_then(|key| self.life_of.get(&key));
        let took = request.ever_doomed.iter().any(|life| {
            let is_before = self.lives[*life].end.is_none_or(|end| told.finished_at < end);
            let is_same = self.life_of.get(&former.key) == Some(life);
            let is_led = told_life == Some(life) && !self.may_begin(former.by, *life);
            is_before && (is_same || is_led)
        });
        if took {
            self.violate("I4", || "a removal takes the ID of a session that goes on".into());
        }
    }

    fn check_same_session(&mut self, number: usize, new: SessionKey) {
        let life = &self.lives[self.life_of[&new]];
        let request = &self.requests[&number];
        let shown_at = request.stored_at.unwrap_or(request.finishing_at);
        let index = life.index_of(new).unwrap_or_default();
        let mut moves = life.places[index..].iter().filter_map(|place| place.moved.as_ref());
        if moves.any(|moved| !moved.is_renewal && moved.at < shown_at) {
            self.violate("I4", || "a closed ID replaces the present one of its session".into());
        }
    }

    /// The session of `former` is replaced by another one.
    fn check_other_session(&mut self, number: usize, former: SessionKey) {
        let life = self.life_of[&former];
        let presented = self.requests[&number].presented;
        let is_led = presented.is_some_and(|key| self.lives[life].index_of(key).is_some());
        if is_led && !self.may_begin(number, life) {
            self.violate("I4", || {
                "a late request begins a session in place of the one that has moved".into()
            });
        }
    }

    /// Returns `true` if a request whose cookie is of a session may begin another one.
    fn may_begin(&self, number: usize, life: usize) -> bool {
        let (request, life) = (&self.requests[&number], &self.lives[life]);
        let signs_in = request.log.iter().any(|logged| logged.is_login() && logged.applied > 0);
        let from = request.presented.and_then(|key| life.index_of(key)).unwrap_or_default();
        let mut hops = life.places[from..].windows(2);
        let closing = hops.find_map(|hop| {
            let moved = hop[0].moved.as_ref()?;
            // An ID that was renewed away long ago is out of use, whatever happened to later IDs.
            let is_reused = hop[1].presented.is_some_and(|at| at + LATENESS <= request.latest);
            match (moved.is_renewal, is_reused) {
                (true, false) => None,
                (true, true) => Some(None),
                (false, _) => Some(Some(moved)),
            }
        });
        let is_late = closing.flatten().is_some_and(|moved| {
            request.latest + Sessions::ROTATION_WINDOW < moved.forgotten_at + LATENESS
        });
        signs_in || request.wants_fresh || !is_late
    }
}

/// The time for which a request whose ID was closed begins no session of its own.
const LATENESS: Duration = Duration::from_secs(30);
