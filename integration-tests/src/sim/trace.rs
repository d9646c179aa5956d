use std::collections::BTreeMap;

use session_core::{Entry, SessionKey, Timestamp};

/// The events of a history as text, if the trace is on.
#[derive(Debug, Default)]
pub(super) struct Trace {
    on: bool,
    names: Names,
    lines: Vec<String>,
}

/// Short names for the keys of a history, in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<SessionKey, usize>);

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self { on, ..Self::default() }
    }

    /// Adds a line; the text is created only if the trace is on.
    pub(super) fn say(&mut self, passed_ms: i128, text: impl FnOnce(&mut Names) -> String) {
        if self.on {
            let text = text(&mut self.names);
            let (sign, ms) = if passed_ms < 0 { ('-', -passed_ms) } else { ('+', passed_ms) };
            let clock = format!("{sign}{}.{:03}s", ms / 1000, ms % 1000);
            self.lines.push(format!("{:>3} {clock:>11}  {text}", self.lines.len() + 1));
        }
    }

    /// Returns the lines, and the key behind each name.
    pub(super) fn into_lines(self) -> Vec<String> {
        let mut keys: Vec<_> = self.names.0.into_iter().collect();
        keys.sort_by_key(|(_, number)| *number);
        let legend = keys.iter().map(|(key, number)| format!("    K{number} is the key {key}"));
        self.lines.into_iter().chain(legend).collect()
    }
}

impl Names {
    pub(super) fn of(&mut self, key: SessionKey) -> String {
        let next = self.0.len() + 1;
        format!("K{}", self.0.entry(key).or_insert(next))
    }

    pub(super) fn of_all(&mut self, keys: &[SessionKey]) -> String {
        let names: Vec<_> = keys.iter().map(|key| self.of(*key)).collect();
        names.join(" and ")
    }

    pub(super) fn of_entry(&mut self, entry: &Entry, start: Timestamp) -> String {
        match entry {
            Entry::Session(record) => format!(
                "a session at revision {}, alive until {}",
                record.revision().as_u64(),
                offset(record.expires_at(), start)
            ),
            Entry::Tombstone(tombstone) => {
                let Some(successor) = tombstone.successor() else {
                    return "blocked".to_owned();
                };
                let successor = self.of(successor);
                if tombstone.is_renewal() {
                    format!("renewed as {successor}")
                } else {
                    format!("moved by a login or rotation to {successor}")
                }
            }
        }
    }
}

fn offset(at: Timestamp, start: Timestamp) -> String {
    let ms = i128::from(at.as_millis()) - i128::from(start.as_millis());
    format!("{}{}.{:03}s", if ms < 0 { '-' } else { '+' }, ms.abs() / 1000, ms.abs() % 1000)
}
