//! The cookie of the client: what it opened, and what the response says about it.

use std::sync::Arc;

use crate::{
    CookieChange, CookieLifetime, Record, SessionKey, Timestamp,
    protocol::{ClosedId, CookieLookup, Located},
};

/// The cookie of the client, as far as it decides what the request may do and what the response says.
pub(crate) struct ClientCookie {
    /// The session whose ID the client has or must not be told, with the end of a persistent cookie.
    known: Option<(SessionKey, Option<Timestamp>)>,
    /// The keys of the cookies that open nothing.
    pub(super) missing: Vec<SessionKey>,
    /// The keys of the records that this version cannot read.
    pub(super) unreadable: Vec<SessionKey>,
    /// The browser may have a newer ID by the time of the response: the request begins no session.
    pub(super) is_late: bool,
    /// The cookie's ID, if a login or a rotation has closed it.
    pub(super) closed: Option<Arc<ClosedId>>,
    /// The request came with a cookie that opens nothing.
    pub(super) is_unknown: bool,
    /// The request has ended the session of the cookie.
    pub(super) was_ended: bool,
    /// The cookie holds a former ID, and the request has not stored anything under the present one.
    /// By the time of the response, that may be a former one too.
    pub(super) is_unchecked: bool,
}

impl ClientCookie {
    /// Takes what it needs out of the lookup.
    pub(super) fn new(lookup: &mut CookieLookup) -> Self {
        let located = lookup.located.as_ref();
        Self {
            // A session that was opened by its former ID has to be told to the client again.
            known: located.filter(|located| located.is_presented).map(identity),
            missing: std::mem::take(&mut lookup.missing),
            unreadable: std::mem::take(&mut lookup.unreadable),
            is_late: lookup.is_late,
            closed: lookup.closed.take(),
            is_unknown: lookup.has_cookie && located.is_none() && !lookup.is_late,
            was_ended: false,
            is_unchecked: located.is_some_and(|located| !located.is_presented),
        }
    }

    /// Returns the key of the session if the client must not be told its ID until the store has shown
    /// that the session is still there.
    pub(super) fn unchecked_key(&self, located: &Located) -> Option<SessionKey> {
        (self.is_unchecked && located.id.is_some()).then_some(located.key)
    }

    /// Returns the cookie that tells the client the ID of its session.
    pub(super) fn tell(&self, located: &Located, now: Timestamp) -> CookieChange {
        let Some(id) = &located.id else { return CookieChange::Keep };
        let (key, end) = identity(located);
        if self.is_unchecked || self.known == Some((key, end)) {
            return CookieChange::Keep;
        }
        CookieChange::Set { id: id.clone(), max_age: end.map(|end| end.since(now)) }
    }

    /// Tells the client nothing of a session whose ID another request has replaced.
    pub(super) fn hide(&mut self, located: &Located) {
        self.known = Some(identity(located));
    }

    /// Forgets the session that the cookie led to: a request that ends it wants a fresh one.
    pub(super) fn give_up_former(&mut self) {
        self.is_late = false;
        self.closed = None;
    }

    /// Notes the deletion of a key. `was_there`: it held a session.
    pub(super) fn key_deleted(&mut self, key: SessionKey, was_there: bool) {
        self.unreadable.retain(|unreadable| *unreadable != key);
        // Of two logouts one ends the session. By the time the other's response arrives, the
        // browser may hold a newer cookie.
        self.was_ended |= was_there;
    }
}

fn identity(located: &Located) -> (SessionKey, Option<Timestamp>) {
    (located.key, cookie_end(&located.record))
}

/// The end of a persistent cookie, by the session that it opens.
fn cookie_end(record: &Record) -> Option<Timestamp> {
    match record.lifetime.cookie() {
        CookieLifetime::Browser => None,
        CookieLifetime::Persistent => Some(record.absolute_deadline()),
    }
}
