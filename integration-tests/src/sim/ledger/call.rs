use session_core::{
    Entry, SessionKey, Timestamp,
    testing::{Operation, Verb},
};

use super::life::Step;

/// One call of the store by one request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) request: usize,
    /// The position of this call among the request's calls.
    pub(crate) ordinal: u64,
    pub(crate) operation: Operation,
    pub(crate) now: Timestamp,
    pub(crate) attempt: Attempt,
}

impl Call {
    pub(crate) fn verb(&self) -> Verb {
        self.operation.verb()
    }

    pub(crate) fn keys(&self) -> Vec<SessionKey> {
        self.operation.keys()
    }

    /// Returns the key of an operation on one key.
    pub(crate) fn key(&self) -> SessionKey {
        self.keys()[0]
    }

    /// Returns the entry that the operation would store.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        match &self.operation {
            Operation::Create { entry, .. }
            | Operation::Commit { entry, .. }
            | Operation::CreateEntered { session: entry, .. } => Some(entry),
            _ => None,
        }
    }

    /// Returns the name of the verb, for a trace.
    pub(crate) fn name(&self) -> String {
        format!("{:?}", self.verb()).to_lowercase()
    }
}

/// A commit in progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempt {
    /// The part of the log that the commit stores.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) began: Timestamp,
    pub(crate) step: Step,
    /// The commit stores that part, if it stores anything.
    pub(crate) carries: bool,
    /// The commit must not succeed without storing that part.
    pub(crate) required: bool,
    /// Its changes made a difference, at the start of the commit and when the store applied it.
    pub(crate) changes_state: bool,
    /// The store has applied the commit, though the commit may change nothing.
    pub(crate) commits: bool,
    /// The commit has called the store.
    pub(crate) has_called: bool,
    /// Another request's login came before the commit took effect.
    pub(crate) is_overtaken: bool,
    /// The commit acquires the session's lock, and stores nothing else.
    pub(crate) locks: bool,
    /// The session that the commit changes, or `None` for a new session.
    pub(crate) life: Option<usize>,
    /// The request's `seen_at` at the start of the commit.
    pub(crate) seen_at: Step,
}
