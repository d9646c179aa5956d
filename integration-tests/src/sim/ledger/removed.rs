//! Checks each removal of a session.

use std::sync::Arc;

use session_core::{Record, SessionKey, testing::Verb};

use super::{
    Ledger,
    call::Call,
    state::{Logged, Part, State},
};

impl Ledger {
    pub(super) fn removed(&mut self, call: &Call, key: SessionKey, before: &Arc<Record>) {
        let life = self.life_of[&key];
        // A store may delete a record that has expired by the latest time of any earlier call.
        let deletes = matches!(call.verb(), Verb::Delete | Verb::DeleteOrBlock);
        let now = if deletes { call.now } else { self.latest };
        let expired = now >= before.expires_at();
        if self.lives[life].key() != key {
            // The record at the destination of a move. Either the move failed, or the session was ended
            // there before the move was complete, or the former record had expired.
            let lapsed = self.lives[life].lapsed;
            if expired || lapsed || call.verb() == Verb::DeleteOrBlock {
                self.lives[life].next_place_ended = self.step;
            }
            return;
        }
        let request = &self.requests[&call.request];
        let revoked = request
            .revocations
            .iter()
            .any(|revocation| revocation.wants(life, &self.lives[life], &State::read(before)));
        let evicted = !expired && !revoked && self.may_evict(call, life);
        // A login at the limit deletes the session that it has just created.
        let created = request.all_created.contains(&life);
        let abandoned = created && !self.lives[life].is_acknowledged;
        let wanted = revoked
            || evicted
            || abandoned
            || self.ends_by_its_lifetime(call, life)
            || request.ever_doomed.contains(&life)
            || self.lives[life].forgotten(request.began, request.latest);
        if !expired && !wanted {
            self.violate("I4", || "a session was removed that nobody ended".into());
        }
        self.counters.ends += u64::from(wanted && !revoked && !evicted && !abandoned);
        self.counters.evictions += u64::from(evicted);
        self.counters.revocations += u64::from(revoked);
        let acts = before.actor().is_some();
        self.counters.impersonations_ended += u64::from(revoked && acts);
        self.lives[life].expired = expired;
        self.lives[life].end = Some(self.step);
        self.lives[life].ended_by = Some(call.request);
    }

    /// Returns `true` if a request has set a lifetime that is already over. An impersonation that goes on
    /// at the commit and is over leaves the session before.
    fn ends_by_its_lifetime(&self, call: &Call, life: usize) -> bool {
        let request = &self.requests[&call.request];
        let mut state = self.lives[life].state.clone();
        let log = &request.log[call.attempt.from..call.attempt.to];
        state.apply(log, Part::Everything, self.rules.lifetime, call.now);
        let leaves_the_login = state.actor.is_some() && log.iter().any(Logged::begins_acting);
        state.deadline() <= request.latest && !leaves_the_login
    }
}
