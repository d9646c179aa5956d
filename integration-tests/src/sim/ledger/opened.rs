//! Checks the session that a cookie opened against the model.

use session_core::{Entry, SessionError, SessionKey};

use super::{Ledger, request::Loaded};
use crate::sim::view::View;

impl Ledger {
    /// Records that a request failed to open its session.
    pub(crate) fn open_failed(&mut self, number: usize, error: &SessionError) {
        self.counters.failed += 1;
        self.say(|_| format!("request {number} is refused: {error}"));
        if !self.request(number).load_failed {
            self.violate("I7", || format!("a store that answered is reported as failed: {error}"));
        }
    }

    /// Records the session that a request opened, if any.
    pub(crate) fn opened(&mut self, number: usize, view: &View) {
        if self.request(number).load_failed {
            self.violate("I7", || "an outage was taken for an answer".into());
        }
        match view.key {
            Some(key) => self.opened_session(number, key, view),
            None => self.opened_nothing(number),
        }
    }

    fn opened_nothing(&mut self, number: usize) {
        let request = &self.requests[&number];
        let (latest, had_to_open) = (request.latest, request.had_to_open);
        let Some(presented) = request.presented else {
            self.counters.made_up_refusals += u64::from(self.request(number).loaded.is_some());
            return;
        };
        let Some(&life) = self.life_of.get(&presented) else { return };
        if had_to_open && self.must_open(presented, latest) {
            self.violate("I4", || "a live session was not opened by its ID".into());
        }
        let life = &mut self.lives[life];
        let moves = life.index_of(presented).map_or(&[][..], |index| &life.places[index..]);
        let closed = moves.iter().filter_map(|place| place.moved.as_ref()).next();
        if life.expired {
            self.counters.expiries += 1;
        } else if life.end.is_some() {
            self.counters.end_refusals += 1;
        } else if let Some(moved) = closed {
            if !moved.is_renewal {
                self.counters.login_refusals += 1;
            } else {
                self.counters.grace_refusals += 1;
            }
        } else if life.state.deadline() <= latest {
            self.counters.expiries += 1;
        }
    }

    fn opened_session(&mut self, number: usize, key: SessionKey, view: &View) {
        let request = &self.requests[&number];
        let (began, earliest, loaded) = (request.began, request.earliest, request.loaded.clone());
        let Some(presented) = request.presented else {
            return self.violate("I3", || "an ID that nobody issued opens a session".into());
        };
        let Some(&life) = self.life_of.get(&key) else {
            return self.violate("I3", || "a session was opened that was never stored".into());
        };
        let model = &self.lives[life];
        let (Some(from), Some(to)) = (model.index_of(presented), model.index_of(key)) else {
            return self.violate("I3", || "an ID opens a session that it never was of".into());
        };
        let passed = |then: Option<u64>| then.is_some_and(|then| then < began);
        let closed = to > from && model.must_not_open((from, to), earliest, self.rules.grace);
        let later_login = model.places[from..]
            .iter()
            .filter_map(|place| place.moved.as_ref())
            .any(|moved| !moved.is_renewal && passed(moved.told));
        if passed(model.end_told) {
            self.violate("I2", || "a session was opened after its end was acknowledged".into());
        } else if passed(model.expiry_told) {
            self.violate("I2", || "a session was opened after it was found expired".into());
        } else if later_login {
            self.violate("I4", || "the ID from before a login opens the session".into());
        } else if closed {
            self.violate("I4", || "a former ID opens the session after its grace".into());
        }
        let seen_at = loaded.as_ref().map_or(began, |loaded| loaded.at);
        match loaded {
            Some(Loaded { key: met, entry: Some(Entry::Session(record)), state, now, .. })
                if met == key =>
            {
                if now >= record.expires_at() {
                    self.violate("I5", || "a session was opened after its deadline".into());
                }
                if let Some(state) = state {
                    if state.values != view.values {
                        self.violate("I1", || {
                            "a request reads a value that was never stored".into()
                        });
                    }
                    if state.user() != view.user {
                        self.violate("I4", || "a request sees another user or actor".into());
                    }
                }
            }
            Some(Loaded { entry: Some(Entry::Tombstone(_)), .. }) => {
                self.violate("I4", || "a former ID opens the session after its grace".into());
            }
            _ => self.violate("I2", || "a session was opened that is not stored".into()),
        }
        self.counters.grace_openings += u64::from(key != presented);
        let request = self.request(number);
        request.life = Some(life);
        request.seen_at = seen_at;
        request.user = view.user.clone();
        request.saw_owner = view.user.owner.is_some();
        request.has_presented = key == presented;
    }
}
