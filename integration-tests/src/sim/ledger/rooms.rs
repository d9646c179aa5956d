//! The sessions of an owner whose number is limited.

use std::time::Duration;

use session_core::{
    AtLimit, Entry, IndexKey, Owner, Record, SessionError, SessionKey, Timestamp, testing::Verb,
};

use super::{Ledger, call::Call, state::Change};
use crate::sim::plan::Limit;

impl Ledger {
    /// Records the sessions whose deadline the clock has passed: a store may have deleted them, even if
    /// the clock jumps back.
    pub(super) fn note_lapsed(&mut self) {
        for life in &mut self.lives {
            life.lapsed |= life.state.deadline() <= self.latest;
        }
    }

    /// Returns `true` if the present commit of a request signs a user in, and sessions are limited.
    pub(crate) fn is_signing_in(&self, number: usize) -> bool {
        self.rules.limit.is_some() && self.signs_in(number).is_some()
    }

    /// Returns the owner whom the present commit of a request signs in.
    fn signs_in(&self, number: usize) -> Option<IndexKey> {
        let request = &self.requests[&number];
        let attempt = request.attempt.filter(|_| request.is_committing)?;
        let log = request.log[attempt.from..attempt.to].iter().rev();
        log.filter_map(|logged| match &logged.change {
            Change::Authenticate { owner, .. } => Some(owner.key()),
            _ => None,
        })
        .next()
    }

    /// Records the sessions that a login reads at the limit, and its possible victims.
    pub(super) fn looked_for_room(&mut self, call: &Call) {
        let (Some(limit), Some(owner)) = (self.rules.limit, self.signs_in(call.request)) else {
            return;
        };
        let request = &self.requests[&call.request];
        let own = call.attempt.life.or(request.created.map(|(_, life)| life));
        let others = self.others_of(owner, own, call.now, limit.at_limit);
        let excess = (others.len() + 1).saturating_sub(limit.max);
        // A login never evicts a later login, unless the time of the later login lies so far in the
        // future that another clock must have set the time. The login itself may be revoked meanwhile,
        // unnoticed.
        let new = self.begin_of(own, owner);
        let is_earlier = |&begin: &(Timestamp, SessionKey)| {
            new.is_none_or(|new| begin < new || begin.0 > new.0.max(call.now) + LATER)
        };
        let earlier: Vec<_> =
            others.into_iter().filter(|other| other.begins.iter().any(is_earlier)).collect();
        self.counters.limits_met += u64::from(excess > 0);
        let request = self.request(call.request);
        request.met_limit |= excess > 0;
        // A session that a later login moves is a victim only if the index was read before the move.
        let mut certain = earlier.iter().filter(|other| other.begins.iter().all(is_earlier));
        // Sessions of equal rank are interchangeable.
        let last = excess.checked_sub(1).and_then(|last| certain.nth(last).or(earlier.last()));
        if let Some(youngest) = last.map(|last| last.rank) {
            // If the login was revoked meanwhile, the order of the other logins is no longer known.
            let all_may_go = new.is_none();
            let may_go = earlier.iter().filter(|other| all_may_go || other.least_rank <= youngest);
            request.victims.extend(may_go.map(|other| other.life));
        }
    }

    /// Returns the instant and the key of a session's last login by an owner.
    fn begin_of(&self, life: Option<usize>, owner: IndexKey) -> Option<(Timestamp, SessionKey)> {
        let live = self.stored.iter().filter_map(|(key, entry)| match entry {
            Entry::Session(record)
                if self.life_of.get(key).copied() == life
                    && signed_in(record).is_some_and(|of| of.key() == owner) =>
            {
                Some((record.created_at(), *key))
            }
            _ => None,
        });
        live.max()
    }

    /// Returns the live sessions of an owner except one, in the order of eviction.
    fn others_of(
        &self,
        owner: IndexKey,
        own: Option<usize>,
        now: Timestamp,
        at_limit: AtLimit,
    ) -> Vec<Other> {
        let mut others: Vec<Other> = Vec::new();
        for (key, entry) in &self.stored {
            let (Entry::Session(record), Some(&life)) = (entry, self.life_of.get(key)) else {
                continue;
            };
            // The session of another user who acts as the owner takes no place of the owner.
            let is_of_owner = signed_in(record).is_some_and(|of| of.key() == owner);
            if Some(life) == own || now >= record.expires_at() || !is_of_owner {
                continue;
            }
            let (created_at, used_at) = (record.created_at(), record.last_seen_at());
            let rank = match at_limit {
                AtLimit::EvictLeastRecent => (used_at, created_at),
                _ => (created_at, used_at),
            };
            let began = (created_at, *key);
            match others.iter_mut().find(|other| other.life == life) {
                Some(other) => {
                    other.rank = rank.max(other.rank);
                    other.least_rank = rank.min(other.least_rank);
                    other.begins.push(began);
                }
                None => others.push(Other { rank, least_rank: rank, begins: vec![began], life }),
            }
        }
        others.sort_unstable_by_key(|other| other.rank);
        others
    }

    /// Returns `true` if a login may evict a session.
    pub(super) fn may_evict(&self, call: &Call, life: usize) -> bool {
        let evicts = self.rules.limit.is_some_and(|limit| limit.at_limit != AtLimit::Reject);
        let request = &self.requests[&call.request];
        evicts && call.verb() == Verb::DeleteOrBlock && request.victims.contains(&life)
    }

    /// Checks that no owner ever has more sessions with an acknowledged login than the limit allows.
    pub(super) fn check_limit(&mut self) {
        let Some(Limit { max, .. }) = self.rules.limit else { return };
        self.note_lapsed();
        let live = || {
            self.lives
                .iter()
                .filter(|life| life.end.is_none() && !life.lapsed && life.is_acknowledged)
        };
        let too_many = live().any(|one| {
            let user = one.state.signed_in();
            user.is_some() && live().filter(|other| other.state.signed_in() == user).count() > max
        });
        if too_many {
            self.violate("I9", || "an owner has more sessions than the limit allows".into());
        }
    }

    /// Checks that a login is refused only if the policy refuses logins and the limit is reached.
    pub(super) fn check_refusal(&mut self, number: usize, error: &SessionError) {
        if !matches!(error, SessionError::TooManySessions { .. }) {
            return;
        }
        self.counters.logins_refused += 1;
        if self.rules.limit.is_none_or(|limit| limit.at_limit != AtLimit::Reject) {
            self.violate("I9", || "a login was refused where none is to be".into());
        } else if !self.requests[&number].met_limit {
            self.violate("I9", || "a login was refused although there was room".into());
        }
    }
}

/// Returns the signed-in user: the actor, or else the owner.
fn signed_in(record: &Record) -> Option<&Owner> {
    record.actor().or(record.owner())
}

/// Another session of the owner that signs in.
struct Other {
    rank: (Timestamp, Timestamp),
    /// The rank by the first of the session's keys: the login may have read the index before a move.
    least_rank: (Timestamp, Timestamp),
    /// The instant and the key of each login that is stored for the session.
    begins: Vec<(Timestamp, SessionKey)>,
    life: usize,
}

/// A login at most this much later counts as a later one; a greater difference means another clock.
const LATER: Duration = Duration::from_secs(15);
