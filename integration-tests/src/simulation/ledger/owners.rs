//! The sessions of an owner: the index, the list, and revocation (I8).

use session_core::{Entry, IndexKey, Owner, SessionError, SessionKey, Timestamp};

use super::{
    Ledger,
    life::{Life, Step},
};
use crate::simulation::wire::Call;

/// The sessions of an owner that a request revokes.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    All,
    /// All except the request's own session.
    Others,
    One(SessionKey),
    /// No session: the request lists them.
    Listed,
}

#[derive(Clone, Debug)]
pub(crate) struct Revocation {
    owner: Owner,
    which: Which,
    own: Option<usize>,
    /// The sessions that the request must not miss.
    there: Vec<usize>,
    began: Step,
}

impl Revocation {
    /// Returns `true` if the request may revoke this session.
    pub(crate) fn wants(&self, number: usize, life: &Life, owner: Option<&Owner>) -> bool {
        owner == Some(&self.owner)
            && match self.which {
                Which::All => true,
                Which::Others => self.own != Some(number),
                Which::One(key) => life.index_of(key).is_some(),
                Which::Listed => false,
            }
    }
}

impl Ledger {
    /// Returns the sessions that a command may affect: owner, key, and an instant up to which the
    /// owner's index must contain the key.
    pub(crate) fn owned_after(&self, call: &Call) -> Vec<(IndexKey, SessionKey, Timestamp)> {
        let index = call.operation.index();
        let keys = call.keys();
        self.stored
            .iter()
            .filter_map(|(key, entry)| match entry {
                Entry::Session(record) => Some((record.owner()?.key(), *key, record.expires_at())),
                Entry::Tombstone(_) => None,
            })
            .filter(|(owner, key, _)| index == Some(*owner) || keys.contains(key))
            .filter(|(_, _, until)| self.latest < *until)
            .map(|(owner, key, until)| {
                (owner, key, Timestamp::from_millis(until.as_millis().saturating_sub(1)))
            })
            .collect()
    }

    /// Records that a live session is missing in its owner's index.
    pub(crate) fn missing(&mut self, key: SessionKey) {
        self.say(|names| format!("{} is missing in its owner's index", names.of(key)));
        self.violate("I8", || "a live session is not in its owner's index".into());
    }

    /// Returns the key of a session of any owner.
    pub(crate) fn some_key(&self, which: u64) -> Option<SessionKey> {
        let at = which.checked_rem(self.lives.len() as u64)?;
        Some(self.lives[usize::try_from(at).ok()?].key())
    }

    /// Records that a request begins to revoke, or to list, sessions of an owner.
    pub(crate) fn revoking(&mut self, number: usize, owner: Owner, which: Which) {
        self.say(|names| match which {
            Which::All => format!("request {number} ends all sessions of an owner"),
            Which::Others => format!("request {number} ends its owner's other sessions"),
            Which::One(key) => format!("request {number} ends {} for an owner", names.of(key)),
            Which::Listed => format!("request {number} lists the sessions of an owner"),
        });
        let own = self.requests[&number].life;
        let mut revocation = Revocation { owner, which, own, there: vec![], began: self.step };
        revocation.there = self
            .live(&revocation.owner, self.requests[&number].latest)
            .filter(|life| {
                let model = &self.lives[*life];
                matches!(revocation.which, Which::Listed)
                    || revocation.wants(*life, model, model.state.owner.as_ref())
            })
            .collect();
        self.request(number).revocations.push(revocation);
    }

    /// Records the result of a revocation.
    pub(crate) fn revoked(&mut self, number: usize, result: &Result<usize, SessionError>) {
        self.say(|_| format!("request {number} is told {result:?}"));
        if result.is_err() {
            return;
        }
        let request = &self.requests[&number];
        let latest = request.latest;
        let Some(Revocation { owner, there, began, .. }) = request.revocations.last().cloned()
        else {
            return;
        };
        for life in there {
            let (step, model) = (self.step, &mut self.lives[life]);
            if model.end.is_some() {
                model.end_told.get_or_insert(step);
            } else if model.state.owner.as_ref() == Some(&owner)
                && latest < model.state.deadline()
                && !model.lapsed
                && model.owner_changed < began
                && !model.forgotten(began, latest)
            {
                self.violate("I8", || "a session of an owner outlived the end of all".into());
            }
        }
    }

    /// Records the keys that a request received as an owner's list.
    pub(crate) fn listed(&mut self, number: usize, keys: &[SessionKey]) {
        self.say(|names| format!("request {number} lists {}", names.of_all(keys)));
        self.counters.lists += 1;
        self.counters.listed += keys.len() as u64;
        let request = &self.requests[&number];
        let latest = request.latest;
        let Some(Revocation { owner, there, began, .. }) = request.revocations.last().cloned()
        else {
            return;
        };
        for life in there {
            let model = &self.lives[life];
            let told = keys.iter().any(|key| self.life_of.get(key) == Some(&life));
            let lives = model.end.is_none()
                && model.state.owner.as_ref() == Some(&owner)
                && latest < model.state.deadline()
                // By an earlier reading of the clock, the session had expired: a store may delete it.
                && !model.lapsed
                && model.moves_since(began).next().is_none();
            if lives && !told {
                self.violate("I8", || "a live session is missing in its owner's list".into());
            }
        }
        let lives: Vec<_> = keys.iter().filter_map(|key| self.life_of.get(key)).collect();
        let distinct: std::collections::BTreeSet<_> = lives.iter().collect();
        if distinct.len() < lives.len() {
            self.violate("I8", || "a session is listed twice".into());
        }
        for key in keys {
            // The destination of a failed move may remain, under an ID that was never sent.
            let life = self.life_of.get(key).map(|life| &self.lives[*life]);
            let life = life.filter(|life| life.index_of(*key).is_some());
            let ended = life.and_then(|life| life.end_told);
            if ended.is_some_and(|ended| ended < began) {
                self.violate("I2", || "a session is listed that was ended".into());
            }
        }
    }

    fn live(&self, owner: &Owner, latest: Timestamp) -> impl Iterator<Item = usize> {
        self.lives
            .iter()
            .enumerate()
            .filter(move |(_, life)| {
                life.end.is_none()
                    && life.state.owner.as_ref() == Some(owner)
                    && latest < life.state.deadline()
            })
            .map(|(number, _)| number)
    }
}
