//! Checks each response against the state of the model.

use std::time::Duration;

use session_core::{Clock as _, CookieChange, SessionError};

use super::Ledger;
use crate::sim::view::View;

impl Ledger {
    /// Records that a request's handler has finished, and the commit begins.
    pub(crate) fn finishing(&mut self, number: usize) {
        let (now, step) = (self.clock.now(), self.step);
        self.attempt(number);
        let request = self.request(number);
        request.earliest_at_finish = now;
        request.finishing_at = step;
    }

    /// Records a request's response.
    pub(crate) fn finished(
        &mut self,
        number: usize,
        result: Result<&CookieChange, &SessionError>,
        view: &View,
    ) {
        self.attempted(number, result.map(drop), view);
        let step = self.step;
        let request = self.request(number);
        request.done = true;
        request.finished_at = step;
        match result {
            Ok(change) => {
                self.counters.acknowledged += 1;
                self.note_expiry(number);
                self.check_deadline(number, view);
                self.confirm_presented(number);
                self.check_cookie(number, change, view);
                self.say(|names| {
                    let change = match change {
                        CookieChange::Keep => "the cookie stays".to_owned(),
                        CookieChange::Remove => "the cookie is removed".to_owned(),
                        CookieChange::Set { id, .. } => {
                            format!("the cookie is that of {}", names.of(id.key()))
                        }
                    };
                    format!("request {number} is answered with success, {change}")
                });
            }
            Err(_) => self.counters.failed += 1,
        }
    }

    /// Records that a request found its session expired: no later request may open the session.
    fn note_expiry(&mut self, number: usize) {
        let (step, final_) = (self.step, self.rules.expiry_is_final);
        let request = &self.requests[&number];
        let (earliest, loaded) = (request.earliest, request.loaded.is_some());
        let presented = request.presented;
        let Some(life) = presented.and_then(|key| self.life_of.get(&key).copied()) else {
            return;
        };
        let never_opened = loaded && request.seen_at == request.began;
        let life = &mut self.lives[life];
        let at_home = Some(life.key()) == presented;
        if final_ && at_home && never_opened && life.state.deadline() <= earliest {
            life.expiry_told.get_or_insert(step);
        }
    }

    /// Checks that a session lives for at least nine tenths of its idle time after an acknowledged
    /// request.
    fn check_deadline(&mut self, number: usize, view: &View) {
        let request = &self.requests[&number];
        let Some(life) = request.life.filter(|_| !request.upkeep_failed) else { return };
        let life = &self.lives[life];
        // A request that exceeded the waiting time of requests may have given up a renewal.
        let is_quick = request.latest.since(request.earliest) <= PATIENCE;
        let undisturbed = is_quick
            && life.overtaken < request.began
            && life.end.is_none()
            && Some(life.key()) == view.key
            && !life.moves_since(request.seen_at).any(|moved| moved.by != number)
            && life.state.lifetime == view.lifetime;
        let tenth = u64::try_from(view.lifetime.idle().as_millis() / 10).unwrap_or(u64::MAX);
        let late = request.earliest_at_finish.since(life.state.last_seen_at).as_millis();
        if undisturbed
            && late >= u128::from(tenth)
            // A use that reaches the store after the deadline does not revive the session.
            && request.latest < life.state.deadline()
        {
            self.violate("I5", || "an acknowledged request did not move the idle deadline".into());
        }
    }

    fn check_cookie(&mut self, number: usize, change: &CookieChange, view: &View) {
        let request = &self.requests[&number];
        let (presented, seen_at) = (request.presented, request.seen_at);
        // After a commit of the handler, the ID in the response is as of that commit.
        let shown_at = request.stored_at.unwrap_or(request.finishing_at);
        let lost_end = request.lost_end;
        match change {
            CookieChange::Set { id, .. } => {
                let key = id.key();
                let Some(issued) = self.issued.get(&key) else {
                    return self
                        .violate("I3", || "a client is told an ID that no server made".into());
                };
                let by = issued.by;
                if view.key != Some(key) {
                    self.violate("I4", || "a client is told the ID of another session".into());
                }
                let Some(&life) = self.life_of.get(&key) else { return };
                let model = &self.lives[life];
                let left = model.index_of(key).and_then(|at| model.places[at].moved.as_ref());
                let is_outdated = left.is_some_and(|moved| moved.at < shown_at)
                    || !model.expired && model.end.is_some_and(|end| end < shown_at);
                let (from, to) = (presented.and_then(|p| model.index_of(p)), model.index_of(key));
                if by != number
                    && let (Some(from), Some(to)) = (from, to)
                    && model.places[from..to.max(from)]
                        .iter()
                        .filter_map(|place| place.moved.as_ref())
                        .any(|moved| !moved.is_renewal && moved.by != number)
                    && !self.has_joined(number, life)
                {
                    self.violate("I4", || {
                        "a client is told the ID that a login by another made".into()
                    });
                }
                if is_outdated {
                    self.violate("I4", || "a client is told an ID that is out of date".into());
                }
            }
            CookieChange::Remove => {
                // Otherwise the response could remove the cookie of a newer session. A deletion without
                // a reply may have ended the session.
                let life = presented.and_then(|key| self.life_of.get(&key));
                let is_ended = life.is_some_and(|life| {
                    let may_be = self.lives[*life].ended_by == Some(number) || lost_end;
                    may_be && self.requests[&number].ever_doomed.contains(life)
                });
                if !is_ended {
                    self.violate("I4", || "a request that ended nothing removed the cookie".into());
                }
            }
            CookieChange::Keep => {
                let Some(life) = self.requests[&number].life else { return };
                let model = &self.lives[life];
                // The ID that the request read is closed once another request has signed in since.
                let own = model.moves_since(seen_at).filter(|moved| moved.by == number);
                let since = own.map(|moved| moved.at).max().unwrap_or(seen_at);
                let crossed = model.login_by_another(number, since);
                let request = &self.requests[&number];
                let expired = model.state.deadline() <= request.latest;
                let moved_on = view.key != Some(model.key());
                let is_over = expired || model.lapsed || moved_on || model.end.is_some();
                let dead = crossed || request.told_ended || is_over;
                // A session that was opened by its former ID must be loaded again for the response.
                let unanswered = request.unanswered == view.key;
                if view.key.is_some() && view.key != presented && !dead && !unanswered {
                    self.violate("I4", || {
                        "a client is not told the ID that its session has".into()
                    });
                }
            }
        }
    }

    /// Returns `true` if the request's own login joined this session.
    fn has_joined(&self, number: usize, life: usize) -> bool {
        self.requests[&number].joined == Some(life)
    }

    /// Starts the grace of the former ID when the first request with the new ID is acknowledged.
    fn confirm_presented(&mut self, number: usize) {
        let request = &self.requests[&number];
        // Another server may have recorded the use before the clock jumped back.
        let (latest, presented) = (self.latest, request.presented);
        // A slow request may have given up recording that it presented the ID.
        let gave_up = request.latest.since(request.earliest) > PATIENCE;
        if !request.has_presented || request.upkeep_failed || gave_up {
            return;
        }
        let Some(key) = presented else { return };
        let Some(&life) = self.life_of.get(&key) else { return };
        if let Some(place) = self.lives[life].index_of(key) {
            self.lives[life].places[place].confirmed.get_or_insert(latest);
        }
    }
}

/// The time for which a commit retries after conflicts.
const PATIENCE: Duration = Duration::from_secs(5);
