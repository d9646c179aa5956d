use redis::{Arg, Cmd, ToSingleRedisArg, cmd};

/// A script that the server knows by its hash, once it was told.
pub(crate) struct Script {
    code: &'static str,
    pub(crate) hash: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
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
}

const MAX_ARGUMENTS: usize = 8;

/// What the command, the hash, a key of usual length and the numbers take.
const KEY_AND_NUMBERS_SIZE: usize = 192;
