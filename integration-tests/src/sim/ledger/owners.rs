//! The sessions of an owner or a link: the index, the list, and revocation (I8).

use session_core::{Entry, IndexKey, SessionError, SessionKey, Timestamp};

use super::{
    Ledger,
    call::Call,
    life::{Life, Step},
    state::State,
};
use crate::sim::plan::LinkName;

/// The sessions of an index that a request revokes.
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
    index: IndexKey,
    which: Which,
    own: Option<usize>,
    /// The sessions that the request must not miss.
    there: Vec<usize>,
    began: Step,
}

impl Revocation {
    /// Returns `true` if the request may revoke this session.
    pub(crate) fn wants(&self, number: usize, life: &Life, state: &State) -> bool {
        state.is_in(self.index)
            && match self.which {
                Which::All => true,
                Which::Others => self.own != Some(number),
                Which::One(key) => life.index_of(key).is_some(),
                Which::Listed => false,
            }
    }
}

impl Ledger {
    /// Returns the sessions that a command may affect: each index of the session, its key, and an
    /// instant up to which the index must contain the key.
    pub(crate) fn listed_after(&self, call: &Call) -> Vec<(IndexKey, SessionKey, Timestamp)> {
        let (indexes, keys) = (call.operation.indexes(), call.keys());
        let mut listed = Vec::new();
        for (key, entry) in &self.stored {
            let Entry::Session(record) = entry else { continue };
            let until = record.expires_at();
            if until <= self.latest {
                continue;
            }
            let until = Timestamp::from_millis(until.as_millis().saturating_sub(1));
            for index in record.index_keys() {
                if indexes.contains(&index) || keys.contains(key) {
                    listed.push((index, *key, until));
                }
            }
        }
        listed
    }

    /// Records that a live session is missing in one of its indexes.
    pub(crate) fn missing(&mut self, key: SessionKey) {
        self.say(|names| format!("{} is missing in one of its indexes", names.of(key)));
        self.violate("I8", || "a live session is not in one of its indexes".into());
    }

    /// Returns the key of a session of any owner.
    pub(crate) fn some_key(&self, which: u64) -> Option<SessionKey> {
        let at = which.checked_rem(self.lives.len() as u64)?;
        Some(self.lives[usize::try_from(at).ok()?].key())
    }

    /// Records that a request links a session to a name of its own.
    pub(crate) fn linked(&mut self, name: LinkName) {
        self.links.push(name);
    }

    /// Returns the name of any link.
    pub(crate) fn some_link(&self, which: u64) -> LinkName {
        let at = which.checked_rem(self.links.len() as u64).and_then(|at| usize::try_from(at).ok());
        at.map_or(LinkName::Shared(0), |at| self.links[at])
    }

    /// Records that a request asks to act as a user.
    pub(crate) fn asked_to_act(&mut self, may_act: bool, is_accepted: bool) {
        if may_act != is_accepted {
            self.violate("I4", || {
                "an impersonation was refused or allowed against the rules".into()
            });
        }
    }

    /// Records that a request begins to revoke, or to list, sessions of an index.
    pub(crate) fn revoking(&mut self, number: usize, index: IndexKey, which: Which) {
        self.say(|names| match which {
            Which::All => format!("request {number} ends all sessions of an index"),
            Which::Others => format!("request {number} ends its owner's other sessions"),
            Which::One(key) => format!("request {number} ends {} for an owner", names.of(key)),
            Which::Listed => format!("request {number} lists the sessions of an index"),
        });
        let own = self.requests[&number].life;
        let mut revocation = Revocation { index, which, own, there: vec![], began: self.step };
        revocation.there = self
            .live(index, self.requests[&number].latest)
            .filter(|life| {
                let model = &self.lives[*life];
                matches!(revocation.which, Which::Listed)
                    || revocation.wants(*life, model, &model.state)
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
        let Some(Revocation { index, there, began, .. }) = request.revocations.last().cloned()
        else {
            return;
        };
        for life in there {
            let (step, model) = (self.step, &mut self.lives[life]);
            if model.end.is_some() {
                model.end_told.get_or_insert(step);
            } else if model.state.is_in(index)
                && latest < model.state.deadline()
                && !model.lapsed
                && model.indexes_changed < began
                && !model.forgotten(began, latest)
            {
                self.violate("I8", || "a session of an index outlived the end of all".into());
            }
        }
    }

    /// Records the keys that a request received as the list of an index.
    pub(crate) fn listed(&mut self, number: usize, keys: &[SessionKey]) {
        self.say(|names| format!("request {number} lists {}", names.of_all(keys)));
        self.counters.lists += 1;
        self.counters.listed += keys.len() as u64;
        let request = &self.requests[&number];
        let latest = request.latest;
        let Some(Revocation { index, there, began, .. }) = request.revocations.last().cloned()
        else {
            return;
        };
        for life in there {
            let model = &self.lives[life];
            let told = keys.iter().any(|key| self.life_of.get(key) == Some(&life));
            let lives = model.end.is_none()
                && model.state.is_in(index)
                && latest < model.state.deadline()
                // By an earlier reading of the clock, the session had expired: a store may delete it.
                && !model.lapsed
                && model.moves_since(began).next().is_none();
            if lives && !told {
                self.violate("I8", || "a live session is missing in the list of its index".into());
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

    fn live(&self, index: IndexKey, latest: Timestamp) -> impl Iterator<Item = usize> {
        self.lives
            .iter()
            .enumerate()
            .filter(move |(_, life)| {
                life.end.is_none() && life.state.is_in(index) && latest < life.state.deadline()
            })
            .map(|(number, _)| number)
    }
}
