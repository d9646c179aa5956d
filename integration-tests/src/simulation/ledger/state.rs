use session_core::{Lifetime, Owner, Timestamp};

use crate::simulation::plan::NAMES;

/// The values of a session, by slot.
pub(crate) type Values = [Option<u64>; NAMES.len()];

/// What a session has to be, according to the requests that took effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) values: Values,
    pub(crate) owner: Option<Owner>,
    pub(crate) lifetime: Lifetime,
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
}

impl State {
    pub(crate) fn new(created_at: Timestamp, lifetime: Lifetime) -> Self {
        Self {
            values: Values::default(),
            owner: None,
            lifetime,
            created_at,
            last_seen_at: created_at,
        }
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        let idle = self.last_seen_at + self.lifetime.idle();
        idle.min(self.created_at + self.lifetime.absolute())
    }

    pub(crate) fn apply(&mut self, logged: &Logged) {
        match &logged.change {
            Change::Set(slot, value) => self.values[*slot] = Some(*value),
            Change::Increment(slot) => {
                self.values[*slot] = Some(self.values[*slot].unwrap_or_default() + 1);
            }
            Change::Remove(slot) => self.values[*slot] = None,
            Change::Clear => self.values = Values::default(),
            Change::SetLifetime(lifetime) => self.lifetime = *lifetime,
            Change::Authenticate(owner) => {
                if self.owner.as_ref().is_some_and(|former| former != owner) {
                    self.values = Values::default();
                }
                self.owner = Some(owner.clone());
                self.created_at = logged.at;
            }
            Change::Renew => {}
        }
    }

    /// What differs from what is stored, in words.
    pub(crate) fn difference(&self, stored: &Self) -> Option<String> {
        let text = |value: Option<u64>| value.map_or("nothing".to_owned(), |n| n.to_string());
        for (slot, name) in NAMES.iter().enumerate() {
            let (mine, theirs) = (self.values[slot], stored.values[slot]);
            if mine != theirs {
                return Some(format!("{name} is {}, not {}", text(theirs), text(mine)));
            }
        }
        if self.owner != stored.owner {
            return Some("the owner is another".to_owned());
        }
        if self.lifetime != stored.lifetime {
            return Some("the lifetime is another".to_owned());
        }
        (self.created_at != stored.created_at).then(|| "the begin is another".to_owned())
    }
}

/// A change, and how it was recorded.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) change: Change,
    /// It changes what the request sees, so that a commit is due.
    pub(crate) effective: bool,
    pub(crate) at: Timestamp,
    /// How often it took effect.
    pub(crate) applied: u32,
}

impl Logged {
    pub(crate) fn is_login(&self) -> bool {
        matches!(self.change, Change::Authenticate(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(usize, u64),
    Increment(usize),
    Remove(usize),
    Clear,
    SetLifetime(Lifetime),
    Authenticate(Owner),
    Renew,
}
