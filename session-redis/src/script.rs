use redis::{Arg, Cmd, ToSingleRedisArg, cmd};

/// The scripts that run inside of Redis, each on one key, so that they work on a cluster too.
///
/// They read and write the fixed header of a record, whose layout is
/// [`session_core::envelope`]'s.
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

/// A script that the server knows by its hash, once it was told.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// A call on one key, to which the script's arguments are added. `redis::ScriptInvocation` would
    /// copy each of them once more.
    ///
    /// `size` is about what the arguments take, in bytes: what grows on the way is copied.
    pub(crate) fn call(&self, key: impl ToSingleRedisArg, size: usize) -> Cmd {
        let mut call = Cmd::with_capacity(MAX_ARGUMENTS, KEY_AND_NUMBERS_SIZE + size);
        call.arg("EVALSHA").arg(&self.hash).arg(1).arg(key);
        call
    }

    /// The same for a server that may not know the script, and does afterwards.
    pub(crate) fn eval(&self, key: impl ToSingleRedisArg) -> Cmd {
        let mut call = cmd("EVAL");
        call.arg(self.code).arg(1).arg(key);
        call
    }

    /// A [`call`](Self::call) for a server that may not know the script, and does afterwards.
    pub(crate) fn with_code(&self, call: &Cmd) -> Cmd {
        let mut eval = cmd("EVAL");
        eval.arg(self.code);
        for arg in call.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                eval.arg(arg);
            }
        }
        eval
    }

    /// The same for many calls that one server carries out in their order.
    pub(crate) fn put_code_into_the_first(&self, calls: &mut [Cmd]) {
        if let Some(first) = calls.first_mut() {
            *first = self.with_code(first);
        }
    }

    /// What tells the server the script.
    pub(crate) fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.code);
        load
    }
}

const MAX_ARGUMENTS: usize = 8;

/// What the command, the hash, a key of usual length and the numbers take.
const KEY_AND_NUMBERS_SIZE: usize = 192;

#[cfg(test)]
mod tests {
    use session_core::envelope::{
        ENDS_AT, HEADER_LEN, IDLE, KIND, LAST_SEEN_AT, LIVE, MOVED, REVISION, VERSION,
    };

    use super::*;

    /// The scripts name the layout's places by number, counted from one where it is Lua that counts.
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
