use std::collections::BTreeSet;

use session_core::{IndexKey, Key, Lifetime, Owner, Record, Timestamp};

use crate::sim::{
    plan::NAMES,
    view::{User, Values},
};

/// The state that a session must have, according to the requests that took effect.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) values: Values,
    pub(crate) owner: Option<Owner>,
    /// The login of the user who acts as the owner. Of a stored record, only the user is known.
    pub(crate) actor: Option<Box<State>>,
    pub(crate) links: Links,
    pub(crate) lifetime: Lifetime,
    /// The end of the impersonation. Of a stored record, the absolute deadline.
    pub(crate) ends_by: Option<Timestamp>,
    pub(crate) created_at: Timestamp,
    pub(crate) last_seen_at: Timestamp,
}

impl State {
    pub(crate) fn new(created_at: Timestamp, lifetime: Lifetime) -> Self {
        Self {
            values: Values::default(),
            owner: None,
            actor: None,
            links: Links::new(),
            lifetime,
            ends_by: None,
            created_at,
            last_seen_at: created_at,
        }
    }

    /// Reads a stored record.
    pub(crate) fn read(record: &Record) -> Self {
        let actor = record.actor().map(|actor| {
            let login = Self::new(record.created_at(), record.lifetime());
            Box::new(Self { owner: Some(actor.clone()), ..login })
        });
        Self {
            values: NAMES.map(|name| record.get(Key::<u64>::new(name))),
            owner: record.owner().cloned(),
            actor,
            links: record
                .index_keys()
                .into_iter()
                .skip(usize::from(record.owner().is_some()))
                .collect(),
            lifetime: record.lifetime(),
            ends_by: Some(record.absolute_deadline()),
            created_at: record.created_at(),
            last_seen_at: record.last_seen_at(),
        }
    }

    /// Returns the owner, and the user who acts as the owner.
    pub(crate) fn user(&self) -> User {
        let actor = self.actor.as_ref().and_then(|login| login.owner.clone());
        User { owner: self.owner.clone(), actor }
    }

    /// Returns the signed-in user: the actor, or else the owner.
    pub(crate) fn signed_in(&self) -> Option<Owner> {
        let User { owner, actor } = self.user();
        actor.or(owner)
    }

    /// Returns the keys of the indexes that list the session: those of the owner and of the actor.
    pub(crate) fn indexes(&self) -> BTreeSet<IndexKey> {
        let own = self.owner.iter().map(Owner::key).chain(self.links.iter().copied());
        own.chain(self.actor.iter().flat_map(|login| login.indexes())).collect()
    }

    /// Returns `true` if an index lists the session.
    pub(crate) fn is_in(&self, index: IndexKey) -> bool {
        self.indexes().contains(&index)
    }

    /// Returns `true` if both are sessions of the same user with the same links.
    pub(crate) fn is_of_same_user(&self, other: &Self) -> bool {
        (self.user(), self.indexes()) == (other.user(), other.indexes())
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        let idle = self.last_seen_at + self.lifetime.idle();
        idle.min(self.absolute_deadline())
    }

    pub(crate) fn absolute_deadline(&self) -> Timestamp {
        let deadline = self.created_at + self.lifetime.absolute();
        self.ends_by.map_or(deadline, |end| end.min(deadline))
    }

    /// Applies the changes of one commit at `now`. New sessions and logins begin with the lifetime
    /// `standard`, unless the request sets another.
    pub(crate) fn apply(&mut self, log: &[Logged], part: Part, standard: Lifetime, now: Timestamp) {
        for logged in log {
            match &logged.change {
                Change::Set(slot, value) => self.values[*slot] = Some(*value),
                Change::Increment(slot) => {
                    self.values[*slot] = Some(self.values[*slot].unwrap_or_default() + 1);
                }
                Change::Remove(slot) => self.values[*slot] = None,
                Change::Clear(seen) if part == Part::Values => {
                    for (value, _) in self.values.iter_mut().zip(seen).filter(|(_, seen)| **seen) {
                        *value = None;
                    }
                }
                _ if part == Part::Values => {}
                Change::Clear(_) => self.values = Values::default(),
                Change::SetLifetime(lifetime) => {
                    let login = self.actor.as_ref().map(|login| login.lifetime);
                    self.lifetime = login.map_or(*lifetime, |login| within(*lifetime, login));
                }
                Change::Authenticate { owner, at, lifetime, links } => {
                    let is_other = self.owner.as_ref().is_some_and(|former| former != owner);
                    if self.actor.take().is_some() || is_other {
                        self.values = Values::default();
                    }
                    self.ends_by = None;
                    self.owner = Some(owner.clone());
                    self.created_at = *at;
                    self.links.clone_from(links);
                    self.lifetime = lifetime.unwrap_or(standard);
                }
                Change::Link(link) => {
                    self.links.insert(*link);
                }
                Change::ActAs { user, until } if self.actor.is_none() => {
                    let login = self.clone();
                    self.values = Values::default();
                    self.links = Links::new();
                    self.owner = Some(user.clone());
                    self.ends_by = Some(login.ends_by.map_or(*until, |end| end.min(*until)));
                    self.actor = Some(Box::new(login));
                }
                Change::StopActing => {
                    if let Some(login) = self.actor.take() {
                        *self = Self { last_seen_at: self.last_seen_at, ..*login };
                    }
                }
                Change::ActAs { .. } | Change::Rotate | Change::Renew => {}
            }
        }
        if part == Part::Everything && log.iter().any(Logged::is_login) {
            self.created_at = now;
            if let Some(login) = &mut self.actor {
                login.created_at = now;
            }
        }
    }

    /// Returns the difference from a stored state as a text.
    pub(crate) fn difference(&self, stored: &Self) -> Option<String> {
        let text = |value: Option<u64>| value.map_or("nothing".to_owned(), |n| n.to_string());
        for (slot, name) in NAMES.iter().enumerate() {
            let (mine, theirs) = (self.values[slot], stored.values[slot]);
            if mine != theirs {
                return Some(format!("{name} is {}, not {}", text(theirs), text(mine)));
            }
        }
        if self.user() != stored.user() {
            return Some("the owner or the actor is another".to_owned());
        }
        if self.indexes() != stored.indexes() {
            return Some("the links are others".to_owned());
        }
        if self.absolute_deadline() != stored.absolute_deadline() {
            return Some("the end is another".to_owned());
        }
        if self.lifetime != stored.lifetime {
            return Some("the lifetime is another".to_owned());
        }
        (self.created_at != stored.created_at).then(|| "the begin is another".to_owned())
    }
}

/// Returns a lifetime whose times are at most those of the actor's login.
fn within(lifetime: Lifetime, login: Lifetime) -> Lifetime {
    let idle = lifetime.idle().min(login.idle());
    let absolute = lifetime.absolute().min(login.absolute());
    let capped = Lifetime::new(idle, absolute).expect("both times are shorter");
    let capped = capped.with_cookie(lifetime.cookie());
    match lifetime.renew_after() {
        Some(age) => capped.with_renew_after(age).expect("the age is not zero"),
        None => capped,
    }
}

/// The part of a request's changes that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Everything,
    /// The values only, because another request's login or rotation came first.
    Values,
}

/// A recorded change.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    pub(crate) change: Change,
    /// The request sees an effect of the change, so that a commit is necessary.
    pub(crate) effective: bool,
    /// The number of times that the change took effect.
    pub(crate) applied: u32,
}

impl Logged {
    pub(crate) fn is_login(&self) -> bool {
        matches!(self.change, Change::Authenticate { .. })
    }

    pub(crate) fn begins_acting(&self) -> bool {
        matches!(self.change, Change::ActAs { .. })
    }

    /// Returns `true` if the change gives the session to another user.
    pub(crate) fn changes_user(&self, before: &State) -> bool {
        match &self.change {
            Change::Authenticate { owner, .. } => {
                before.actor.is_some()
                    || before.owner.as_ref().is_some_and(|former| former != owner)
            }
            Change::ActAs { .. } | Change::StopActing => true,
            _ => false,
        }
    }

    /// Returns `true` if the change closes the former ID.
    pub(crate) fn closes_the_former_id(&self) -> bool {
        matches!(
            self.change,
            Change::Authenticate { .. }
                | Change::Link(_)
                | Change::ActAs { .. }
                | Change::StopActing
                | Change::Rotate
        )
    }

    /// Returns `true` for a change of single values.
    pub(crate) fn is_of_values(&self) -> bool {
        matches!(
            self.change,
            Change::Set(..) | Change::Increment(_) | Change::Remove(_) | Change::Clear(_)
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Set(usize, u64),
    Increment(usize),
    Remove(usize),
    /// The values that the request saw.
    Clear([bool; NAMES.len()]),
    SetLifetime(Lifetime),
    /// The owner, the time of the call, and the lifetime and the links that the request has set before.
    Authenticate {
        owner: Owner,
        at: Timestamp,
        lifetime: Option<Lifetime>,
        links: Links,
    },
    Link(IndexKey),
    ActAs {
        user: Owner,
        until: Timestamp,
    },
    StopActing,
    Rotate,
    Renew,
}

impl Change {
    pub(crate) fn login(owner: Owner, at: Timestamp, link: Option<IndexKey>) -> Self {
        Self::Authenticate { owner, at, lifetime: None, links: link.into_iter().collect() }
    }
}

/// The links of a session.
pub(crate) type Links = BTreeSet<IndexKey>;
