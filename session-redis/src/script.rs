use redis::Script;

/// The scripts that run inside of Redis, each on one key, so that they work on a cluster too.
///
/// They read and write the fixed header of a record, whose layout is
/// [`session_core::envelope`]'s.
#[derive(Clone, Debug)]
pub(crate) struct Scripts {
    pub(crate) commit: Script,
    pub(crate) touch: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        Self {
            commit: Script::new(include_str!("scripts/commit.lua")),
            touch: Script::new(include_str!("scripts/touch.lua")),
        }
    }
}

#[cfg(test)]
mod tests {
    use session_core::envelope::{
        ENDS_AT, HEADER_LEN, IDLE, KIND, LAST_SEEN_AT, LIVE, REVISION, VERSION,
    };

    use super::*;

    /// The scripts name the layout's places by number, counted from one where it is Lua that counts.
    #[test]
    fn scripts_fit_the_layout() {
        let Scripts { commit, touch } = Scripts::new();
        assert_eq!((VERSION, LIVE, KIND, HEADER_LEN), (1, 0, 1, 40));
        assert_eq!((REVISION, LAST_SEEN_AT, IDLE, ENDS_AT), (2..8, 16..22, 22..28, 28..34));
        assert_ne!(commit.get_hash(), touch.get_hash());
    }
}
