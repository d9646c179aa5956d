//! Checks the recorded changes and the result of each commit against the changes that took effect.

use session_core::{Clock as _, SessionError, Sessions};

use super::{
    Ledger,
    call::Attempt,
    state::{Change, Logged, Part, State},
};
use crate::sim::view::{User, View};

impl Ledger {
    /// Records a change that a request made.
    pub(crate) fn recorded(&mut self, number: usize, mut change: Change, effective: bool) {
        self.say(|_| format!("request {number} records {}", describe(&change)));
        let request = self.request(number);
        match &mut change {
            Change::SetLifetime(lifetime) => request.chosen = Some(*lifetime),
            Change::Authenticate { owner, lifetime, links, .. } => {
                request.user = User { owner: Some(owner.clone()), actor: None };
                request.authenticated = true;
                *lifetime = request.chosen;
                request.linked.append(links);
                links.clone_from(&request.linked);
            }
            Change::Link(link) => {
                request.linked.insert(*link);
            }
            Change::ActAs { .. } | Change::StopActing => request.authenticated = true,
            _ => {}
        }
        let effective = effective || request.has_copy;
        request.log.push(Logged { change, effective, applied: 0 });
    }

    /// Records that a request destroys its session.
    pub(crate) fn destroyed(&mut self, number: usize) {
        self.say(|_| format!("request {number} records the end of its session"));
        let request = self.request(number);
        request.wants_fresh = true;
        if let Some(life) = request.life.take()
            && !request.doomed.contains(&life)
        {
            request.doomed.push(life);
            request.ever_doomed.push(life);
        }
        request.settled = request.log.len();
        request.hold = None;
        request.user = User::default();
        request.authenticated = false;
        request.chosen = None;
        request.linked.clear();
    }

    /// Records that a request discards its changes.
    pub(crate) fn discarded(&mut self, number: usize, view: &View) {
        self.say(|_| format!("request {number} discards what it recorded"));
        let life = view.key.and_then(|key| self.life_of.get(&key).copied());
        self.disown_doubtful_commit(number);
        let request = self.request(number);
        request.settled = request.log.len();
        request.life = life;
        request.doomed.clear();
        request.user = view.user.clone();
        request.authenticated = false;
        request.chosen = None;
        request.linked.clear();
    }

    /// After a discard, a commit of unknown outcome counts as a commit of another request.
    fn disown_doubtful_commit(&mut self, number: usize) {
        let request = self.request(number);
        let Some(attempt) = request.in_doubt.take() else { return };
        request.seen_at = attempt.seen_at;
        for place in self.lives.iter_mut().flat_map(|life| &mut life.places) {
            if let Some(moved) = &mut place.moved
                && moved.by == number
                && moved.at > attempt.step
            {
                moved.by = NOBODY;
            }
        }
    }

    /// Records the start of a commit.
    pub(crate) fn attempt(&mut self, number: usize) {
        let (lifetime, now, step) = (self.rules.lifetime, self.clock.now(), self.step);
        let request = &self.requests[&number];
        let (from, to) = (request.settled, request.log.len());
        let log = &request.log[from..to];
        let changes_state = self.changes_state(request.life, log, Part::Everything);
        let request = self.request(number);
        let log = &request.log[from..to];
        let carries = log.iter().any(|logged| logged.effective);
        // A renewal by another request has the same effect.
        let needed = |logged: &Logged| logged.effective && !matches!(logged.change, Change::Renew);
        let stores = request.life.is_some() || {
            let mut state = State::new(now, lifetime);
            state.apply(log, Part::Everything, lifetime, now);
            !state.indexes().is_empty() || state.values.iter().any(Option::is_some)
        };
        request.met_limit = false;
        request.created = None;
        request.is_committing = true;
        request.attempt = Some(Attempt {
            from,
            to,
            began: now,
            step,
            carries: carries && stores,
            required: stores && log.iter().any(needed),
            changes_state,
            commits: false,
            has_called: false,
            is_overtaken: false,
            locks: false,
            life: request.life,
            seen_at: request.seen_at,
        });
    }

    /// Records the result of a commit.
    pub(crate) fn attempted(
        &mut self,
        number: usize,
        result: Result<(), &SessionError>,
        view: &View,
    ) {
        let request = self.request(number);
        let attempt = request.attempt.expect("it began");
        request.is_committing = false;
        request.in_doubt = None;
        match result {
            Ok(()) => self.succeeded(number, attempt, view),
            Err(error) => self.failed(number, attempt, error),
        }
    }

    /// Returns `false` if the changes undo each other, so that no change remains to be stored.
    pub(super) fn changes_state(&self, life: Option<usize>, log: &[Logged], part: Part) -> bool {
        life.map(|life| &self.lives[life].state).is_none_or(|before| {
            let mut state = before.clone();
            state.apply(log, part, self.rules.lifetime, self.clock.now());
            state != *before
        })
    }

    fn succeeded(&mut self, number: usize, attempt: Attempt, view: &View) {
        self.check_ends(number);
        let request = &self.requests[&number];
        let log = &request.log[attempt.from..attempt.to];
        let stored = log.iter().any(|logged| logged.effective && logged.applied == 1);
        let life = attempt.life.map(|life| &self.lives[life]);
        let is_overtaken = life.is_some_and(|life| life.login_by_another(number, request.seen_at));
        // If a login overtook the request, only its values count.
        let is_due = |logged: &&Logged| {
            !is_overtaken || logged.is_of_values() || log.iter().any(Logged::is_login)
        };
        let part = match is_overtaken && !log.iter().any(Logged::is_login) {
            true => Part::Values,
            false => Part::Everything,
        };
        let changes_state = attempt.changes_state && self.changes_state(attempt.life, log, part);
        let is_missing =
            changes_state && log.iter().filter(is_due).any(|logged| logged.applied != 1);
        if attempt.required && is_missing && log.iter().filter(is_due).any(|l| l.effective) {
            self.violate("I6", || "a commit was acknowledged and not stored".into());
        }
        if stored || attempt.commits {
            self.request(number).stored_at = Some(attempt.step);
        }
        if stored {
            self.acknowledged_under_lock(number);
        }
        let life = view.key.and_then(|key| self.life_of.get(&key).copied());
        let strange = view
            .key
            .is_some_and(|key| life.is_none_or(|life| self.lives[life].index_of(key).is_none()));
        if strange || attempt.life.is_some() && life != attempt.life {
            self.violate("I4", || "a commit left the request with another session".into());
        }
        let step = self.step;
        let login = log_has_login(&self.requests[&number].log[attempt.from..attempt.to]);
        if let Some(life) = life.filter(|_| login) {
            self.check_joined(number, attempt, life);
            // A slow login may have missed another one: the limits of I9.
            let request = &self.requests[&number];
            let is_quick = request.latest.since(request.earliest) < Sessions::ROTATION_WINDOW;
            self.lives[life].is_acknowledged = is_quick;
            for moved in self.lives[life].places.iter_mut().filter_map(|p| p.moved.as_mut()) {
                if moved.by == number && !moved.is_renewal {
                    moved.told.get_or_insert(step);
                }
            }
        }
        self.check_view(number, life, view);
        let request = self.request(number);
        // A login after the commit took effect leaves the request with the session, not with a copy. A
        // commit that asked the store nothing has noticed no login.
        let has_copy = match attempt.commits {
            true => attempt.is_overtaken,
            false => is_overtaken && attempt.has_called,
        };
        request.has_copy |= has_copy && !login && attempt.carries;
        request.life = life;
        if life.is_some() {
            request.settled = attempt.to;
        }
        request.doomed.clear();
    }

    /// Checks that a second login of the same user, from the same visitor's ID, joins the session of the
    /// first. Otherwise the user's list of devices would show a session whose ID no browser keeps.
    fn check_joined(&mut self, number: usize, attempt: Attempt, life: usize) {
        let request = &self.requests[&number];
        let former = request.presented.and_then(|key| Some((key, *self.life_of.get(&key)?)));
        let Some((presented, first)) = former else { return };
        if first == life || attempt.life.is_some() || request.wants_fresh {
            return;
        }
        let model = &self.lives[first];
        let index = model.index_of(presented).unwrap_or_default();
        let moves = model.places[index..].iter().filter_map(|place| place.moved.as_ref());
        let mut closing = moves.clone().filter(|moved| !moved.is_renewal);
        let is_first_login =
            closing.next().is_some_and(|moved| moved.is_first_login && moved.at < request.began);
        let is_there = model.end.is_none()
            && self.latest < model.state.deadline()
            && moves.clone().all(|moved| self.latest < moved.forgotten_at)
            // After its grace, an ID that was renewed opens no session.
            && !(moves.clone().any(|moved| moved.is_renewal)
                && model.places[index..].iter().any(|place| place.presented.is_some()));
        let new = &self.lives[life].state;
        let is_of_the_user = model.state.is_of_same_user(new) && new.actor.is_none();
        if is_first_login && closing.next().is_none() && is_there && is_of_the_user {
            self.violate("I4", || "a second login from one ID begins a session of its own".into());
        }
    }

    /// Checks that each session whose end was acknowledged has ended.
    fn check_ends(&mut self, number: usize) {
        let request = &self.requests[&number];
        let (began, latest) = (request.began, request.latest);
        for life in request.doomed.clone() {
            let (step, model) = (self.step, &mut self.lives[life]);
            if model.end.is_some() {
                model.end_told.get_or_insert(step);
            } else if model.state.deadline() > latest && !model.forgotten(began, latest) {
                self.violate("I2", || "an end was acknowledged, and the session lives".into());
            }
        }
    }

    /// Checks that a request does not see the owner of a login that began later in another request.
    fn check_view(&mut self, number: usize, life: Option<usize>, view: &View) {
        let request = &self.requests[&number];
        let crossed =
            life.is_some_and(|life| self.lives[life].login_by_another(number, request.seen_at));
        if crossed && !request.authenticated {
            if view.user != request.user {
                self.violate("I4", || "a request from before a login sees whose it is".into());
            }
        } else {
            self.request(number).user = view.user.clone();
        }
    }

    pub(super) fn failed(&mut self, number: usize, attempt: Attempt, error: &SessionError) {
        self.say(|_| format!("request {number} fails to commit: {error}"));
        let unknown = match error {
            SessionError::Store(error) => error.is_outcome_unknown(),
            SessionError::Unconfirmed => true,
            _ => false,
        };
        self.request(number).in_doubt = unknown.then_some(attempt);
        self.counters.contended += u64::from(matches!(error, SessionError::Contended));
        self.counters.leases_lost += u64::from(matches!(error, SessionError::LeaseLost));
        self.counters.unconfirmed += u64::from(matches!(error, SessionError::Unconfirmed));
        self.check_refusal(number, error);
        let request = &self.requests[&number];
        let (began, latest, seen_at) = (request.began, request.latest, request.seen_at);
        let applied = request.log[attempt.from..attempt.to].iter().any(|logged| logged.applied > 0);
        let created = request.created.filter(|(from, _)| *from == attempt.from);
        let created = created.map(|(_, life)| &self.lives[life]);
        // A login at the limit deletes its new session, if possible; its ID was never sent.
        let found_no_room =
            matches!(error, SessionError::TooManySessions { .. } | SessionError::Contended);
        let created_has_ended = created
            .is_some_and(|life| life.end.is_some() || found_no_room || life.state.owner.is_some());
        let life = attempt.life.map(|life| &self.lives[life]);
        let may_have_ended = life.is_some_and(|life| {
            let mut state = life.state.clone();
            let log = &request.log[attempt.from..attempt.to];
            if log.iter().any(|logged| logged.is_login() || logged.begins_acting()) {
                // A later use of the session before is no use of the new login.
                state.last_seen_at = state.last_seen_at.min(attempt.began);
            }
            state.apply(log, Part::Everything, self.rules.lifetime, attempt.began);
            life.end.is_some()
                // A login or an impersonation that is over before it is stored leaves the session.
                || !applied && state.deadline() <= latest
                || life.next_place_ended > began
                || life.state.deadline() <= latest
                // By an earlier reading of the clock, the session had expired.
                || life.lapsed
                || life.forgotten(began, latest)
                // The request's own move closed the ID, and its reply was lost.
                || life.moves_since(seen_at).any(|moved| moved.by == number)
        });
        let crossed = life.is_some_and(|life| life.login_by_another(number, seen_at));
        let known = life.is_some();
        if applied && !unknown && !may_have_ended && !created_has_ended {
            self.violate("I6", || format!("a commit took effect that failed with: {error}"));
        }
        if created_has_ended && !unknown {
            // The next attempt creates another session.
            let log = &mut self.request(number).log[attempt.from..attempt.to];
            log.iter_mut().for_each(|logged| logged.applied = 0);
        }
        if matches!(error, SessionError::Ended) {
            self.counters.ended_errors += 1;
            self.request(number).told_ended = true;
            if known && !may_have_ended && !crossed {
                self.violate("I4", || "a request was told that its live session ended".into());
            }
        }
    }
}

/// The number of no request.
const NOBODY: usize = usize::MAX;

fn log_has_login(log: &[Logged]) -> bool {
    log.iter().any(Logged::is_login)
}

fn describe(change: &Change) -> String {
    let name = |slot: usize| crate::sim::plan::NAMES[slot];
    match change {
        Change::Set(slot, value) => format!("{} = {value}", name(*slot)),
        Change::Increment(slot) => format!("{} + 1", name(*slot)),
        Change::Remove(slot) => format!("the removal of {}", name(*slot)),
        Change::Clear(_) => "the removal of all values".to_owned(),
        Change::SetLifetime(lifetime) => {
            format!("a lifetime of {:?}, {:?} in all", lifetime.idle(), lifetime.absolute())
        }
        Change::Authenticate { .. } => "a login".to_owned(),
        Change::Link(_) => "a link".to_owned(),
        Change::ActAs { .. } => "that its owner acts as a user".to_owned(),
        Change::StopActing => "that its actor goes back".to_owned(),
        Change::Rotate => "a rotation".to_owned(),
        Change::Renew => "a renewal".to_owned(),
    }
}
