//! Text and JSON on the standard output, safe for a terminal.

use std::{
    fmt::Write as _,
    io::{self, Write},
    ops::RangeInclusive,
};

use serde_json::{Value, json};
use session_core::{Owner, Timestamp};

/// The format of the output.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// Prints a value: `text` for people, or the JSON in one line.
    pub(crate) fn print(self, value: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        let line = if self.json { escaped_json(&value.to_string()) } else { text() };
        writeln!(io::stdout().lock(), "{line}")
    }

    /// Prints JSON in several lines.
    pub(crate) fn print_pretty(value: &Value) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{}", escaped_json(&format!("{value:#}")))
    }
}

/// Returns bytes as text, with an escape for each control character and for each byte that is not
/// UTF-8. A terminal could take such a character for a command, or display text in another order.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                letter if is_harmful(letter) => text.extend(letter.escape_default()),
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Returns the JSON of an owner: text, or the bytes if they are not UTF-8.
pub(crate) fn owner_json(owner: &Owner) -> Value {
    match owner.as_str() {
        Some(name) => json!(name),
        None => json!({ "hex": hex(owner.as_bytes()) }),
    }
}

/// Returns the users of a session as text, with two spaces before each.
pub(crate) fn users(owner: Option<&Owner>, actor: Option<&Owner>) -> String {
    let mut text = String::new();
    for (role, user) in [("owner", owner), ("actor", actor)] {
        if let Some(user) = user {
            let _ = write!(text, "  {role} {}", escaped(user.as_bytes()));
        }
    }
    text
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns an instant by RFC 3339, in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    let (secs, millis) = (at.as_millis() / 1_000, at.as_millis() % 1_000);
    let (days, secs) = (secs / 86_400, secs % 86_400);
    // Howard Hinnant's `civil_from_days`, for days after 1970: years begin in March.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns JSON with an escape for each character that JSON permits and a terminal may obey. Such a
/// character is a part of a string.
fn escaped_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter == '\n' || !is_harmful(letter) {
            text.push(letter);
            continue;
        }
        for unit in letter.encode_utf16(&mut [0; 2]) {
            let _ = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

/// Returns `true` for control characters, and for characters that show nothing, or that reorder or
/// hide other text.
fn is_harmful(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_control();
    }
    // The standard library escapes by general category: `Cc`, `Cf`, `Cs`, `Co`, `Cn`, `Zl`, `Zp` and
    // `Zs`. It also escapes a combining mark that begins a text, so that another letter comes first.
    let is_escaped = String::from_iter(['a', letter]).escape_debug().count() > 2;
    is_escaped || UNSEEN.iter().any(|range| range.contains(&letter))
}

/// The letters and marks that show nothing: `Default_Ignorable_Code_Point` in Unicode's
/// `DerivedCoreProperties.txt`, without U+FE0E and U+FE0F, which belong to many emoji, and with the
/// empty pattern of braille.
const UNSEEN: [RangeInclusive<char>; 10] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180d}',
    '\u{180f}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0d}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_for_a_terminal_has_no_commands() {
        let hostile = "ada\u{1b}[2J\r\n\u{9b}31m\u{202e}\u{7f}\\".as_bytes();
        insta::assert_snapshot!(
            escaped(&[hostile, &[0xff, b'!']].concat()),
            @r"ada\u{1b}[2J\r\n\u{9b}31m\u{202e}\u{7f}\\\xff!"
        );
        assert_eq!(escaped("Ada Lovelace, Ωmega".as_bytes()), "Ada Lovelace, Ωmega");
    }

    /// All of `Bidi_Control` in Unicode's `PropList.txt`.
    #[test]
    fn characters_that_reorder_text_are_escaped() {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        for letter in
            marks.into_iter().chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}')
        {
            assert!(is_harmful(letter), "{letter:?}");
        }
    }

    #[test]
    fn characters_that_show_nothing_are_escaped() {
        // Of `Cc`, `Cf`, `Co`, `Cn`, `Zl`, `Zp` and `Zs`.
        let of_each = "\u{85}\u{ad}\u{180e}\u{200b}\u{200d}\u{feff}\u{e0041}\u{e000}\u{10fffe}\u{2028}\u{2029}\u{a0}";
        let selectors_and_blanks =
            "\u{180b}\u{180d}\u{180f}\u{fe00}\u{e0100}\u{e01ef}\u{2800}\u{34f}\u{3164}";
        for letter in of_each.chars().chain(selectors_and_blanks.chars()) {
            assert!(is_harmful(letter), "{letter:?}");
        }
        for name in ["Ωmega", "Zoe\u{308}", "नमस्ते", "山田太郎", "أحمد", "❤\u{fe0f}", "O'Neil \"x\""]
        {
            assert_eq!(escaped(name.as_bytes()), name);
        }
    }

    #[test]
    fn json_for_a_terminal_has_no_commands_and_the_same_value() {
        let hostile = json!({ "owner": "\u{1b}[2J\n\u{9b}\u{202e}\u{7f}\u{e0041}\u{1f600}\\" });
        for plain in [
            serde_json::to_string(&hostile).unwrap(),
            serde_json::to_string_pretty(&hostile).unwrap(),
        ] {
            let safe = escaped_json(&plain);
            assert!(!safe.chars().any(|letter| letter != '\n' && is_harmful(letter)), "{safe}");
            assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), hostile);
        }
    }

    #[test]
    fn time_is_that_of_the_calendar() {
        let text = |millis| time(Timestamp::from_millis(millis));
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(text(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(time(Timestamp::MAX).len(), "10889-08-02T05:31:50.655Z".len());
    }
}
