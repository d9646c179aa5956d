//! What the store answered, counted and told.

use std::sync::Arc;

use session_core::{Admitted, Committed, Created, Ended, Entry, Touched};

use super::Ledger;
use crate::simulation::{command::Answer, wire::Call};

impl Ledger {
    pub(super) fn count(&mut self, call: &Call, answer: &Answer) {
        let own =
            |entry: &Entry| call.command.entry().is_some_and(|mine| mine.nonce() == entry.nonce());
        let counters = &mut self.counters;
        counters.store_calls += 1;
        match answer {
            Answer::Commit(Committed::Conflict(entry)) if own(entry) => {
                counters.own_commits_met += 1
            }
            Answer::Commit(Committed::Conflict(Entry::Live(_))) => counters.conflicts += 1,
            Answer::Commit(Committed::Conflict(Entry::Moved(_))) => counters.tombstones_met += 1,
            Answer::Delete(Some(Entry::Moved(_))) => counters.tombstones_ended += 1,
            Answer::EndMany(ended) => {
                let of =
                    |wanted: fn(&Ended) -> bool| ended.iter().filter(|e| wanted(e)).count() as u64;
                counters.revocations_moved += of(|ended| matches!(ended, Ended::Moved(_)));
                counters.keys_barred += of(|ended| matches!(ended, Ended::Barred));
            }
            Answer::Create(_) if matches!(call.command.entry(), Some(Entry::Moved(_))) => {
                counters.creations_barred += 1;
            }
            Answer::Admit(Admitted::Admitted) => counters.admissions += 1,
            Answer::Admit(Admitted::Full(_)) => counters.admissions_full += 1,
            Answer::Create(Created::Exists) => counters.own_creations_met += 1,
            _ => {}
        }
    }

    pub(super) fn say_applied(&mut self, call: &Call, answer: &Answer) {
        let start = self.start;
        self.say(|names| {
            let name = names.of_all(&call.command.keys);
            let verb = call.command.verb.name();
            let mut entry = |entry: &Entry| names.of_entry(entry, start);
            let what = match (answer, call.command.entry()) {
                (
                    Answer::Create(Created::Created) | Answer::Commit(Committed::Committed),
                    Some(new),
                ) => {
                    format!("stored: {}", entry(new))
                }
                (Answer::Create(Created::Exists), _) => "there is one already".to_owned(),
                (Answer::Commit(Committed::Conflict(other)), _) => {
                    format!("conflict: {}", entry(other))
                }
                (Answer::Load(Some(found)) | Answer::Delete(Some(found)), _) => entry(found),
                (Answer::Load(None) | Answer::Delete(None), _)
                | (Answer::Commit(Committed::Gone), _) => "nothing there".to_owned(),
                (Answer::Entries(keys), _) => {
                    return format!("request {}: {verb}: {}", call.request, names.of_all(keys));
                }
                (Answer::Admit(Admitted::Admitted), _) => "admitted".to_owned(),
                (Answer::Admit(Admitted::Full(keys)), _) => {
                    format!("no room besides {}", names.of_all(keys))
                }
                (Answer::LoadMany(found), _) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|found| found.as_ref().map_or("nothing there".to_owned(), &mut entry))
                        .collect();
                    found.join(", ")
                }
                (Answer::EndMany(ended), _) => {
                    let text = |ended: &Ended| match ended {
                        Ended::Session => "ended".to_owned(),
                        Ended::Moved(tombstone) => entry(&Entry::Moved(Arc::clone(tombstone))),
                        Ended::Barred => "barred".to_owned(),
                    };
                    ended.iter().map(text).collect::<Vec<_>>().join(", ")
                }
                (Answer::Touch(Touched::Touched) | Answer::Done, _) => "done".to_owned(),
                (Answer::Touch(Touched::Gone), _) => "nothing there".to_owned(),
                (other, _) => format!("{other:?}"),
            };
            format!("request {}: {verb} {name}: {what}", call.request)
        });
    }
}
