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
    /// It was removed because a deadline was over.
    pub(crate) expired: bool,
    /// When a request that ended it was answered with success.
    pub(crate) end_told: Option<Step>,
    /// When a request was told that there is no session because a deadline was over.
    pub(crate) expiry_told: Option<Step>,
    /// When a command last came after a deadline.
    pub(crate) overdue: Step,
    /// When a commit, begun before a touch and applied after it, last took the touch back.
    pub(crate) overtaken: Step,
    /// When what was to be its next place was last ended.
    pub(crate) next_place_ended: Step,
    /// The clock was once behind its deadline: it may have been forgotten, and need not.
    pub(crate) lapsed: bool,
    /// When it last became another owner's.
    pub(crate) owner_changed: Step,
    /// When its lifetime was last changed.
    pub(crate) lifetime_changed: Step,
}

/// Counts what happens in a history.
pub(crate) type Step = u64;

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) key: SessionKey,
    pub(crate) moved: Option<Moved>,
}

/// How a session left a key.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) at: Step,
    pub(crate) by: usize,
    /// Until when the former ID opens the session; never again after a login.
    pub(crate) opens_until: Option<Timestamp>,
    pub(crate) forgotten_at: Timestamp,
    /// When the request that moved it was answered with success.
    pub(crate) told: Option<Step>,
}

impl Life {
    pub(crate) fn key(&self) -> SessionKey {
        self.places.last().expect("a life begins somewhere").key
    }

    /// Which of its keys this is, if it is one.
    pub(crate) fn index_of(&self, key: SessionKey) -> Option<usize> {
        self.places.iter().position(|place| place.key == key)
    }

    /// Tells whether an ID has to open the session, at any time up to `latest`.
    pub(crate) fn must_open(&self, key: SessionKey, latest: Timestamp) -> bool {
        let Some(index) = self.index_of(key) else { return false };
        let moves = &self.places[index..self.places.len() - 1];
        self.end.is_none()
            && self.expiry_told.is_none()
            && latest < self.state.deadline()
            && moves.len() < MOVES_FOLLOWED
            && moves.iter().all(|place| {
                let moved = place.moved.as_ref().expect("the session went on");
                moved.opens_until.is_some_and(|until| latest < until)
            })
    }

    /// The moves that lie behind a step.
    pub(crate) fn moves_since(&self, step: Step) -> impl Iterator<Item = &Moved> {
        self.places.iter().filter_map(|place| place.moved.as_ref()).filter(move |m| m.at > step)
    }

    /// Tells whether a request that began at `since` may have lost track of it: a session that moved is
    /// remembered under its former key for a bounded time only.
    pub(crate) fn forgotten(&self, since: Step, latest: Timestamp) -> bool {
        self.moves_since(since).any(|moved| moved.forgotten_at <= latest)
            || self.moves_since(since).count() >= MOVES_FOLLOWED
    }

    /// Tells whether another request signed in since.
    pub(crate) fn login_by_another(&self, request: usize, since: Step) -> bool {
        self.moves_since(since).any(|moved| moved.opens_until.is_none() && moved.by != request)
    }
}

/// How many moves one request follows at least.
const MOVES_FOLLOWED: usize = 7;
