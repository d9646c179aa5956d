//! Errors that a server sends, reduced to their code and a known text.
//!
//! A server may quote parts of a command, including a password, and any program that listens at the
//! address may send any text. An error therefore keeps only its code and a text of this crate: the
//! entry of [`PHRASES`] that the text of the server contains, or the entry of [`MEANINGS`] for the
//! code. Only a redirection (`MOVED`, `ASK`) keeps the slot and the address that the server sent.

use redis::{Arg, Cmd, ErrorKind, RedisError, RedisResult, ServerError, ServerErrorKind, Value};

/// Turns an error that the server sent into an error of the command.
///
/// An error inside an array stays in the array: replies to the commands of this crate have errors
/// only at the top level.
pub(crate) fn extract(answer: Value) -> RedisResult<Value> {
    match answer {
        Value::ServerError(error) => Err(redact(error.into())),
        answer => Ok(answer),
    }
}

/// Removes the text of the server from an error.
pub(crate) fn redact(error: RedisError) -> RedisError {
    if error.kind() == ErrorKind::Parse {
        return (ErrorKind::Parse, "the server's answer is not of Redis's protocol").into();
    }
    // redis-rs reports a refused `SELECT` with a text of its own. The reply of the server is in the
    // detail.
    if error.to_string().contains("refused to switch database") {
        let details = error.detail().filter(|details| details.contains(SELECT_IN_CLUSTER));
        return server_error("ERR", details.unwrap_or(SELECT_REFUSED));
    }
    match ServerError::try_from(error) {
        Ok(error) => {
            let details = error.details().unwrap_or_default();
            let (code, details) = inside_of_script(details).unwrap_or((error.code(), details));
            server_error(code, details)
        }
        Err(error) => match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => server_error(code, detail),
            _ => error,
        },
    }
}

/// Returns `true` if the server sent the error, so that the error is a reply.
pub(crate) fn is_of_server(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Returns `true` if the server does not know the command, or a command inside a script.
pub(crate) fn is_unknown_command(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with(UNKNOWN_COMMAND) || detail == UNKNOWN_IN_SCRIPT
}

/// Adds the name of the command to an error, if the server does not know the command or forbids it.
pub(crate) fn name_command(error: RedisError, command: &Cmd) -> RedisError {
    let is_forbidden = error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm);
    match (error.code(), error.detail(), command.args_iter().next()) {
        (Some(code), Some(detail), Some(Arg::Simple(name)))
            if is_forbidden || detail == UNKNOWN_COMMAND =>
        {
            parse(&format!("-{code} {detail}: {}", String::from_utf8_lossy(name)))
        }
        _ => error,
    }
}

fn server_error(code: &str, details: &str) -> RedisError {
    let code = if is_code(code) { code } else { "ERR" };
    let text = match code {
        "MOVED" | "ASK" if is_redirection(details) => details,
        "ERR" => PHRASES.into_iter().find(|phrase| details.contains(phrase)).unwrap_or_default(),
        code => MEANINGS.into_iter().find(|(of, _)| *of == code).unwrap_or_default().1,
    };
    parse(format!("-{code} {text}").trim_end())
}

fn parse(line: &str) -> RedisError {
    match redis::parse_redis_value(format!("{line}\r\n").as_bytes()) {
        Ok(Value::ServerError(error)) => error.into(),
        _ => (ErrorKind::Parse, "the server's error is not of Redis's protocol").into(),
    }
}

/// Returns the code and the text of an error that a command inside a script caused.
///
/// Up to version 6.2, Redis wraps this error in an error about the script. In the first example the
/// server refused the command, in the second the command ran and failed:
///
/// ```text
/// ERR Error running script (call to f_7ea1…): @user_script:1: @user_script: 1: -READONLY You can't write …
/// ERR Error running script (call to f_a8d0…): @user_script:1: WRONGTYPE Operation against a key holding …
/// ```
fn inside_of_script(details: &str) -> Option<(&str, &str)> {
    let (_, mut text) =
        details.strip_prefix("Error running script (call to f_")?.split_once("): ")?;
    while let Some(place) = text.strip_prefix("@user_script:") {
        text = place.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        text = text.strip_prefix(": ")?;
    }
    // Redis sends these two errors without a code.
    if text.starts_with("The user executing the script can't") {
        return Some(("NOPERM", text));
    }
    if text.starts_with(UNKNOWN_IN_SCRIPT) {
        return Some(("ERR", text));
    }
    let (code, text) = text.strip_prefix('-').unwrap_or(text).split_once(' ')?;
    is_code(code).then_some((code, text))
}

fn is_code(code: &str) -> bool {
    (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Returns `true` if the text is a slot and an address, such as `3999 127.0.0.1:6381`.
fn is_redirection(details: &str) -> bool {
    let of_address = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:?[]%".contains(&byte);
    details.split_once(' ').is_some_and(|(slot, address)| {
        slot.parse::<u16>().is_ok()
            && address.len() <= MAX_ADDRESS
            && address.bytes().all(of_address)
    })
}

/// The maximal length of a code in bytes: longer than any code of Redis.
const MAX_CODE: usize = 32;

/// The maximal length of an address in bytes: a host name has at most 253 characters (RFC 1035,
/// section 2.3.4), and a port five.
const MAX_ADDRESS: usize = 260;

/// Part of the reply of a server that has reached its limit `maxclients`.
pub(crate) const TOO_MANY_CLIENTS: &str = "max number of clients";

/// Part of the reply of a cluster node to `SELECT`.
pub(crate) const SELECT_IN_CLUSTER: &str = "SELECT is not allowed in cluster mode";

/// The text that replaces all other refusals of `SELECT`.
pub(crate) const SELECT_REFUSED: &str = "the server refuses the database";

/// Part of the reply to `CLUSTER` of a server outside of a cluster.
pub(crate) const CLUSTER_DISABLED: &str = "cluster support disabled";

const UNKNOWN_COMMAND: &str = "unknown command";
const UNKNOWN_IN_SCRIPT: &str = "Unknown Redis command";

/// Texts of this crate for the codes that an operator may see.
const MEANINGS: [(&str, &str); 12] = [
    ("BUSY", "a script keeps the server busy"),
    ("CLUSTERDOWN", "the cluster does not serve the slot"),
    ("DENIED", "the server is in protected mode"),
    ("LOADING", "the server is loading its data"),
    ("MASTERDOWN", "the replica has lost its primary"),
    ("MISCONF", "the server cannot persist its data"),
    ("NOAUTH", "the server wants a password"),
    ("NOPERM", "the user has no right to the command or the key"),
    ("NOREPLICAS", "the server has not enough replicas to write"),
    ("OOM", "the server's memory is full"),
    ("READONLY", "the server is a replica"),
    ("WRONGTYPE", "the key has a value of another type"),
];

/// The parts of `ERR` replies on which this crate decides how to treat an error.
const PHRASES: [&str; 6] = [
    UNKNOWN_COMMAND,
    UNKNOWN_IN_SCRIPT,
    TOO_MANY_CLIENTS,
    SELECT_IN_CLUSTER,
    SELECT_REFUSED,
    CLUSTER_DISABLED,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> RedisError {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .unwrap()
            .extract_error()
            .unwrap_err()
    }

    /// The errors are those of Redis 6.2.14.
    #[test]
    fn error_inside_a_script_keeps_its_code_and_loses_its_text() {
        for (inside, kept) in [
            ("@user_script: 1: -READONLY You can't write against a read only replica.", "READONLY"),
            ("@user_script: 12: -NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
            ("@user_script: 1: -OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
            ("@user_script: 1: -MISCONF Redis is configured to save RDB snapshots", "MISCONF"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
            (
                "@user_script: 1: The user executing the script can't run this command or subcommand",
                "NOPERM",
            ),
            (
                "@user_script: 1: Unknown Redis command called from Lua script",
                "ERR Unknown Redis command",
            ),
        ] {
            let wrapped =
                format!("ERR Error running script (call to f_7ea1e4d8): @user_script:1: {inside}");
            assert_eq!(redact(error(&wrapped)), redact(error(kept)), "{inside}");
        }
    }

    #[test]
    fn error_keeps_its_code_and_what_decides_about_it() {
        let called = "ERR Error running script (call to f_7ea1): ";
        let long = "X".repeat(MAX_CODE + 1);
        for (sent, kept) in [
            (
                "READONLY You can't write against a read only replica. script: 7ea1",
                "READONLY the server is a replica",
            ),
            (
                "NOPERM User alice has no permissions to run the 'get' command",
                "NOPERM the user has no right to the command or the key",
            ),
            ("UPSTREAM hunter2 is no password", "UPSTREAM"),
            (
                "ERR unknown command 'AUTH', with args beginning with: 'hunter2' ",
                "ERR unknown command",
            ),
            ("ERR max number of clients reached", "ERR max number of clients"),
            ("MOVED 3999 127.0.0.1:6381", "MOVED 3999 127.0.0.1:6381"),
            ("ASK 3999 [::1]:6381", "ASK 3999 [::1]:6381"),
            ("MOVED 3999 hunter2 hunter2", "MOVED"),
            ("MOVED hunter2", "MOVED"),
            ("hunter2 is no password", "ERR"),
            (long.as_str(), "ERR"),
            ("ERR Error running script", "ERR"),
            (called, "ERR"),
            (&format!("{called}@user_script:1: "), "ERR"),
            (&format!("{called}@user_script:1"), "ERR"),
            (&format!("{called}@user_script:1: user_script:1: READONLY says the script"), "ERR"),
            (&format!("{called}@user_script:1: {long} text"), "ERR"),
            (&format!("{called}@user_script:1: bad argument #2 to 'unpack'"), "ERR"),
        ] {
            let redacted = redact(error(sent));
            assert_eq!(redacted, error(kept), "{sent}");
            for shown in [format!("{redacted}"), format!("{redacted:?}")] {
                assert!(!shown.contains("hunter2"), "{shown}");
            }
        }
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        for answer in [Value::Okay, Value::Nil, Value::Array(vec![Value::Int(1)])] {
            assert_eq!(extract(answer.clone()), Ok(answer));
        }
    }
}
