//! The cookie of the client: the lookup's outcome, and the change that the response makes.

use std::sync::Arc;

use crate::{
    CookieChange, CookieLifetime, Record, SessionKey, Timestamp,
    protocol::{ClosedId, CookieLookup, Located, Unopened},
};

/// The facts about the client's cookie that decide the rights of the request and the response's
/// cookie.
pub(crate) struct ClientCookie {
    /// The session whose ID the response does not send, with the end of a persistent cookie. The
    /// client has the ID already, or must not receive the ID.
    known: Option<(SessionKey, Option<Timestamp>)>,
    pub(super) unopened: Vec<Unopened>,
    /// The browser may have a newer ID by the time of the response: only a login may begin a
    /// session.
    pub(super) is_late: bool,
    /// The cookie's ID, if a login or a rotation has closed it.
    pub(super) closed: Option<Arc<ClosedId>>,
    /// The request came with a cookie, but without a session.
    pub(super) is_unknown: bool,
    /// The session of the request is the one that its cookie opened.
    is_of_cookie: bool,
    /// The request has deleted the session of the cookie.
    pub(super) was_ended: bool,
    /// The cookie holds a former ID, and the request has not written under the present ID. By the
    /// time of the response, the present ID may be replaced too.
    pub(super) is_unchecked: bool,
}

impl ClientCookie {
    /// Takes the facts about the cookies out of the lookup.
    pub(super) fn new(lookup: &mut CookieLookup) -> Self {
        let located = lookup.located.as_ref();
        Self {
            // If the former ID opened the session, the response sends the present ID.
            known: located.filter(|located| located.is_presented).map(identity),
            unopened: std::mem::take(&mut lookup.unopened),
            is_late: lookup.is_late,
            closed: lookup.closed.take(),
            is_unknown: lookup.has_cookie && located.is_none() && !lookup.is_late,
            is_of_cookie: located.is_some(),
            was_ended: false,
            is_unchecked: located.is_some_and(|located| !located.is_presented),
        }
    }

    /// Returns the keys of the records that this version cannot read.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = SessionKey> {
        self.unopened.iter().filter(|cookie| cookie.is_unreadable).map(|cookie| cookie.key)
    }

    /// Returns the key of the session if the response may send the ID only after another load of
    /// the session.
    pub(super) fn unchecked_key(&self, located: &Located) -> Option<SessionKey> {
        let tells = || located.id.is_some() && self.known != Some(identity(located));
        (self.is_unchecked && tells()).then_some(located.key)
    }

    /// Returns the change that sends the session's ID to the client.
    pub(super) fn tell(&self, located: &Located, now: Timestamp) -> CookieChange {
        let Some(id) = &located.id else { return CookieChange::Keep };
        let (key, end) = identity(located);
        if self.is_unchecked || self.known == Some((key, end)) {
            return CookieChange::Keep;
        }
        CookieChange::Set { id: id.clone(), max_age: end.map(|end| end.since(now)) }
    }

    /// Suppresses the cookie of a session whose ID another request has replaced.
    pub(super) fn hide(&mut self, located: &Located) {
        self.known = Some(identity(located));
    }

    /// Resets the facts about a replaced ID, so that a request may begin a new session after
    /// `destroy`.
    pub(super) fn give_up_former(&mut self) {
        self.is_late = false;
        self.closed = None;
    }

    /// Records the deletion of a key. `was_there`: the key held a session. `is_own`: the session of the
    /// request was under the key.
    pub(super) fn key_deleted(&mut self, key: SessionKey, was_there: bool, is_own: bool) {
        // The client has not received the ID of a session that the request itself created.
        let is_of_cookie = !is_own || std::mem::take(&mut self.is_of_cookie);
        self.unopened.retain(|cookie| cookie.key != key);
        // Of two concurrent logouts, only the one that deleted the session removes the cookie. The
        // browser may hold a newer cookie by the time the other response arrives.
        self.was_ended |= was_there && is_of_cookie;
    }
}

fn identity(located: &Located) -> (SessionKey, Option<Timestamp>) {
    (located.key, cookie_end(&located.record))
}

/// Returns the end of a persistent cookie: the absolute deadline of its session.
fn cookie_end(record: &Record) -> Option<Timestamp> {
    match record.lifetime.cookie() {
        CookieLifetime::Browser => None,
        CookieLifetime::Persistent => Some(record.absolute_deadline()),
    }
}
