use session_core::{Entry, Lifetime, Owner, SessionKey, Timestamp};

use super::{
    holds::Hold,
    life::Step,
    owners::Revocation,
    state::{Logged, State},
};

/// What the ledger knows of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) began: Step,
    /// When its handler was done.
    pub(crate) finishing_at: Step,
    /// When a commit began that the store has applied, if the request has waited for it.
    pub(crate) stored_at: Option<Step>,
    /// When its response was sent.
    pub(crate) finished_at: Step,
    /// The clock's extremes since it began.
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
    /// The same since it began to finish.
    pub(crate) earliest_at_finish: Timestamp,
    /// What the client believes to be its session, if it is one that the server issued.
    pub(crate) presented: Option<SessionKey>,
    pub(crate) had_to_open: bool,
    /// What its last load met.
    pub(crate) loaded: Option<Loaded>,
    /// A load was answered with an error.
    pub(crate) load_failed: bool,
    /// The key of the last load, if that was answered with an error.
    pub(crate) unanswered: Option<SessionKey>,
    /// Something that it need not report went wrong: a touch, or a renewal by age.
    pub(crate) upkeep_failed: bool,
    /// A deletion was answered with an error: whether it ended the session is not known.
    pub(crate) lost_end: bool,
    pub(crate) life: Option<usize>,
    /// When it loaded what it works on.
    pub(crate) seen_at: Step,
    /// Whose session it is, as far as this request may see.
    pub(crate) owner: Option<Owner>,
    pub(crate) authenticated: bool,
    /// The session of another login that it joined.
    pub(crate) joined: Option<usize>,
    /// Another request's login or rotation came first: it goes on with its own copy of the session, and
    /// all its changes count.
    pub(crate) has_copy: bool,
    /// The lifetime that the request has set, in whatever commit: its login keeps it.
    pub(crate) chosen: Option<Lifetime>,
    /// The session had an owner when it was loaded.
    pub(crate) saw_owner: bool,
    /// The request has ended the session of its cookie, so that its next writes begin another session.
    pub(crate) wants_fresh: bool,
    pub(crate) doomed: Vec<usize>,
    /// The same with those that it thought better of, which a command under way may end.
    pub(crate) ever_doomed: Vec<usize>,
    pub(crate) log: Vec<Logged>,
    /// What lies before this in the log is settled.
    pub(crate) settled: usize,
    pub(crate) attempt: Option<Attempt>,
    /// The commit of the attempt is under way.
    pub(crate) is_committing: bool,
    /// The lock that it holds.
    pub(crate) hold: Option<Hold>,
    /// The sessions that it may evict.
    pub(crate) victims: Vec<usize>,
    /// It opened the session by the very ID that it presented.
    pub(crate) has_presented: bool,
    /// It saw as many sessions as the limit allows.
    pub(crate) met_limit: bool,
    /// The session that it created, and from where on in the log.
    pub(crate) created: Option<(usize, usize)>,
    /// All sessions that it created.
    pub(crate) all_created: Vec<usize>,
    /// Whose sessions it ends, of those that it does not have itself.
    pub(crate) revocations: Vec<Revocation>,
    /// It was told that its session has ended.
    pub(crate) told_ended: bool,
    pub(crate) done: bool,
}

/// What a load met, by the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) at: Step,
    pub(crate) key: SessionKey,
    pub(crate) entry: Option<Entry>,
    pub(crate) state: Option<State>,
    pub(crate) now: Timestamp,
}

/// A commit under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempt {
    /// The part of the log that it is about.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) began: Timestamp,
    pub(crate) step: Step,
    /// It stores that part, if it stores anything.
    pub(crate) carries: bool,
    /// Success without having stored it is a lie.
    pub(crate) required: bool,
    /// When it began, its changes did not undo each other.
    pub(crate) changes_state: bool,
    /// The store has applied a commit of it, though the commit may change nothing.
    pub(crate) commits: bool,
    /// It takes the session's lock, and stores nothing else.
    pub(crate) locks: bool,
    /// The session that it changes; a new one, if there is none.
    pub(crate) life: Option<usize>,
}

impl Request {
    pub(crate) fn new(
        began: Step,
        now: Timestamp,
        presented: Option<SessionKey>,
        had_to_open: bool,
    ) -> Self {
        Self {
            began,
            finishing_at: began,
            stored_at: None,
            finished_at: began,
            earliest: now,
            latest: now,
            earliest_at_finish: now,
            presented,
            had_to_open,
            loaded: None,
            load_failed: false,
            unanswered: None,
            upkeep_failed: false,
            lost_end: false,
            life: None,
            seen_at: began,
            owner: None,
            authenticated: false,
            chosen: None,
            joined: None,
            has_copy: false,
            saw_owner: false,
            wants_fresh: false,
            doomed: Vec::new(),
            ever_doomed: Vec::new(),
            log: Vec::new(),
            settled: 0,
            attempt: None,
            hold: None,
            victims: Vec::new(),
            has_presented: false,
            is_committing: false,
            met_limit: false,
            created: None,
            all_created: Vec::new(),
            revocations: Vec::new(),
            told_ended: false,
            done: false,
        }
    }

    pub(crate) fn clock_moved(&mut self, now: Timestamp) {
        self.earliest = self.earliest.min(now);
        self.earliest_at_finish = self.earliest_at_finish.min(now);
        self.latest = self.latest.max(now);
    }
}
