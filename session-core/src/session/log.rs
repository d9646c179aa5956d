use crate::record::Change;

/// The changes since the last commit.
#[derive(Default)]
pub(super) struct Log {
    pub(super) changes: Vec<Change>,
    /// `true` if a change has an effect on the session as this request sees it. A change that only
    /// confirms the session is replayed beside others, but does not cause a write.
    pub(super) has_effect: bool,
}

impl Log {
    /// Adds a change, and returns the earlier changes that it replaces. A conditional update stays,
    /// because a replay checks its condition again, and so does everything that it may have read.
    /// `act_as` keeps the values of the login aside, and so their changes.
    pub(super) fn push(&mut self, change: Change) -> Vec<Change> {
        let replaced = match &change {
            Change::Set { name, .. } | Change::Remove { name } => {
                let first = self.changes.iter().rposition(Change::needs_earlier_changes);
                let first = first.map_or(0, |place| place + 1);
                self.changes.extract_if(first.., |earlier| earlier.name() == Some(name)).collect()
            }
            _ => Vec::new(),
        };
        self.changes.push(change);
        replaced
    }

    pub(super) fn append(&mut self, newer: Self) {
        self.has_effect |= newer.has_effect;
        self.changes.extend(newer.changes);
    }

    pub(super) fn has_login(&self) -> bool {
        self.changes.iter().any(Change::is_login)
    }
}
