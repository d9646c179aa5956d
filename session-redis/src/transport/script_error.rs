use std::borrow::Cow;

use redis::Value;

/// Replaces an error from inside of a script by the one that the command alone would have been answered with.
///
/// Up to Redis 6.2 the script's own error wraps it. One is of a command that was refused, the other of one that
/// was carried out:
///
/// ```text
/// ERR Error running script (call to f_7ea1…): @user_script:1: @user_script: 1: -READONLY You can't write …
/// ERR Error running script (call to f_a8d0…): @user_script:1: WRONGTYPE Operation against a key holding …
/// ```
///
/// The code is kept, and the text is not. An error of the script itself stays as it is.
pub(super) fn unwrap(answer: Value) -> Value {
    let Value::ServerError(error) = &answer else { return answer };
    let Some(code) = error.details().and_then(code_inside) else { return answer };
    redis::parse_redis_value(format!("-{code}\r\n").as_bytes()).unwrap_or(answer)
}

fn code_inside(details: &str) -> Option<Cow<'_, str>> {
    let (_, mut text) =
        details.strip_prefix("Error running script (call to f_")?.split_once("): ")?;
    while let Some(place) = text.strip_prefix("@user_script:") {
        text = place.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
        text = text.strip_prefix(": ")?;
    }
    // These two come without a code.
    if text.starts_with("The user executing the script can't") {
        return Some("NOPERM".into());
    }
    if text.starts_with("Unknown Redis command") {
        return Some("ERR unknown command".into());
    }
    let code = text.strip_prefix('-').unwrap_or(text).split(' ').next()?;
    let is_code =
        (1..=MAX_CODE).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(code.into())
}

/// Longer than any code of Redis.
const MAX_CODE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    /// As Redis 6.2.14 sends them.
    #[test]
    fn error_inside_a_script_keeps_its_code_and_loses_its_text() {
        for (inside, code) in [
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
                "ERR unknown command",
            ),
        ] {
            let wrapped =
                format!("ERR Error running script (call to f_7ea1e4d8): @user_script:1: {inside}");
            assert_eq!(unwrap(error(&wrapped)), error(code), "{inside}");
        }
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let called = "ERR Error running script (call to f_7ea1): ";
        let long = "X".repeat(MAX_CODE + 1);
        for answer in [
            Value::Okay,
            error("READONLY You can't write against a read only replica. script: 7ea1"),
            error("ERR Error running script"),
            error(called),
            error(&format!("{called}@user_script:1: ")),
            error(&format!("{called}@user_script:1")),
            error(&format!("{called}@user_script:1: user_script:1: READONLY says the script")),
            error(&format!("{called}@user_script:1: {long} text")),
            error(&format!("{called}@user_script:1: bad argument #2 to 'unpack'")),
        ] {
            assert_eq!(unwrap(answer.clone()), answer);
        }
    }
}
