use std::sync::Arc;

use crate::{
    CookieChange, CookieLifetime, Limits, Record, SessionError, SessionKey, Timestamp,
    change::Change,
    lease::{Hold, Standing},
    sessions::{Home, Presented},
    values,
};

/// What a request knows of its session, and wants of it.
pub(crate) struct State {
    /// Where the session is stored; nowhere yet, if nothing was ever written.
    pub(crate) home: Option<Home>,
    /// The session with all changes of the log done to it.
    pub(crate) draft: Option<Arc<Record>>,
    /// The draft is of an older session than the one at home: a commit stored a part of the log.
    pub(crate) stale: bool,
    pub(crate) log: Vec<Arc<Change>>,
    /// The log holds something worth a commit. What only confirms what is stored is replayed with the
    /// rest, but is no reason to write.
    pub(crate) dirty: bool,
    /// Sessions that this request ended.
    pub(crate) doomed: Vec<SessionKey>,
    /// The home of the first of them, in case the request thinks better of it.
    pub(crate) left: Option<Home>,
    /// How often the request ended its session, so that a commit under way notices.
    pub(crate) endings: u32,
    /// How often it had when the present commit began.
    pub(crate) endings_at_commit: u32,
    /// What the cookies name and this version cannot read: no session to use, but one to end.
    pub(crate) unreadable: Vec<SessionKey>,
    /// What the cookies name and nothing is stored under.
    pub(crate) missing: Vec<SessionKey>,
    pub(crate) presented: Presented,
    /// The request came with an ID that opened nothing.
    pub(crate) opened_nothing: bool,
    /// The lock that the request holds, wants, or dropped and has not released yet.
    pub(crate) hold: Option<Hold>,
    /// The client has to be told the ID.
    pub(crate) tell: bool,
    /// A commit began whose outcome is not known (yet).
    pub(crate) unconfirmed: bool,
    /// The request has changed something in the store, or may have.
    pub(crate) changed: bool,
    pub(crate) closed: bool,
}

impl State {
    pub(crate) fn empty(presented: Presented) -> Self {
        Self {
            home: None,
            draft: None,
            stale: false,
            log: Vec::new(),
            dirty: false,
            doomed: Vec::new(),
            left: None,
            endings: 0,
            endings_at_commit: 0,
            unreadable: Vec::new(),
            missing: Vec::new(),
            presented,
            opened_nothing: false,
            hold: None,
            tell: false,
            unconfirmed: false,
            changed: false,
            closed: false,
        }
    }

    /// The session as this request sees it.
    pub(crate) fn view(&self) -> Option<&Arc<Record>> {
        self.draft.as_ref().or_else(|| self.home.as_ref().map(|home| &home.record))
    }

    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        self.view()?.values.get(name)
    }

    /// Tells whether this is the value that is stored, and the one that this request sees.
    pub(crate) fn is_stored_as(&self, name: &str, value: &[u8]) -> bool {
        self.home.as_ref().is_some_and(|home| home.record.values.get(name) == Some(value))
            && (self.draft.is_none() || self.value(name) == Some(value))
    }

    /// Refuses more changes than a request may record.
    pub(crate) fn check_room(&self, more: usize) -> Result<(), SessionError> {
        if self.log.len() + more > Limits::CHANGES {
            return Err(values::too_large("the number of changes of a request", Limits::CHANGES));
        }
        Ok(())
    }

    /// Adds a change to the log, and drops those that it makes pointless.
    pub(crate) fn log(&mut self, change: Change) {
        if let Change::Set { name, .. } | Change::Remove { name } = &change {
            self.log.retain(|earlier| earlier.name() != Some(name));
        }
        self.log.push(Arc::new(change));
    }

    pub(crate) fn doom_unreadable(&mut self) {
        doom(&mut self.doomed, &self.unreadable);
    }

    pub(crate) fn doom_missing(&mut self) {
        doom(&mut self.doomed, &self.missing);
    }

    pub(crate) fn forget_changes(&mut self) {
        self.draft = None;
        self.stale = false;
        self.log.clear();
        self.dirty = false;
    }

    /// Forgets a lock that was released, unless a clone waits for it by now.
    pub(crate) fn end_hold(&mut self) {
        match &mut self.hold {
            Some(hold) if hold.standing == Standing::Wanted => {
                (hold.leased, hold.lost) = (false, false);
            }
            _ => self.hold = None,
        }
    }

    /// Forgets a lock that was dropped and needs no release, if nothing is left to be stored of what was
    /// recorded under it.
    pub(crate) fn settle_hold(&mut self, now: Timestamp) {
        let home = self.home.as_ref().or(self.left.as_ref());
        let lease = home.and_then(|home| home.record.lease);
        let dirty = self.dirty;
        self.hold.take_if(|hold| {
            let has_ended =
                lease.is_none_or(|lease| lease.token != hold.token || !lease.is_live(now));
            hold.standing == Standing::Dropped
                && (!hold.leased || (!dirty && (hold.lost || has_ended)))
        });
    }

    /// What the client's cookie has to become.
    pub(crate) fn cookie(&self, now: Timestamp) -> CookieChange {
        match (self.untold(now), &self.home, self.presented) {
            (CookieChange::Keep, None, Presented::Dead) => CookieChange::Remove,
            (change, ..) => change,
        }
    }

    /// The ID, if the client does not know it yet.
    pub(crate) fn untold(&self, now: Timestamp) -> CookieChange {
        match &self.home {
            Some(Home { id: Some(id), record, .. }) if self.tell => {
                let max_age = match record.lifetime.cookie() {
                    CookieLifetime::Browser => None,
                    CookieLifetime::Persistent => Some(record.absolute_deadline().since(now)),
                };
                CookieChange::Set { id: id.clone(), max_age }
            }
            _ => CookieChange::Keep,
        }
    }
}

fn doom(doomed: &mut Vec<SessionKey>, keys: &[SessionKey]) {
    for key in keys {
        if !doomed.contains(key) {
            doomed.push(*key);
        }
    }
}
