//! The sessions of an owner where their number is limited.

use session_core::{
    AtLimit, Entry, OwnerKey, Record, SessionError, SessionKey, Timestamp, envelope,
};

use super::Ledger;
use crate::simulation::{command::Verb, plan::Limit, wire::Call};

impl Ledger {
    /// Notes which sessions have a deadline behind which the clock was: a store may have forgotten them, even
    /// if the clock jumps back.
    pub(super) fn note_lapsed(&mut self) {
        for life in &mut self.lives {
            life.lapsed |= life.state.deadline() <= self.latest;
        }
    }

    /// Notes that a login asks for a place.
    pub(crate) fn asks_for_room(&mut self, number: usize, owner: OwnerKey) {
        self.request(number).asks = Some(owner);
    }

    /// Tells whether it has asked in its present commit.
    pub(crate) fn is_asking_for_room(&self, number: usize) -> bool {
        self.requests[&number].asks.is_some()
    }

    /// Notes what a login that asked for a place saw, as it is now.
    pub(super) fn looked_for_room(&mut self, call: &Call) {
        let (Some(limit), Some(owner)) = (self.rules.limit, self.requests[&call.request].asks)
        else {
            return;
        };
        let former = call.attempt.life.and(call.command.keys.last().copied());
        let sessions = self.sessions_of(owner, former, call.command.now, limit.at_limit);
        let excess = (sessions.len() + 1).saturating_sub(limit.max);
        let request = self.request(call.request);
        request.met_limit |= excess > 0;
        // Who is as old as the last one that has to go may go instead.
        if let Some(last) = excess.checked_sub(1) {
            let youngest = sessions[last].rank;
            let may_go = sessions.iter().flat_map(|session| &session.keys);
            let may_go = may_go.filter(|(rank, _)| *rank <= youngest);
            request.victims.extend(may_go.map(|(_, key)| *key));
        }
    }

    /// What is stored of an owner's live sessions, but for one and those that are made of it; the first is
    /// the first to go.
    fn sessions_of(
        &self,
        owner: OwnerKey,
        but: Option<SessionKey>,
        now: Timestamp,
        at_limit: AtLimit,
    ) -> Vec<Seen> {
        let mut seen: Vec<Seen> = Vec::new();
        let mut made_of = Vec::new();
        for (key, entry) in &self.stored {
            let Entry::Live(record) = entry else { continue };
            let former = predecessor(record);
            let is_own = but.is_some() && (but == Some(*key) || but == former);
            if is_own
                || now >= record.expires_at()
                || record.owner().is_none_or(|of| of.key() != owner)
            {
                continue;
            }
            let (created_at, used_at) = (record.created_at(), record.last_seen_at());
            let rank = match at_limit {
                AtLimit::EvictLeastRecent => (used_at, created_at),
                _ => (created_at, used_at),
            };
            made_of.extend(former.map(|former| (former, *key)));
            seen.push(Seen { rank, keys: vec![(rank, *key)] });
        }
        // One that gets another ID counts once, and as the newer of both.
        for (former, key) in made_of {
            let of = |key| seen.iter().position(|s| s.keys.iter().any(|(_, of)| *of == key));
            if let (Some(one), Some(other)) = (of(former), of(key))
                && one != other
            {
                let other = std::mem::take(&mut seen[other]);
                seen[one].rank = seen[one].rank.max(other.rank);
                seen[one].keys.extend(other.keys);
            }
        }
        seen.retain(|session| !session.keys.is_empty());
        seen.sort_by_key(|session| session.rank);
        seen
    }

    /// Tells whether a login may end what is under a key to make room for itself.
    pub(super) fn may_evict(&self, call: &Call, key: SessionKey) -> bool {
        let request = &self.requests[&call.request];
        let done = || {
            let log = &request.log[call.attempt.from..call.attempt.to];
            let created = request.created.filter(|(from, _)| *from == call.attempt.from);
            // One that was ended before the request knew of it is made once more.
            let lives = created.is_none_or(|(_, life)| self.lives[life].end.is_none());
            lives && log.iter().any(|logged| logged.applied > 0)
        };
        let evicts = self.rules.limit.is_some_and(|limit| limit.at_limit != AtLimit::Reject);
        evicts
            && matches!(call.command.verb, Verb::EndMany { .. })
            && request.victims.contains(&key)
            && !done()
    }

    /// No owner has more sessions than the limit allows, at any time.
    pub(super) fn check_limit(&mut self) {
        let Some(Limit { max, .. }) = self.rules.limit else { return };
        self.note_lapsed();
        let live = || self.lives.iter().filter(|life| life.end.is_none() && !life.lapsed);
        let too_many = live().any(|one| {
            one.state.owner.is_some()
                && live().filter(|other| other.state.owner == one.state.owner).count() > max
        });
        if too_many {
            self.violate("I9", || "an owner has more sessions than the limit allows".into());
        }
    }

    /// A login is refused only where the limit says so, and its sessions are there.
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

/// A session as a login at the limit sees it, with the keys that it has.
#[derive(Debug, Default)]
struct Seen {
    rank: Rank,
    keys: Vec<(Rank, SessionKey)>,
}

/// What counts when one has to go.
type Rank = (Timestamp, Timestamp);

/// The key that a session is just leaving for the one under which this record is.
fn predecessor(record: &Record) -> Option<SessionKey> {
    let bytes = Entry::Live(std::sync::Arc::new(record.clone())).encode();
    let body = &bytes[envelope::HEADER_LEN..];
    let at = body.windows(PREDECESSOR.len()).position(|name| name == PREDECESSOR)?;
    let key = &body[at + PREDECESSOR.len()..][..SessionKey::LEN];
    Some(SessionKey::from_bytes(key.try_into().expect("it is as long")))
}

/// The name of the key before in a record, and the beginning of its bytes.
const PREDECESSOR: &[u8] = b"\xa1f\xc4\x10";
