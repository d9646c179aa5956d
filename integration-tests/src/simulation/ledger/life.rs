use std::time::Duration;

use session_core::{SessionKey, Timestamp};

use super::state::State;

/// One session from its begin to its end, through all of its keys.
#[derive(Debug)]
pub(crate) struct Life {
    /// The last one is where it is.
    pub(crate) places: Vec<Place>,
    pub(crate) state: State,
    /// When its record was removed.
    pub(crate) end: Option<Step>,
    /// The request that removed it.
    pub(crate) ended_by: Option<usize>,
    /// It was removed because a deadline was over.
    pub(crate) expired: bool,
    /// When a request that ended it was answered with success.
    pub(crate) end_told: Option<Step>,
    /// When a request was told that there is no session because a deadline was over.
    pub(crate) expiry_told: Option<Step>,
    /// When a commit, begun before a touch and applied after it, last took the touch back.
    pub(crate) overtaken: Step,
    /// When what was to be its next place was last ended.
    pub(crate) next_place_ended: Step,
    /// The clock was once behind its deadline: it may have been forgotten, and need not.
    pub(crate) lapsed: bool,
    /// When it last became another owner's.
    pub(crate) owner_changed: Step,
    /// A login that made it its owner's was acknowledged.
    pub(crate) is_acknowledged: bool,
}

/// Counts what happens in a history.
pub(crate) type Step = u64;

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) key: SessionKey,
    pub(crate) moved: Option<Moved>,
    /// The earliest instant at which a request presented the ID of this place.
    pub(crate) presented: Option<Timestamp>,
    /// The latest instant of the first acknowledged request that presented it.
    pub(crate) confirmed: Option<Timestamp>,
}

/// How a session left a key.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) at: Step,
    pub(crate) by: usize,
    /// By a renewal: the former ID opens the session for a while. Else it never does again.
    pub(crate) is_renewal: bool,
    /// By the login of a visitor.
    pub(crate) is_first_login: bool,
    /// The instant from which on the former key need not be remembered: for a renewal, the absolute
    /// deadline of the session.
    pub(crate) forgotten_at: Timestamp,
    /// When the request that moved it was answered with success.
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

    /// Which of its keys this is, if it is one.
    pub(crate) fn index_of(&self, key: SessionKey) -> Option<usize> {
        self.places.iter().position(|place| place.key == key)
    }

    /// Returns `true` if an ID has to open the session, at any time up to `latest`. `ever` is the latest
    /// that any clock has been: by then a store may have removed a tombstone.
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

    /// The moves that lie behind a step.
    pub(crate) fn moves_since(&self, step: Step) -> impl Iterator<Item = &Moved> {
        self.places.iter().filter_map(|place| place.moved.as_ref()).filter(move |m| m.at > step)
    }

    /// Returns `true` if a request that began at `since` may have lost track of it: a session that moved
    /// is remembered under its former key for a bounded time only.
    pub(crate) fn forgotten(&self, since: Step, latest: Timestamp) -> bool {
        self.moves_since(since).any(|moved| moved.forgotten_at <= latest)
    }

    /// Returns `true` if another request signed in or rotated since.
    pub(crate) fn login_by_another(&self, request: usize, since: Step) -> bool {
        self.moves_since(since).any(|moved| !moved.is_renewal && moved.by != request)
    }
}
