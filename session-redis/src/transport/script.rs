use redis::{Arg, Cmd, ToSingleRedisArg, cmd};

/// A script in Lua. After the first `EVAL`, a server knows the script by its hash.
pub(crate) struct Script {
    code: &'static str,
    pub(crate) hash: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// Creates a call by hash (`EVALSHA`) on one key. The caller then adds the arguments of the
    /// script. `redis::ScriptInvocation` would copy each argument once more.
    ///
    /// `size` is the approximate size of the arguments, in bytes. If the value is too small, the
    /// buffer is copied as it grows.
    pub(crate) fn call(&self, key: impl ToSingleRedisArg, size: usize) -> Cmd {
        let mut call = Cmd::with_capacity(MAX_ARGUMENTS, KEY_AND_NUMBERS_SIZE + size);
        call.arg("EVALSHA").arg(&self.hash).arg(1).arg(key);
        call
    }

    /// Creates a call with the code (`EVAL`), for a server that may not know the script. Afterwards
    /// the server knows the script.
    pub(crate) fn eval(&self, key: impl ToSingleRedisArg) -> Cmd {
        let mut call = cmd("EVAL");
        call.arg(self.code).arg(1).arg(key);
        call
    }

    /// Converts a [`call`](Self::call) into a call with the code, for a server that may not know
    /// the script. Afterwards the server knows the script.
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

    /// Puts the code into the first of several calls that one server runs in order.
    pub(crate) fn put_code_into_the_first(&self, calls: &mut [Cmd]) {
        if let Some(first) = calls.first_mut() {
            *first = self.with_code(first);
        }
    }
}

const MAX_ARGUMENTS: usize = 8;

/// The approximate size of the command, the hash, a key of usual length and the numbers, in bytes.
const KEY_AND_NUMBERS_SIZE: usize = 192;
