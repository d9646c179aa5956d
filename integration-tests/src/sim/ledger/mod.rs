//! A model of each session's state, derived from the responses and from the commands in the order in
//! which the store applies them. At every step the model is compared with the store and the responses.
//!
//! A commit takes effect when the store changes the entry under a session's present key. A move takes
//! effect when the store writes the tombstone. At that instant the request's recorded changes are
//! applied to the model, and the stored state must equal the model: the comparison is exact for every
//! interleaving (I1, I6).

mod applied;
mod attempt;
mod browsers;
mod call;
mod finished;
mod holds;
mod life;
mod notes;
mod opened;
mod owners;
mod removed;
mod request;
mod rooms;
mod state;

pub(super) use call::Call;
pub(super) use owners::Which;
pub(super) use state::Change;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use session_core::{
    Clock as _, Entry, Lifetime, ManualClock, SessionId, SessionKey, Timestamp, testing::Verb,
};

use self::{
    browsers::Cookie,
    call::Attempt,
    holds::Held,
    life::{Life, Step},
    request::Request,
};
use super::{
    counters::Counters,
    plan::{Limit, LinkName},
    trace::{Names, Trace},
};

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) counters: Counters,
    pub(super) violation: Option<Violation>,
    clock: Arc<ManualClock>,
    start: Timestamp,
    /// The latest time of the clock so far.
    latest: Timestamp,
    rules: Rules,
    trace: Trace,
    step: Step,
    issued: BTreeMap<SessionKey, Issued>,
    /// IDs that clients presented and no server issued.
    made_up: BTreeSet<SessionKey>,
    stored: BTreeMap<SessionKey, Entry>,
    life_of: BTreeMap<SessionKey, usize>,
    lives: Vec<Life>,
    requests: BTreeMap<usize, Request>,
    holds: Vec<Held>,
    /// The names that deeds gave to their sessions.
    links: Vec<LinkName>,
    /// The cookie of each browser.
    cookies: BTreeMap<usize, Cookie>,
}

/// The settings of a history's sessions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) lifetime: Lifetime,
    pub(super) grace: Duration,
    pub(super) limit: Option<Limit>,
    /// The store contains readable IDs, which the model must detect.
    pub(super) keeps_ids: bool,
    /// A session that was found expired stays expired, even if the clock jumps back.
    pub(super) expiry_is_final: bool,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    /// The number of the invariant.
    pub(super) rule: &'static str,
    pub(super) text: String,
}

#[derive(Debug)]
struct Issued {
    id: SessionId,
    by: usize,
}

impl Ledger {
    pub(super) fn new(clock: Arc<ManualClock>, rules: Rules, traced: bool) -> Self {
        Self {
            counters: Counters::default(),
            violation: None,
            start: clock.now(),
            latest: clock.now(),
            clock,
            rules,
            trace: Trace::new(traced),
            step: 0,
            issued: BTreeMap::new(),
            made_up: BTreeSet::new(),
            stored: BTreeMap::new(),
            life_of: BTreeMap::new(),
            lives: Vec::new(),
            requests: BTreeMap::new(),
            holds: Vec::new(),
            links: Vec::new(),
            cookies: BTreeMap::new(),
        }
    }

    pub(super) fn into_trace(self) -> Vec<String> {
        self.trace.into_lines()
    }

    pub(super) fn next_step(&mut self) {
        self.step += 1;
    }

    pub(super) fn say(&mut self, text: impl FnOnce(&mut Names) -> String) {
        let (now, start) = (self.clock.now().as_millis(), self.start.as_millis());
        self.trace.say(i128::from(now) - i128::from(start), text);
    }

    /// Records that a server made an ID.
    pub(super) fn issue(&mut self, id: &SessionId, by: usize) {
        let key = id.key();
        if self.made_up.contains(&key) {
            self.violate("I3", || "a session gets the ID that a client made up".into());
        }
        self.issued.insert(key, Issued { id: id.clone(), by });
    }

    /// Records that a client made up an ID.
    pub(super) fn make_up(&mut self, id: &SessionId) {
        self.made_up.insert(id.key());
    }

    pub(super) fn begin(&mut self, number: usize, presented: Option<SessionKey>) {
        self.counters.requests += 1;
        let now = self.clock.now();
        self.presents(presented, now);
        let had_to_open = presented.is_some_and(|key| self.must_open(key, now));
        let request = Request::new(self.step, now, presented, had_to_open);
        self.requests.insert(number, request);
    }

    /// Records that a request was dropped, so that its response is no longer expected.
    pub(super) fn drop_request(&mut self, number: usize) {
        self.request(number).done = true;
    }

    /// Records that a call is answered with an error.
    pub(super) fn call_failed(&mut self, call: &Call) {
        let request = self.requests.get_mut(&call.request).expect("it is noted");
        if call.verb() == Verb::Load {
            request.unanswered = call.keys().first().copied();
        }
        request.lost_end |= call.verb() == Verb::Delete;
        match call.verb() {
            Verb::Load if request.attempt.is_none() => request.load_failed = true,
            _ => request.upkeep_failed = true,
        }
    }

    /// Returns the changes that a request commits at present.
    pub(super) fn attempt_of(&self, number: usize) -> Attempt {
        let request = &self.requests[&number];
        // Between two commits, a request only maintains its session or its lock.
        let attempt = request.attempt.unwrap_or_default();
        Attempt { carries: attempt.carries && request.is_committing, ..attempt }
    }

    pub(super) fn clock_moved(&mut self) {
        let now = self.clock.now();
        self.latest = self.latest.max(now);
        let mut under_way = Vec::new();
        for request in self.requests.values_mut().filter(|request| !request.done) {
            request.clock_moved(now);
            under_way.push(request.presented);
        }
        for presented in under_way {
            self.presents(presented, now);
        }
        self.note_lapsed();
    }

    /// Records that a request presents an ID.
    fn presents(&mut self, presented: Option<SessionKey>, now: Timestamp) {
        let Some(key) = presented else { return };
        let Some(&life) = self.life_of.get(&key) else { return };
        if let Some(place) = self.lives[life].index_of(key) {
            let first = &mut self.lives[life].places[place].presented;
            *first = Some(first.map_or(now, |at| at.min(now)));
        }
    }

    pub(super) fn id_of(&self, key: &SessionKey) -> Option<&SessionId> {
        self.issued.get(key).map(|issued| &issued.id)
    }

    /// Returns `true` if a command belongs to the move of a session, provided that it is a creation.
    pub(super) fn moves_a_session(&self, number: usize) -> bool {
        let request = &self.requests[&number];
        request.attempt.is_some_and(|attempt| attempt.life.is_some())
    }

    fn must_open(&self, key: SessionKey, latest: Timestamp) -> bool {
        let life = self.life_of.get(&key).map(|life| &self.lives[*life]);
        life.is_some_and(|life| life.must_open(key, (latest, self.latest), self.rules.grace))
    }

    fn request(&mut self, number: usize) -> &mut Request {
        self.requests.get_mut(&number).expect("every request is noted when it begins")
    }

    /// Records the first violation.
    fn violate(&mut self, rule: &'static str, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let text = text();
            self.say(|_| format!("VIOLATION of {rule}: {text}"));
            self.violation = Some(Violation { rule, text });
        }
    }
}
