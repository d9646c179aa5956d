//! The state of one request's session.
//!
//! Three facts, each an enum:
//!
//! ```text
//! place    New ──commit──▶ At(located) ──destroy()──▶ Leaving(located) ──commit──▶ New
//!                               ▲                            │
//!                               └─────────discard()──────────┘
//!
//! draft    Unchanged ──a change──▶ Exact(record) ──commit while a clone made changes──▶ Preview(record)
//!          The changes are in the log. A preview is replayed before it is stored.
//!
//! phase    Open ──commit()──▶ Committing ──the store has answered──▶ Open
//!                                 │ the answer is lost, or the future was dropped
//!                                 ▼
//!                            Unconfirmed ──discard()──▶ Open
//! ```
//!
//! A commit takes the log. After a success, the log is dropped. If the store has certainly not
//! carried out the commit, the log returns to its place, before the changes of the meantime.

mod steps;

use std::sync::Arc;

use super::{client_cookie::ClientCookie, log::Log};
use crate::{
    CookieChange, Lifetime, Limits, Nonce, Record, SessionError, SessionKey, Timestamp,
    protocol::{CookieLookup, Located, Protocol},
    record::{Change, Links, too_large},
};

/// The session of a request: the request's knowledge, and its changes.
pub(crate) struct State {
    pub(crate) place: Place,
    draft: Draft,
    log: Log,
    phase: Phase,
    pub(crate) cookie: ClientCookie,
    /// Keys beside the session's own that the next commit deletes.
    pending_deletes: Vec<SessionKey>,
    pub(super) lock: Lock,
    pub(crate) chosen: Chosen,
    source: Source,
    /// The changes belong to a connection: see [`CookieLookup::is_connection`].
    is_connection: bool,
    /// The request has changed the store, or may have, apart from the commit under way.
    pub(crate) has_written: bool,
    /// The response has begun, or the request was dropped.
    pub(crate) is_closed: bool,
    /// The request was dropped with uncommitted changes.
    pub(crate) has_lost_changes: bool,
    /// The last commit of the handler has failed, and its changes were not discarded.
    pub(crate) has_failed_commit: bool,
}

/// The lifetime, the end and the links that the request has set, in whatever commit. They belong to
/// the session that a later login of the request begins.
#[derive(Clone, Default)]
pub(crate) struct Chosen {
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) end: Option<Timestamp>,
    pub(crate) links: Links,
}

impl Chosen {
    fn note(&mut self, change: &Change) {
        match change {
            Change::SetLifetime(lifetime) => self.lifetime = Some(*lifetime),
            Change::EndBy(at) => self.end = Some(self.end.map_or(*at, |end| end.min(*at))),
            Change::Link(link) => self.links.add(*link),
            _ => {}
        }
    }
}

/// The place of the session in the store.
pub(crate) enum Place {
    /// The session is not stored.
    New,
    At(Located),
    /// The session is stored, and the next commit deletes it.
    Leaving(Located),
}

/// The origin of the record that this request sees.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Source {
    /// The store, when the record was read or written.
    Store,
    /// A copy that may be out of date.
    Copy,
    /// The request itself: another request's login or rotation hides the stored session.
    Overtaken,
}

/// The session with the uncommitted changes.
enum Draft {
    Unchanged,
    /// The record of the place, with the whole log applied.
    Exact(Arc<Record>),
    /// The record of the place has changed since. The draft shows each change with its former
    /// result.
    Preview(Arc<Record>),
}

enum Phase {
    Open,
    Committing(Fate),
    /// The outcome of a commit is unknown.
    Unconfirmed,
}

/// The treatment of a commit's changes and session after the store's answer.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    /// The answer decides.
    Normal,
    /// The request has discarded the changes: they do not return to the log.
    Discard,
    /// The request destroyed its session meanwhile.
    Destroy,
}

/// The request's hold on the session's lock. The fencing token guards the request's commits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Lock {
    None,
    /// The work under the lock is running.
    Held(Nonce),
    /// The work was cancelled. Its changes count until the lease lapses.
    Cancelled(Nonce),
}

impl State {
    pub(crate) fn new(mut lookup: CookieLookup) -> Self {
        let cookie = ClientCookie::new(&mut lookup);
        let CookieLookup { located, is_copy, is_connection, .. } = lookup;
        let source = if is_copy { Source::Copy } else { Source::Store };
        Self {
            place: located.map_or(Place::New, Place::At),
            draft: Draft::Unchanged,
            log: Log::default(),
            phase: Phase::Open,
            cookie,
            pending_deletes: Vec::new(),
            lock: Lock::None,
            chosen: Chosen::default(),
            source,
            is_connection,
            has_written: false,
            is_closed: false,
            has_lost_changes: false,
            has_failed_commit: false,
        }
    }

    /// Returns the session as this request sees it.
    pub(crate) fn view(&self) -> Option<&Arc<Record>> {
        match (&self.draft, &self.place) {
            (Draft::Exact(record) | Draft::Preview(record), _) => Some(record),
            (Draft::Unchanged, Place::At(located)) => Some(&located.record),
            (Draft::Unchanged, Place::New | Place::Leaving(_)) => None,
        }
    }

    /// Returns the stored session, unless the request has destroyed it.
    pub(crate) fn located(&self) -> Option<&Located> {
        match &self.place {
            Place::At(located) => Some(located),
            Place::New | Place::Leaving(_) => None,
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        self.view()?.values.get(name)
    }

    /// Returns `true` if both the stored record and the request's view have this value.
    pub(crate) fn is_stored_as(&self, name: &str, value: &[u8]) -> bool {
        self.located().is_some_and(|located| located.record.values.get(name) == Some(value))
            && self.value(name) == Some(value)
    }

    /// Returns a value of the stored session, as last read or written. Returns [`SessionError::Ended`]
    /// if another request's login or rotation hides the session.
    pub(super) fn stored_value(&self, name: &str) -> Result<Option<&[u8]>, SessionError> {
        if self.source == Source::Overtaken {
            return Err(SessionError::Ended);
        }
        Ok(self.located().and_then(|located| located.record.values.get(name)))
    }

    pub(crate) fn log(&self) -> &[Change] {
        &self.log.changes
    }

    /// Returns an error if one more change would exceed [`Limits::CHANGES`].
    pub(crate) fn check_room(&self) -> Result<(), SessionError> {
        if self.log.changes.len() >= Limits::CHANGES {
            return Err(too_large("the number of changes of a request", Limits::CHANGES));
        }
        Ok(())
    }

    /// Applies a change to the draft and logs the change. The caller has checked the change.
    ///
    /// A change that only confirms the request's view is logged for a replay beside other changes.
    /// If the view is of a copy that may be out of date, the change counts like any other. Returns
    /// the dropped changes.
    #[must_use]
    pub(crate) fn record(
        &mut self,
        protocol: &Protocol,
        change: Change,
        only_confirms: bool,
    ) -> Vec<Change> {
        self.chosen.note(&change);
        if change.is_login() {
            // The login ends the session of the cookie, even if this version cannot read the record.
            self.delete_unreadable();
        }
        if only_confirms && self.source == Source::Store {
            // Only this request knows the session, so that a confirmation is superfluous.
            let is_unknown = self.located().is_none() && !self.may_join();
            return if is_unknown { vec![change] } else { self.log.push(change) };
        }
        let mut draft = match std::mem::replace(&mut self.draft, Draft::Unchanged) {
            Draft::Exact(record) => Draft::Exact(record),
            Draft::Preview(record) => Draft::Preview(record),
            Draft::Unchanged => Draft::Exact(match self.located() {
                Some(located) => Arc::clone(&located.record),
                None => {
                    let lifetime = protocol.settings.anonymous_lifetime;
                    Arc::new(Record::new(protocol.now(), lifetime))
                }
            }),
        };
        if let Draft::Exact(record) | Draft::Preview(record) = &mut draft {
            change.preview(Arc::make_mut(record));
        }
        self.draft = draft;
        self.log.has_effect = true;
        self.log.push(change)
    }

    /// Destroys the session at the next commit, together with the other keys of the cookies.
    /// Returns the dropped changes.
    pub(crate) fn destroy(&mut self) -> impl Sized + use<> {
        self.place = match std::mem::replace(&mut self.place, Place::New) {
            Place::At(located) | Place::Leaving(located) => Place::Leaving(located),
            Place::New => Place::New,
        };
        if let Phase::Committing(fate) = &mut self.phase {
            *fate = Fate::Destroy;
        }
        self.chosen = Chosen::default();
        self.cookie.give_up_former();
        // Also of the missing ones: replicas may not have confirmed an earlier deletion, so that the
        // commit repeats it.
        add_all(&mut self.pending_deletes, self.cookie.unopened.iter().map(|cookie| cookie.key));
        self.take_changes()
    }

    /// Deletes, at the next commit, the sessions of the cookies that this version cannot read.
    pub(crate) fn delete_unreadable(&mut self) {
        add_all(&mut self.pending_deletes, self.cookie.unreadable());
    }

    /// Discards the changes and the destruction since the last commit. Returns the dropped changes.
    pub(crate) fn discard(&mut self) -> impl Sized + use<> {
        if let Place::Leaving(located) = &mut self.place {
            self.place = Place::At(located.clone());
        }
        match &mut self.phase {
            Phase::Committing(fate) => *fate = Fate::Discard,
            phase => *phase = Phase::Open,
        }
        self.pending_deletes.clear();
        self.chosen = Chosen::default();
        self.has_failed_commit = false;
        if let Lock::Cancelled(_) = self.lock {
            self.lock = Lock::None;
        }
        self.take_changes()
    }

    /// Closes the session of a dropped request, and discards its changes. Returns the dropped
    /// changes.
    pub(super) fn close(&mut self) -> impl Sized + use<> {
        self.is_closed = true;
        let is_in_doubt = !matches!(self.phase, Phase::Open);
        self.has_lost_changes |= self.log.has_effect || is_in_doubt || self.next_delete().is_some();
        self.discard()
    }

    /// Takes the changes out. The caller drops them outside the lock of the state, because they
    /// hold closures of the application.
    #[must_use]
    pub(super) fn take_changes(&mut self) -> impl Sized + use<> {
        (std::mem::replace(&mut self.draft, Draft::Unchanged), std::mem::take(&mut self.log))
    }

    /// Removes an invalid ID, so that the response does not send it to the client.
    pub(super) fn forget_id(&mut self) {
        if let Place::At(located) | Place::Leaving(located) = &mut self.place {
            located.id = None;
        }
    }

    pub(super) fn forget_lock(&mut self, token: Nonce) {
        if self.lock == Lock::Held(token) {
            self.lock = Lock::None;
        }
    }

    /// Records that the work under the lock was cancelled.
    pub(super) fn cancel_lock(&mut self, token: Nonce) {
        if self.lock == Lock::Held(token) {
            self.lock = Lock::Cancelled(token);
        }
    }

    /// Takes out the changes that only confirm the stored session. A replay of them in a later
    /// commit would undo newer changes of other requests (I1). If the request may still join the
    /// session of another login, the changes stay: the request has not seen that session.
    #[must_use]
    pub(super) fn take_confirmed(&mut self) -> impl Sized + use<> {
        let stays = self.log.has_effect || self.may_join();
        if stays { Log::default() } else { std::mem::take(&mut self.log) }
    }

    /// Returns `true` if a login of this request may join the session of an earlier login.
    fn may_join(&self) -> bool {
        self.located().is_none() && self.cookie.closed.is_some()
    }

    /// Returns `true` if the key certainly held a session. `may_be_found`: the deletion may have
    /// found a session.
    pub(super) fn is_known(&self, key: SessionKey, may_be_found: bool) -> bool {
        let is_own = matches!(&self.place, Place::Leaving(located) if located.key == key);
        (is_own && may_be_found) || self.cookie.unreadable().any(|unreadable| unreadable == key)
    }

    /// Returns `true` if the request has changed the store, or may have.
    pub(crate) fn has_written(&self) -> bool {
        self.has_written || !matches!(self.phase, Phase::Open)
    }

    /// Returns `true` if a commit is unnecessary.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Open)
            && !self.log.has_effect
            && !matches!(self.place, Place::Leaving(_))
            && self.pending_deletes.is_empty()
            && self.lock == Lock::None
    }

    /// Returns the next key that the commit deletes, and its record if known.
    pub(super) fn next_delete(&self) -> Option<(SessionKey, Option<Arc<Record>>)> {
        match &self.place {
            Place::Leaving(located) => Some((located.key, Some(Arc::clone(&located.record)))),
            Place::New | Place::At(_) => Some((*self.pending_deletes.first()?, None)),
        }
    }
}

// The response's cookie.
impl State {
    /// Returns the session's key if the response may send the ID only after another load of the
    /// session.
    pub(super) fn unchecked_key(&self) -> Option<SessionKey> {
        self.cookie.unchecked_key(self.located()?)
    }

    /// Records the store's answer about an [unchecked key](Self::unchecked_key).
    pub(super) fn key_checked(&mut self, is_there: bool) {
        self.cookie.is_unchecked = false;
        if !is_there {
            self.forget_id();
        }
    }

    /// Returns the change that the response makes to the client's cookie.
    pub(crate) fn cookie_change(&self, now: Timestamp) -> CookieChange {
        match self.pending_cookie(now) {
            CookieChange::Keep if matches!(self.place, Place::New) && self.cookie.was_ended => {
                CookieChange::Remove
            }
            change => change,
        }
    }

    /// Returns the cookie to set, if the client does not have this cookie yet.
    pub(crate) fn pending_cookie(&self, now: Timestamp) -> CookieChange {
        self.located().map_or(CookieChange::Keep, |located| self.cookie.tell(located, now))
    }
}

impl Lock {
    fn token(self) -> Option<Nonce> {
        match self {
            Self::None => None,
            Self::Held(token) | Self::Cancelled(token) => Some(token),
        }
    }
}

fn add_all(list: &mut Vec<SessionKey>, keys: impl IntoIterator<Item = SessionKey>) {
    for key in keys {
        if !list.contains(&key) {
            list.push(key);
        }
    }
}
