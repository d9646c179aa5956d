//! Checks each effect of the store against the model.

use std::sync::Arc;

use session_core::{
    Entry, Record, SessionKey, Sessions, Timestamp, Tombstone,
    testing::{Answer, Verb},
};

use super::{
    Ledger,
    call::{Attempt, Call},
    life::{Life, Moved, Place},
    request::Loaded,
    state::{Change, Part, State},
};

impl Ledger {
    /// Records that the store applied a command, with the resulting entry of each key.
    pub(crate) fn applied(
        &mut self,
        call: &Call,
        answer: &Answer,
        after: Vec<(SessionKey, Option<Entry>)>,
    ) {
        self.say_applied(call, answer);
        self.count(call, answer);
        if let Some(attempt) = &mut self.request(call.request).attempt {
            attempt.has_called = true;
        }
        for (key, after) in after {
            self.changed(call, key, after);
        }
        if call.verb() == Verb::Load {
            self.loaded(call);
        }
        if call.verb() == Verb::LoadMany {
            self.looked_for_room(call);
        }
        self.check_limit();
    }

    fn loaded(&mut self, call: &Call) {
        let (at, key, now) = (self.step, call.key(), call.now);
        let entry = self.stored.get(&key).cloned();
        let life = self.life_of.get(&key).map(|life| &self.lives[*life]);
        let state = life.filter(|life| life.key() == key).map(|life| life.state.clone());
        let request = self.request(call.request);
        request.loaded = Some(Loaded { at, key, entry, state, now });
        request.unanswered = None;
    }

    fn changed(&mut self, call: &Call, key: SessionKey, after: Option<Entry>) {
        let before = self.stored.remove(&key);
        if let Some(after) = &after {
            self.stored.insert(key, after.clone());
            if call.entry().is_some() {
                self.check_bytes(call, after);
            }
        }
        let may_block = matches!(call.verb(), Verb::DeleteOrBlock | Verb::Create | Verb::Commit);
        let is_end_marker = may_block
            && matches!(&after, Some(Entry::Tombstone(marker)) if marker.successor().is_none());
        match (before, after) {
            (None, None) => {}
            (Some(Entry::Tombstone(_)) | None, Some(Entry::Tombstone(_))) if is_end_marker => {}
            (Some(Entry::Session(before)), Some(_)) if is_end_marker => {
                self.removed(call, key, &before);
            }
            (None, Some(Entry::Session(record))) => self.created(call, key, &record),
            (Some(Entry::Session(before)), Some(Entry::Session(after))) => {
                if before.revision() != after.revision()
                    || Entry::Session(Arc::clone(&before)).nonce()
                        != Entry::Session(Arc::clone(&after)).nonce()
                {
                    self.committed(call, key, &before, &after);
                } else {
                    self.touched(call, key, &before, &after);
                }
            }
            (Some(Entry::Session(before)), Some(Entry::Tombstone(tombstone))) => {
                self.moved(call, key, &before, &tombstone);
            }
            (Some(Entry::Session(before)), None) => self.removed(call, key, &before),
            (Some(Entry::Tombstone(before)), Some(Entry::Tombstone(after))) => {
                if before != after {
                    self.violate("I4", || "a tombstone was replaced by another".into());
                }
            }
            (Some(before @ Entry::Tombstone(_)), None) => {
                // A store may delete an entry that has expired by the latest time of any call so far.
                if before.is_live(self.latest) {
                    self.violate("I4", || "a tombstone was removed before its time".into());
                }
            }
            (Some(Entry::Tombstone(_)), Some(Entry::Session(_))) => {
                self.violate("I2", || "a session came back in place of a tombstone".into());
            }
            (None, Some(Entry::Tombstone(_))) => {
                self.violate("I2", || "a tombstone is where there was nothing".into());
            }
        }
    }

    fn created(&mut self, call: &Call, key: SessionKey, record: &Arc<Record>) {
        if !self.issued.contains_key(&key) {
            self.violate("I3", || "a session has an ID that no server made".into());
            return;
        }
        if let Some(&life) = self.life_of.get(&key) {
            if self.lives[life].index_of(key).is_some() {
                self.violate("I2", || {
                    "a session that was ended is stored again, by a late creation".into()
                });
            }
            return;
        }
        let attempt = call.attempt;
        // A commit may renew the session that it has just created.
        let created = self.requests[&call.request].created;
        let created = created.filter(|(from, _)| *from == attempt.from).map(|(_, life)| life);
        // A commit may also create another session, if the first was revoked before the request noticed.
        let goes_on = record.revision().as_u64() > 1;
        let created = created.filter(|life| goes_on || self.lives[*life].end.is_none());
        if let Some(life) = attempt.life.or(created) {
            // The destination of a move; the session itself is still under its old key.
            self.life_of.insert(key, life);
            return;
        }
        self.counters.creations += 1;
        let log = &mut self.request(call.request).log[attempt.from..attempt.to];
        log.iter_mut().for_each(|logged| logged.applied = 0);
        let stored = State::read(record);
        let state = State::new(call.now, self.rules.lifetime);
        self.life_of.insert(key, self.lives.len());
        let new = self.lives.len();
        let request = self.request(call.request);
        // A late creation by an earlier commit leaves the session of the present one.
        if request.attempt.is_none_or(|present| present.from == attempt.from) {
            request.created = Some((attempt.from, new));
        }
        request.all_created.push(new);
        self.lives.push(Life {
            places: vec![Place::new(key)],
            state,
            end: None,
            ended_by: None,
            expired: false,
            lapsed: false,
            overtaken: 0,
            next_place_ended: 0,
            indexes_changed: 0,
            end_told: None,
            expiry_told: None,
            is_acknowledged: false,
        });
        self.took_effect(call, self.lives.len() - 1, &stored);
    }

    fn committed(
        &mut self,
        call: &Call,
        key: SessionKey,
        before: &Arc<Record>,
        after: &Arc<Record>,
    ) {
        let life = self.life_of[&key];
        let Some(place) = self.lives[life].index_of(key) else { return };
        if place + 1 < self.lives[life].places.len() {
            self.violate("I4", || "a session was changed under its former key".into());
        }
        if call.now >= before.expires_at() {
            self.violate("I2", || "a session that had expired was committed to".into());
        }
        let stored = State::read(after);
        let stays = State { last_seen_at: stored.last_seen_at, ..State::read(before) } == stored;
        // A request that holds the lock extends and releases it in separate commits.
        let is_of_lock = before.locked_until() != after.locked_until();
        // A renewal is ignored while the old ID is valid. The commit then only records the use of the
        // ID.
        let attempt = call.attempt;
        let log = &self.requests[&call.request].log[attempt.from..attempt.to];
        let only_renews =
            log.iter().all(|logged| !logged.effective || matches!(logged.change, Change::Renew));
        if stays && (is_of_lock || only_renews) && !self.fits(call, life, &stored) {
            let seen_at = self.requests[&call.request].seen_at;
            let part = match self.lives[life].login_by_another(call.request, seen_at) {
                true => Part::Values,
                false => Part::Everything,
            };
            let changes_state = self.changes_state(Some(life), log, part);
            if let Some(attempt) = &mut self.request(call.request).attempt {
                attempt.changes_state &= changes_state;
            }
            let attempt = Attempt { carries: false, ..call.attempt };
            return self.took_effect(&Call { attempt, ..call.clone() }, life, &stored);
        }
        self.took_effect(call, life, &stored);
    }

    /// Returns `true` if the changes of a request turn the model's state into a different one, equal to
    /// the stored state.
    fn fits(&self, call: &Call, life: usize, stored: &State) -> bool {
        let mut state = self.lives[life].state.clone();
        let attempt = call.attempt;
        let log = &self.requests[&call.request].log[attempt.from..attempt.to];
        let request = &self.requests[&call.request];
        // A login that joins another one stores its changes without a move.
        let joins = self.lives[life].login_by_another(call.request, request.seen_at)
            && log.iter().any(|logged| logged.is_login());
        let login_at =
            if joins { state.created_at } else { login_at(call, request.latest, stored) };
        state.apply(log, Part::Everything, self.rules.lifetime, login_at);
        let changes = joins || state != self.lives[life].state;
        changes && state.difference(stored).is_none()
    }

    fn moved(&mut self, call: &Call, key: SessionKey, before: &Arc<Record>, tombstone: &Tombstone) {
        let Some(successor) = tombstone.successor() else {
            return self.violate("I2", || "a session was replaced by an end marker".into());
        };
        let life = self.life_of[&key];
        if self.lives[life].key() != key {
            if self.lives[life].index_of(key).is_some() {
                self.violate("I4", || "a session moved from a key that it had left".into());
            }
            return;
        }
        if call.now >= before.expires_at() {
            self.violate("I2", || "a session that had expired moved".into());
        }
        let attempt = call.attempt;
        let log = &self.requests[&call.request].log[attempt.from..attempt.to];
        let begins_login = log.iter().any(|logged| logged.is_login() || logged.begins_acting());
        let changes_user = log.iter().any(|logged| logged.changes_user(&self.lives[life].state));
        let is_renewal = tombstone.is_renewal();
        let is_rotation = self.check_move(call, is_renewal);
        let count = match (is_renewal, is_rotation) {
            (true, _) => &mut self.counters.renewals,
            (false, true) => &mut self.counters.rotations,
            (false, false) => &mut self.counters.logins,
        };
        *count += 1;
        let window = call.now + Sessions::ROTATION_WINDOW;
        // The limits of I4: no second login joins a login whose request was told of an end.
        let is_first_login = !is_renewal
            && !is_rotation
            && before.owner().is_none()
            && !self.requests[&call.request].told_ended;
        let moved = Moved {
            at: self.step,
            by: call.request,
            is_renewal,
            changes_user,
            is_first_login,
            forgotten_at: window,
            told: None,
        };
        let places = &mut self.lives[life].places;
        places.last_mut().expect("a life begins somewhere").moved = Some(moved);
        places.push(Place::new(successor));
        match self.stored.get(&successor).cloned() {
            Some(Entry::Session(record)) => {
                let stored = State::read(&record);
                if begins_login && record.expires_at() <= call.now {
                    self.violate("I5", || "a login that was over replaced a session".into());
                }
                self.took_effect(call, life, &stored);
                if is_renewal {
                    // The tombstone of a renewal exists for as long as the session can live.
                    let end = self.lives[life].state.absolute_deadline();
                    let places = &mut self.lives[life].places;
                    let left = places.iter_mut().rev().find_map(|place| place.moved.as_mut());
                    left.expect("it has just moved").forgotten_at = end;
                }
            }
            // The session was ended under its new key before the move was complete.
            _ if self.lives[life].next_place_ended > 0 => {
                let attempt = call.attempt;
                let log = &mut self.request(call.request).log[attempt.from..attempt.to];
                log.iter_mut().for_each(|logged| logged.applied = 1);
                self.lives[life].end = Some(self.step);
                self.lives[life].ended_by = Some(call.request);
            }
            _ => self.violate("I4", || {
                "a session left its key before there was anything under the new one".into()
            }),
        }
    }

    /// Checks that logins and rotations close the former ID, and that renewals leave it open. Returns
    /// `true` for a rotation without a login.
    fn check_move(&mut self, call: &Call, is_renewal: bool) -> bool {
        let attempt = call.attempt;
        let log = &self.requests[&call.request].log[attempt.from..attempt.to];
        let mut unapplied = log.iter().filter(|logged| logged.applied == 0);
        let closes = unapplied.clone().any(|logged| logged.closes_the_former_id());
        let signs_in = unapplied.any(|logged| logged.is_login());
        if is_renewal && closes {
            self.violate("I4", || "a login or rotation leaves the former ID open".into());
        } else if !is_renewal && !closes {
            self.violate("I4", || "a renewal closes the former ID".into());
        }
        !signs_in
    }

    /// Applies the changes of a request to the model, once, and compares the states.
    fn took_effect(&mut self, call: &Call, life: usize, stored: &State) {
        self.counters.commits += 1;
        let attempt = call.attempt;
        let (step, standard) = (self.step, self.rules.lifetime);
        let is_overtaken = {
            let request = &self.requests[&call.request];
            self.lives[life].login_by_another(call.request, request.seen_at)
        };
        if let Some(attempt) = &mut self.request(call.request).attempt {
            (attempt.commits, attempt.is_overtaken) = (true, is_overtaken);
        }
        let request = self.requests.get_mut(&call.request).expect("it is noted");
        let latest = request.latest;
        let login_at = login_at(call, latest, stored);
        let log = &mut request.log[attempt.from..attempt.to];
        let again = log.iter().any(|logged| logged.applied > 0);
        let mut state = self.lives[life].state.clone();
        let carries = attempt.carries && !again;
        let closes = log.iter().any(|logged| logged.closes_the_former_id());
        let signs_in = log.iter().any(|logged| logged.is_login());
        let count = |is: fn(&Change) -> bool| log.iter().filter(|l| is(&l.change)).count() as u64;
        let impersonations = count(|change| matches!(change, Change::ActAs { .. }));
        let stopped = count(|change| matches!(change, Change::StopActing));
        let links = count(|change| matches!(change, Change::Link(_)));
        let is_like = |state: &State| {
            let mut own = State::new(login_at, standard);
            own.apply(log, Part::Everything, standard, login_at);
            own.is_of_same_user(state) && state.actor.is_none()
        };
        // A visitor's second login of the same user joins the first.
        let joins = is_overtaken && !request.saw_owner && signs_in && is_like(&state);
        let is_of_another = request.user != state.user() || {
            let mut moves = self.lives[life].moves_since(request.seen_at);
            moves.any(|moved| moved.changes_user && moved.by != call.request)
        };
        let is_strange = carries
            && !request.authenticated
            // A request that has ended its session works on another one.
            && !request.wants_fresh
            && (request.user.owner.is_some() || state.actor.is_some())
            && is_of_another;
        let part = if is_overtaken && !joins { Part::Values } else { Part::Everything };
        // A second login that joins a session keeps the start time of the first.
        let joins_late =
            attempt.life.is_none() && request.created.is_none() && signs_in && is_like(&state);
        let login_at = if joins || joins_late { state.created_at } else { login_at };
        if carries {
            state.apply(log, part, standard, login_at);
            log.iter_mut().for_each(|logged| logged.applied += 1);
        }
        let difference = state.difference(stored);
        let twice = {
            let mut twice = state.clone();
            twice.apply(log, part, standard, login_at);
            again && twice.difference(stored).is_none()
        };
        if carries && is_overtaken && closes && !joins {
            self.violate("I4", || "a request that a login overtook moved the session".into());
        }
        if carries && joins {
            let (request, step, user) = (call.request, self.step, state.user());
            let request = self.request(request);
            (request.seen_at, request.user) = (step, user);
        }
        // The request continues with the joined session, and may renew its ID.
        if carries && (joins || joins_late) {
            let request = self.request(call.request);
            request.joined = Some(life);
            if let Some(attempt) = &mut request.attempt {
                attempt.life = Some(life);
            }
        }
        if carries {
            self.counters.merged_into_logins += u64::from(is_overtaken);
            self.counters.joined_logins += u64::from(joins);
            self.counters.impersonations += impersonations;
            self.counters.impersonations_stopped += stopped;
            self.counters.links += links;
        }
        if let Some(difference) = difference {
            if twice {
                self.violate("I6", || format!("a commit took effect twice: {difference}"));
            } else {
                self.violate("I1", || format!("an update was lost or invented: {difference}"));
            }
        }
        if is_strange {
            self.violate("I4", || "a user's changes are in another user's session".into());
        }
        let model = &mut self.lives[life];
        // The start time of the commit is also valid: a later touch may have overtaken it.
        let began = call.now.min(attempt.began);
        if stored.last_seen_at < model.state.last_seen_at.min(began) {
            self.violate("I5", || "the last use moved back".into());
        } else if stored.last_seen_at > model.state.last_seen_at.max(latest) {
            self.violate("I5", || "the last use is of the future".into());
        }
        let model = &mut self.lives[life];
        if stored.last_seen_at < model.state.last_seen_at {
            model.overtaken = step;
        }
        if model.state.indexes() != state.indexes() {
            model.indexes_changed = step;
        }
        model.state = State { last_seen_at: stored.last_seen_at, ..state };
        if model.end.is_some() {
            self.violate("I2", || "a commit brought back a session that was ended".into());
        }
        if carries {
            self.stored_under_lock(call.request, life);
        }
    }

    fn touched(&mut self, call: &Call, key: SessionKey, before: &Arc<Record>, after: &Arc<Record>) {
        if before == after {
            return;
        }
        self.counters.touches += 1;
        if **after != before.seen(after.last_seen_at()) {
            self.violate("I1", || "a touch changed more than the note of the last request".into());
        }
        if after.last_seen_at() != before.last_seen_at().max(call.now) {
            self.violate("I5", || "a touch noted another time than that of the request".into());
        }
        if call.now >= before.expires_at() {
            self.violate("I2", || "a touch brought back a session that had expired".into());
        }
        let life = self.life_of[&key];
        if self.lives[life].key() == key {
            self.lives[life].state.last_seen_at = after.last_seen_at();
        }
    }

    /// Checks that the stored bytes contain no ID that the request knows.
    fn check_bytes(&mut self, call: &Call, stored: &Entry) {
        let bytes = self.at_rest(call, stored);
        let presented = self.requests[&call.request].presented;
        let readable = self
            .issued
            .iter()
            .filter(|(key, issued)| issued.by == call.request || Some(**key) == presented)
            .any(|(_, issued)| {
                let head = &issued.id.expose().as_bytes()[..HEAD];
                bytes.windows(HEAD).any(|part| part == head)
            });
        if readable {
            self.violate("I4", || "an ID can be read in the store".into());
        }
    }

    /// Returns the bytes that a store keeps.
    fn at_rest(&self, call: &Call, stored: &Entry) -> Vec<u8> {
        let mut bytes = stored.encode();
        if self.rules.keeps_ids
            && let Some(id) = call.keys().first().and_then(|key| self.id_of(key))
        {
            bytes.extend_from_slice(id.expose().as_bytes());
        }
        bytes
    }
}

/// Returns the start time of a login. A commit may make several attempts: the stored session begins with
/// the first attempt.
fn login_at(call: &Call, latest: Timestamp, stored: &State) -> Timestamp {
    let began = call.attempt.began;
    let is_of_the_attempt = (began.min(call.now)..=latest.max(began)).contains(&stored.created_at);
    if is_of_the_attempt { stored.created_at } else { call.now }
}

/// The number of bytes of an ID that are searched for. The same bytes do not occur in a record by
/// chance.
const HEAD: usize = 8;
