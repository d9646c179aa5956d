use std::io::{self, BufRead, IsTerminal as _, Write};

use crate::{failure::Failure, options::Consent};

/// Asks the user before much is revoked, unless the command line confirms it.
pub(crate) fn confirm(consent: Consent, question: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if consent.yes {
        return Ok(());
    }
    if !stdin.is_terminal() {
        return Err(Failure::NotConfirmed("nobody can be asked without a terminal: add --yes"));
    }
    ask(question, &mut stdin.lock(), &mut io::stderr().lock())
}

fn ask(question: &str, input: &mut impl BufRead, output: &mut impl Write) -> Result<(), Failure> {
    write!(output, "{question} [y/N] ")?;
    output.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::NotConfirmed("not confirmed: every session stays")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_confirms() {
        let answer = |mut input: &[u8]| {
            let mut output = Vec::new();
            let answer = ask("revoke 3 sessions?", &mut input, &mut output);
            assert_eq!(output, b"revoke 3 sessions? [y/N] ");
            answer.is_ok()
        };
        for yes in ["y\n", "Y\n", "yes\r\n", " YES "] {
            assert!(answer(yes.as_bytes()), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "no\n", "ye\n", "yes please\n", "\u{1b}[A\n"] {
            assert!(!answer(no.as_bytes()), "{no:?}");
        }
        assert!(!answer(b"\xff\n"));
    }
}
