use crate::record::Change;

/// The changes since the last commit.
#[derive(Default)]
pub(super) struct Log {
    pub(super) changes: Vec<Change>,
    /// One of them changes something that this request sees. Changes that only confirm it are replayed
    /// beside others, and are no reason to write.
    pub(super) has_effect: bool,
}

impl Log {
    /// Adds a change, and returns the earlier ones that it makes pointless. What came before the update
    /// of another value stays, as the update may have read it.
    pub(super) fn push(&mut self, change: Change) -> Vec<Change> {
        let replaced = match &change {
            Change::Set { name, .. } | Change::Remove { name } => {
                let reads = |change: &Change| matches!(change, Change::Update { name: other, .. } if **other != **name);
                let first = self.changes.iter().rposition(reads).map_or(0, |place| place + 1);
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
