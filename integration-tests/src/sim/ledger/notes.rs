//! Counts the answers of the store, and writes them to the trace.

use std::sync::Arc;

use session_core::{Committed, Created, Ended, Entry, Touched, testing::Answer};

use super::{Ledger, call::Call};

impl Ledger {
    pub(super) fn count(&mut self, call: &Call, answer: &Answer) {
        let own = |entry: &Entry| call.entry().is_some_and(|mine| mine.nonce() == entry.nonce());
        let counters = &mut self.counters;
        counters.store_calls += 1;
        match answer {
            Answer::Committed(Committed::Conflict(entry)) if own(entry) => {
                counters.own_commits_met += 1
            }
            Answer::Committed(Committed::Conflict(Entry::Session(_))) => counters.conflicts += 1,
            Answer::Committed(Committed::Conflict(Entry::Tombstone(_))) => {
                counters.tombstones_met += 1
            }
            Answer::Deleted(Some(Entry::Tombstone(_))) => counters.tombstones_ended += 1,
            Answer::DeletedOrBlocked(ended) => {
                let of =
                    |wanted: fn(&Ended) -> bool| ended.iter().filter(|e| wanted(e)).count() as u64;
                counters.revocations_moved += of(|ended| matches!(ended, Ended::Tombstone(_)));
                counters.keys_blocked += of(|ended| matches!(ended, Ended::Blocked));
            }
            Answer::Created(_) if matches!(call.entry(), Some(Entry::Tombstone(_))) => {
                counters.creations_blocked += 1;
            }
            Answer::Created(Created::Exists) => counters.own_creations_met += 1,
            _ => {}
        }
    }

    pub(super) fn say_applied(&mut self, call: &Call, answer: &Answer) {
        let start = self.start;
        self.say(|names| {
            let name = names.of_all(&call.keys());
            let verb = call.name();
            let mut entry = |entry: &Entry| names.of_entry(entry, start);
            let what = match (answer, call.entry()) {
                (
                    Answer::Created(Created::Created) | Answer::Committed(Committed::Committed),
                    Some(new),
                ) => {
                    format!("stored: {}", entry(new))
                }
                (Answer::Created(Created::Exists), _) => "there is one already".to_owned(),
                (Answer::Committed(Committed::Conflict(other)), _) => {
                    format!("conflict: {}", entry(other))
                }
                (Answer::Loaded(Some(found)) | Answer::Deleted(Some(found)), _) => entry(found),
                (Answer::Loaded(None) | Answer::Deleted(None), _)
                | (Answer::Committed(Committed::Gone), _) => "nothing there".to_owned(),
                (Answer::Entries(entries), _) => {
                    let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
                    return format!("request {}: {verb}: {}", call.request, names.of_all(&keys));
                }
                (Answer::LoadedMany(found), _) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|found| match found {
                            Ok(Some(found)) => entry(found),
                            Ok(None) | Err(_) => "nothing there".to_owned(),
                        })
                        .collect();
                    found.join(", ")
                }
                (Answer::DeletedOrBlocked(ended), _) => {
                    let text = |ended: &Ended| match ended {
                        Ended::Session(_) => "ended".to_owned(),
                        Ended::Tombstone(tombstone) => {
                            entry(&Entry::Tombstone(Arc::clone(tombstone)))
                        }
                        Ended::Blocked => "blocked".to_owned(),
                    };
                    ended.iter().map(text).collect::<Vec<_>>().join(", ")
                }
                (Answer::Touched(Touched::Touched) | Answer::Entered | Answer::Left, _) => {
                    "done".to_owned()
                }
                (Answer::Touched(Touched::Gone), _) => "nothing there".to_owned(),
                (other, _) => format!("{other:?}"),
            };
            format!("request {}: {verb} {name}: {what}", call.request)
        });
    }
}
