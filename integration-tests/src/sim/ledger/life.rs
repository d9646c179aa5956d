use std::time::Duration;

use session_core::{SessionKey, Timestamp};

use super::state::State;

/// A session from its start to its end, under all keys.
#[derive(Debug)]
pub(crate) struct Life {
    /// The keys of the session; the last is the present one.
    pub(crate) places: Vec<Place>,
    pub(crate) state: State,
    /// When the record was deleted.
    pub(crate) end: Option<Step>,
    /// The request that deleted the record.
    pub(crate) ended_by: Option<usize>,
    /// The record was deleted because a deadline had passed.
    pub(crate) expired: bool,
    /// When the request that ended the session received its acknowledgement.
    pub(crate) end_told: Option<Step>,
    /// When a request first found the session expired.
    pub(crate) expiry_told: Option<Step>,
    /// When a commit last undid a touch: the commit began before the touch, and was applied after it.
    pub(crate) overtaken: Step,
    /// When the destination of a move was last ended.
    pub(crate) next_place_ended: Step,
    /// The clock was once past the deadline: a store may have deleted the record, but need not.
    pub(crate) lapsed: bool,
    /// When the owner or the links last changed.
    pub(crate) indexes_changed: Step,
    /// The login of the present owner was acknowledged.
    pub(crate) is_acknowledged: bool,
}

/// A count of the events in a history.
pub(crate) type Step = u64;

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) key: SessionKey,
    pub(crate) moved: Option<Moved>,
    /// The earliest instant at which a request presented the ID of this place.
    pub(crate) presented: Option<Timestamp>,
    /// The latest instant of the first acknowledged request that presented the ID.
    pub(crate) confirmed: Option<Timestamp>,
}

/// A move of a session away from a key.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) at: Step,
    pub(crate) by: usize,
    /// The move is a renewal: the former ID opens the session for a while. After any other move, the
    /// former ID is closed.
    pub(crate) is_renewal: bool,
    /// The move gives the session to another user, or gave it for a moment.
    pub(crate) changes_user: bool,
    /// The move is the login of a visitor.
    pub(crate) is_first_login: bool,
    /// The instant from which the tombstone need not exist: for a renewal, the absolute deadline of the
    /// session.
    pub(crate) forgotten_at: Timestamp,
    /// When the request that moved the session received its acknowledgement.
    pub(crate) told: Option<Step>,
}

impl Place {
    pub(crate) fn new(key: SessionKey) -> Self {
        Self { key, moved: None, presented: None, confirmed: None }
    }
}

impl Life {
    pub(crate) fn key(&self) -> SessionKey {
        self.places.last().expect("a life begins somewhere").key
    }

    /// Returns the position of a key among the session's keys, or `None` for a key of another session.
    pub(crate) fn index_of(&self, key: SessionKey) -> Option<usize> {
        self.places.iter().position(|place| place.key == key)
    }

    /// Returns `true` if an ID must open the session at any time up to `latest`. `ever` is the latest
    /// time of any clock so far: by then, a store may have deleted a tombstone.
    pub(crate) fn must_open(
        &self,
        key: SessionKey,
        (latest, ever): (Timestamp, Timestamp),
        grace: Duration,
    ) -> bool {
        let Some(index) = self.index_of(key) else { return false };
        let opens = |hop: &[Place]| {
            let moved = hop[0].moved.as_ref().expect("the session went on");
            moved.is_renewal
                && ever < moved.forgotten_at
                && hop[1].presented.is_none_or(|at| latest < at + grace)
        };
        self.end.is_none()
            && self.expiry_told.is_none()
            && latest < self.state.deadline()
            && self.places[index..].windows(2).all(opens)
    }

    /// Returns `true` if the ID of one place must not lead to another place, at any time from `earliest`
    /// on.
    pub(crate) fn must_not_open(
        &self,
        (from, to): (usize, usize),
        earliest: Timestamp,
        grace: Duration,
    ) -> bool {
        self.places[from..=to].windows(2).any(|hop| {
            let moved = hop[0].moved.as_ref().expect("the session went on");
            !moved.is_renewal || hop[1].confirmed.is_some_and(|at| at + grace <= earliest)
        })
    }

    /// Returns the moves after a step.
    pub(crate) fn moves_since(&self, step: Step) -> impl Iterator<Item = &Moved> {
        self.places.iter().filter_map(|place| place.moved.as_ref()).filter(move |m| m.at > step)
    }

    /// Returns `true` if a request that began at `since` may have lost the session: the tombstone of a
    /// move exists for a bounded time.
    pub(crate) fn forgotten(&self, since: Step, latest: Timestamp) -> bool {
        self.moves_since(since).any(|moved| moved.forgotten_at <= latest)
    }

    /// Returns `true` if another request has signed in or rotated since the step.
    pub(crate) fn login_by_another(&self, request: usize, since: Step) -> bool {
        self.moves_since(since).any(|moved| !moved.is_renewal && moved.by != request)
    }
}
