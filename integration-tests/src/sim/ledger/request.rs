use session_core::{Entry, Lifetime, SessionKey, Timestamp};

use super::{
    call::Attempt,
    life::Step,
    owners::Revocation,
    state::{Links, Logged, State},
};
use crate::sim::view::User;

/// The model's record of a request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) began: Step,
    /// When the handler finished.
    pub(crate) finishing_at: Step,
    /// When a commit began that the store has applied and the request has waited for.
    pub(crate) stored_at: Option<Step>,
    /// When the response was sent.
    pub(crate) finished_at: Step,
    /// The extremes of the clock since the start of the request.
    pub(crate) earliest: Timestamp,
    pub(crate) latest: Timestamp,
    /// The earliest time of the clock since the handler finished.
    pub(crate) earliest_at_finish: Timestamp,
    /// The key of the presented cookie, if a server issued its ID.
    pub(crate) presented: Option<SessionKey>,
    pub(crate) had_to_open: bool,
    /// The result of the last load.
    pub(crate) loaded: Option<Loaded>,
    /// A load was answered with an error.
    pub(crate) load_failed: bool,
    /// The key of the last load, if that load was answered with an error.
    pub(crate) unanswered: Option<SessionKey>,
    /// A touch or a renewal by age failed, which the request need not report.
    pub(crate) upkeep_failed: bool,
    /// A deletion was answered with an error, so that the session may or may not have ended.
    pub(crate) lost_end: bool,
    pub(crate) life: Option<usize>,
    /// When the request loaded the session that it works on.
    pub(crate) seen_at: Step,
    /// The user of the session, as far as this request may see.
    pub(crate) user: User,
    pub(crate) authenticated: bool,
    /// The session of another login that this request joined.
    pub(crate) joined: Option<usize>,
    /// Another request's login or rotation came first. The request continues with its own copy of the
    /// session, and all its changes count.
    pub(crate) has_copy: bool,
    /// The lifetime that the request has set, in any commit: a later login keeps this lifetime.
    pub(crate) chosen: Option<Lifetime>,
    /// The links that the request has set, in any commit: a later login keeps these links.
    pub(crate) linked: Links,
    /// The session had an owner when it was loaded.
    pub(crate) saw_owner: bool,
    /// The request has ended the session of its cookie, so that its next writes begin another session.
    pub(crate) wants_fresh: bool,
    pub(crate) doomed: Vec<usize>,
    /// `doomed`, plus the sessions that the request discarded from there: a command in transit may end
    /// them.
    pub(crate) ever_doomed: Vec<usize>,
    pub(crate) log: Vec<Logged>,
    /// The length of the settled part of the log.
    pub(crate) settled: usize,
    pub(crate) attempt: Option<Attempt>,
    /// The commit of the attempt is in progress.
    pub(crate) is_committing: bool,
    /// The last commit, if its outcome is unknown.
    pub(crate) in_doubt: Option<Attempt>,
    /// The lock that the request holds.
    pub(crate) hold: Option<Hold>,
    /// The sessions that the request may evict.
    pub(crate) victims: Vec<usize>,
    /// The session was opened by the very ID that the request presented, not by a former one.
    pub(crate) has_presented: bool,
    /// The request saw as many sessions as the limit allows.
    pub(crate) met_limit: bool,
    /// The start of a commit in the log, and the session that this commit created.
    pub(crate) created: Option<(usize, usize)>,
    /// All sessions that the request created.
    pub(crate) all_created: Vec<usize>,
    /// The revocations by the request: sessions of an owner, not only its own.
    pub(crate) revocations: Vec<Revocation>,
    /// The request has received the error that its session has ended.
    pub(crate) told_ended: bool,
    pub(crate) done: bool,
}

/// The result of a load, according to the model.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) at: Step,
    pub(crate) key: SessionKey,
    pub(crate) entry: Option<Entry>,
    pub(crate) state: Option<State>,
    pub(crate) now: Timestamp,
}

/// The lock of a session, from the instant at which a request acquired it.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(super) life: usize,
    pub(super) from: Step,
    /// When a commit under the lock last took effect, acknowledged or not.
    pub(super) stored: Option<Step>,
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
            user: User::default(),
            authenticated: false,
            chosen: None,
            linked: Links::new(),
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
            in_doubt: None,
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
