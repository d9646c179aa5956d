use std::{error::Error as _, process::ExitCode};

use session_core::{ConfigError, SessionError, StoreError};

use crate::{options::ID_LEN, output::escaped};

/// The reason why the program ends without success.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Redis is unreachable, refuses the client, or failed.
    Store { error: String, cause: Option<String> },
    /// The command line cannot be parsed. The text is that of clap, in lines.
    Arguments(String),
    /// An argument cannot be used.
    Usage(String),
    /// The session does not exist.
    NotFound(&'static str),
    /// Sessions are left.
    Incomplete(&'static str),
    /// The user did not confirm.
    NotConfirmed(&'static str),
    /// The output is closed.
    Output(std::io::Error),
}

impl Failure {
    /// Prints the reason, and returns the exit code of `--help`.
    pub(crate) fn report(self) -> ExitCode {
        let (code, text) = match self {
            Self::Arguments(text) => {
                // The text repeats the arguments.
                let lines = text.trim_end().lines().map(|line| safe(line) + "\n");
                eprint!("{}", lines.collect::<String>());
                return ExitCode::from(USAGE);
            }
            Self::Store { error, cause: None } => (1, error),
            Self::Store { error, cause: Some(cause) } => (1, format!("{error}: {cause}")),
            // The reader has all that it wants, as `head` does.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Output(error) => (1, format!("the output cannot be written: {error}")),
            Self::Incomplete(text) => (1, text.to_owned()),
            Self::Usage(text) => (USAGE, text),
            Self::NotFound(text) => (3, text.to_owned()),
            Self::NotConfirmed(text) => (4, text.to_owned()),
        };
        eprintln!("error: {}", safe(&text));
        ExitCode::from(code)
    }
}

/// Returns a text for a terminal, without anything that may be a session ID.
pub(crate) fn safe(text: &str) -> String {
    let is_of_an_id = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let text = escaped(text.as_bytes());
    let mut rest = text.as_str();
    let mut safe = String::with_capacity(rest.len());
    while let Some(start) = rest.find(is_of_an_id) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|letter| !is_of_an_id(letter)).unwrap_or(word.len());
        safe.push_str(before);
        safe.push_str(if end < ID_LEN { &word[..end] } else { "(..)" });
        rest = &word[end..];
    }
    safe + rest
}

/// The exit code for a command line that cannot be used, the same as clap's.
const USAGE: u8 = 2;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store { error: error.to_string(), cause: error.source().map(ToString::to_string) }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            SessionError::EmptyOwner | SessionError::TooLarge { .. } => {
                Self::Usage(error.to_string())
            }
            error => Self::Store { error: error.to_string(), cause: None },
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_hides_what_may_be_an_id() {
        let id = "-A_z9".repeat(9);
        assert_eq!(
            safe(&format!("no '{}' or '{id}'", &id[..42])),
            format!("no '{}' or '(..)'", &id[..42])
        );
        assert_eq!(safe(&id[..43]), "(..)");
        assert_eq!(
            safe("--ä X0UXu4nSVZ0XlcYNrmDJxA\u{1b}\n"),
            r"--ä X0UXu4nSVZ0XlcYNrmDJxA\u{1b}\n"
        );
    }
}
