use crate::transport::Script;

/// The scripts that Redis runs. Each script uses a single key, so that all scripts work on a
/// cluster.
///
/// The scripts read and write the fixed header of a record. [`session_core::envelope`] defines the
/// layout.
pub(crate) struct Scripts {
    pub(crate) commit: Script,
    pub(crate) touch: Script,
    pub(crate) delete: Script,
    pub(crate) discard: Script,
    pub(crate) enter: Script,
    pub(crate) leave: Script,
    pub(crate) end: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            commit: Script::new(include_str!("scripts/commit.lua")),
            touch: Script::new(include_str!("scripts/touch.lua")),
            delete: Script::new(include_str!("scripts/delete.lua")),
            discard: Script::new(include_str!("scripts/discard.lua")),
            enter: Script::new(include_str!("scripts/enter.lua")),
            leave: Script::new(include_str!("scripts/leave.lua")),
            end: Script::new(include_str!("scripts/end.lua")),
        }
    }
}

#[cfg(test)]
mod tests {
    use session_core::envelope::{
        ENDS_AT, HEADER_LEN, IDLE, KIND, LAST_SEEN_AT, LIVE, MOVED, REVISION, VERSION,
    };

    use super::*;

    /// The scripts contain the offsets of the layout as numbers. Lua counts from one.
    #[test]
    fn scripts_fit_the_layout() {
        let Scripts { commit, touch, delete, discard, enter, leave, end } = Scripts::new();
        assert_eq!((VERSION, LIVE, MOVED, KIND, HEADER_LEN), (1, 0, 1, 1, 40));
        assert_eq!((REVISION, LAST_SEEN_AT, IDLE, ENDS_AT), (2..8, 16..22, 22..28, 28..34));
        let scripts = [commit, touch, delete, discard, enter, leave, end];
        let hashes: std::collections::BTreeSet<_> =
            scripts.iter().map(|script| &script.hash).collect();
        assert_eq!(hashes.len(), scripts.len());
    }
}
