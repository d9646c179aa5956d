//! Stores whose index breaks one rule each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use session_core::{
    Created, Ended, Entry, Family, IndexEntry, IndexKey, SessionKey, SessionStore as _, StoreError,
    Timestamp, Tombstone,
    conformance::{self, Report},
    testing::{Answer, Intercept, Intercepted, Operation},
};

use crate::map_store::MapStore;

/// The broken rule of an index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    OneIndexForAll,
    NamesByHalf,
    EnterDoesNothing,
    EnterShortens,
    EnterKeepsTheFirstDeadline,
    EnterEndsTheWholeIndexAtItsDeadline,
    EnterChecksThenActs,
    EntriesSeeWhatHasPassed,
    EntriesForgetAMillisecondEarly,
    EntriesUpToAHundred,
    EntriesForgetTheFamily,
    EntriesCutTheFamily,
    EntriesForgetTheDeadline,
    EntriesAreOneEnterOld,
    CreateEnteredCreatesOnly,
    CreateEnteredEntersOnly,
    CreateEnteredOverwrites,
    CreateEnteredCreatesFirst,
    CreateEnteredEntersTheFirst,
    LeaveDoesNothing,
    LeaveForgetsAll,
    LeaveIgnoresTheFamily,
    LeaveNeedsTheDeadline,
    LeaveForgetsThemOfEveryIndex,
    LoadManyLeavesOutTheMissing,
    LoadManySortsTheKeys,
    LoadManyUpToAHundred,
    DeleteOrBlockLeavesSessions,
    DeleteOrBlockForgetsTheRecord,
    BlockDoesNothing,
    BlockLastsForGood,
    DeleteOrBlockRemovesTombstones,
    DeleteOrBlockSeesExpired,
    DeleteOrBlockUpToAHundred,
    DeleteOrBlockEmptiesTheStore,
    DeleteOrBlockChecksThenActs,
}

/// Breaks one rule of the index.
struct Broken {
    fault: Fault,
    /// The keys of all calls.
    keys: Mutex<BTreeSet<SessionKey>>,
    indexes: Mutex<BTreeMap<IndexKey, Index>>,
    /// Each index before its last `enter`.
    former: Mutex<BTreeMap<IndexKey, Index>>,
}

type Index = BTreeMap<(SessionKey, Family), Timestamp>;

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn of(&self, index: &IndexKey) -> IndexKey {
        let mut bytes = *index.as_bytes();
        match self.fault {
            Fault::OneIndexForAll => bytes.fill(0),
            Fault::NamesByHalf => bytes[8..].fill(0),
            _ => {}
        }
        IndexKey::from_bytes(bytes)
    }

    fn with_index<R>(&self, index: &IndexKey, act: impl FnOnce(&mut Index) -> R) -> R {
        let mut indexes = self.indexes.lock().expect("no holder panics");
        act(indexes.entry(self.of(index)).or_default())
    }

    fn keep(&self, index: &mut Index, entry: IndexEntry) {
        let (key, until) = ((entry.key, entry.family), entry.until);
        let present = index.entry(key).or_insert(until);
        match self.fault {
            Fault::EnterDoesNothing => drop(index.remove(&key)),
            Fault::EnterShortens => *present = until,
            Fault::EnterKeepsTheFirstDeadline => {}
            Fault::EnterEndsTheWholeIndexAtItsDeadline => {
                index.values_mut().for_each(|present| *present = until);
            }
            _ => *present = until.max(*present),
        }
    }

    async fn enter(&self, indexes: &[IndexKey], entry: IndexEntry, now: Timestamp) {
        for index in indexes {
            if self.is(Fault::EnterChecksThenActs) {
                let mut read = self.with_index(index, |entries| entries.clone());
                tokio::task::yield_now().await;
                self.keep(&mut read, entry);
                self.with_index(index, |entries| *entries = read);
                continue;
            }
            self.with_index(index, |entries| {
                let mut former = self.former.lock().expect("no holder panics");
                former.insert(*index, entries.clone());
                entries.retain(|_, until| *until > now);
                self.keep(entries, entry);
            });
        }
    }

    async fn create_entered(
        &self,
        store: &MapStore,
        indexes: &[IndexKey],
        entry: IndexEntry,
        session: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        if self.is(Fault::CreateEnteredOverwrites) {
            store.delete(&entry.key, now).await?;
        }
        if self.is(Fault::CreateEnteredCreatesFirst) {
            let created = store.create(&entry.key, session, now).await?;
            tokio::task::yield_now().await;
            self.enter(indexes, entry, now).await;
            return Ok(created);
        }
        match self.fault {
            Fault::CreateEnteredCreatesOnly => {}
            Fault::CreateEnteredEntersTheFirst => self.enter(&indexes[..1], entry, now).await,
            _ => self.enter(indexes, entry, now).await,
        }
        if self.is(Fault::CreateEnteredEntersOnly) {
            return Ok(Created::Created);
        }
        store.create(&entry.key, session, now).await
    }

    fn leave(&self, index: &IndexKey, entries: &[IndexEntry], now: Timestamp) {
        let keys: Vec<_> = entries.iter().map(|entry| (entry.key, entry.family)).collect();
        match self.fault {
            Fault::LeaveDoesNothing => {}
            Fault::LeaveForgetsAll => self.with_index(index, BTreeMap::clear),
            Fault::LeaveForgetsThemOfEveryIndex => {
                let mut indexes = self.indexes.lock().expect("no holder panics");
                for present in indexes.values_mut() {
                    present.retain(|key, _| !keys.contains(key));
                }
            }
            Fault::LeaveIgnoresTheFamily => self.with_index(index, |present| {
                present.retain(|(key, _), _| entries.iter().all(|entry| entry.key != *key));
            }),
            Fault::LeaveNeedsTheDeadline => self.with_index(index, |present| {
                present.retain(|&(key, family), &mut until| {
                    !entries.contains(&IndexEntry::new(key, family, until))
                });
            }),
            _ => self.with_index(index, |present| {
                present.retain(|key, until| now < *until && !keys.contains(key));
            }),
        }
    }

    fn entries(&self, index: &IndexKey, now: Timestamp) -> Vec<IndexEntry> {
        let early = u64::from(self.is(Fault::EntriesForgetAMillisecondEarly));
        let now = Timestamp::from_millis(now.as_millis() + early);
        if self.is(Fault::EntriesAreOneEnterOld) {
            let former = self.former.lock().expect("no holder panics");
            let entries = former.get(index).cloned().unwrap_or_default();
            let entry = |((key, family), until)| IndexEntry::new(key, family, until);
            return entries.into_iter().map(entry).collect();
        }
        self.with_index(index, |entries| {
            let mut entries: Vec<_> = entries
                .iter()
                .filter(|(_, until)| **until > now || self.is(Fault::EntriesSeeWhatHasPassed))
                .map(|(&(key, family), &until)| match self.fault {
                    Fault::EntriesForgetTheFamily => {
                        IndexEntry::new(key, Family::from_u64(0), until)
                    }
                    Fault::EntriesCutTheFamily => {
                        let family = Family::from_u64(family.as_u64() >> 11 << 11);
                        IndexEntry::new(key, family, until)
                    }
                    Fault::EntriesForgetTheDeadline => IndexEntry::new(key, family, Timestamp::MAX),
                    _ => IndexEntry::new(key, family, until),
                })
                .collect();
            if self.is(Fault::EntriesUpToAHundred) {
                entries.truncate(100);
            }
            entries
        })
    }

    async fn load_many(
        &self,
        store: &MapStore,
        mut keys: Vec<SessionKey>,
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        if self.is(Fault::LoadManySortsTheKeys) {
            keys.sort_unstable();
        }
        let mut loaded = store.load_many(&keys, now).await?;
        if self.is(Fault::LoadManyLeavesOutTheMissing) {
            loaded.retain(|entry| !matches!(entry, Ok(None)));
        }
        if self.is(Fault::LoadManyUpToAHundred) {
            loaded.truncate(100);
        }
        Ok(loaded)
    }

    async fn delete_or_block(
        &self,
        store: &MapStore,
        keys: &[SessionKey],
        marker: &Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let entry = Entry::Tombstone(Arc::new(marker.clone()));
        let mut answers = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let present = store.load(key, now).await?;
            answers.push(match (self.fault, present) {
                (Fault::DeleteOrBlockUpToAHundred, _) if number >= 100 => Ended::Blocked,
                (Fault::DeleteOrBlockLeavesSessions, Some(Entry::Session(record))) => {
                    Ended::Session(Some(record))
                }
                (Fault::DeleteOrBlockForgetsTheRecord, Some(Entry::Session(_))) => {
                    store.delete(key, now).await?;
                    Ended::Session(None)
                }
                (Fault::BlockDoesNothing, None) => Ended::Blocked,
                (Fault::BlockLastsForGood, None) => {
                    let mut bytes = entry.encode();
                    let end = session_core::envelope::ENDS_AT;
                    bytes[end].copy_from_slice(&session_core::envelope::u48(u64::MAX));
                    let marker = Entry::decode(bytes).expect("a marker");
                    store.create(key, marker, now).await?;
                    Ended::Blocked
                }
                (Fault::DeleteOrBlockRemovesTombstones, Some(Entry::Tombstone(tombstone))) => {
                    remove(store, [*key]).await?;
                    Ended::Tombstone(tombstone)
                }
                (Fault::DeleteOrBlockSeesExpired, None) => {
                    store.create(key, entry.clone(), now).await?;
                    Ended::Session(None)
                }
                (Fault::DeleteOrBlockEmptiesTheStore, Some(Entry::Session(record))) => {
                    let all = self.keys.lock().expect("no holder panics").clone();
                    remove(store, all).await?;
                    Ended::Session(Some(record))
                }
                (Fault::DeleteOrBlockChecksThenActs, present) => {
                    tokio::task::yield_now().await;
                    match present {
                        Some(Entry::Session(record)) => {
                            store.delete(key, now).await?;
                            Ended::Session(Some(record))
                        }
                        Some(Entry::Tombstone(tombstone)) => Ended::Tombstone(tombstone),
                        None => {
                            store.create(key, entry.clone(), now).await?;
                            Ended::Blocked
                        }
                    }
                }
                _ => {
                    let ended = store.delete_or_block(&[*key], marker.clone(), now).await?;
                    ended.into_iter().next().expect("one answer for one key")
                }
            });
        }
        Ok(answers)
    }
}

/// Removes entries, also tombstones: the map removes an entry that has expired at the time of a load.
async fn remove(
    store: &MapStore,
    keys: impl IntoIterator<Item = SessionKey>,
) -> Result<(), StoreError> {
    for key in keys {
        store.load(&key, Timestamp::MAX).await?;
    }
    Ok(())
}

#[session_core::async_trait]
impl Intercept<MapStore> for Broken {
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        self.keys.lock().expect("no holder panics").extend(operation.keys());
        Ok(match operation {
            Operation::Enter { index, entry } => {
                self.enter(&[index], entry, now).await;
                Answer::Entered
            }
            Operation::CreateEntered { indexes, entry, session } => {
                Answer::Created(self.create_entered(store, &indexes, entry, session, now).await?)
            }
            Operation::Leave { index, entries } => {
                self.leave(&index, &entries, now);
                Answer::Left
            }
            Operation::Entries { index } => Answer::Entries(self.entries(&index, now)),
            Operation::LoadMany { keys } => {
                Answer::LoadedMany(self.load_many(store, keys, now).await?)
            }
            Operation::DeleteOrBlock { keys, marker } => {
                Answer::DeletedOrBlocked(self.delete_or_block(store, &keys, &marker, now).await?)
            }
            operation => operation.perform(store, now).await?,
        })
    }
}

/// Each fault, and the cases that must find it.
pub(crate) const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::OneIndexForAll, &["entries_are_of_their_index_only"]),
    (Fault::NamesByHalf, &["entries_are_of_their_index_only"]),
    (Fault::EnterDoesNothing, &["entries_are_of_their_index_only"]),
    (Fault::EnterShortens, &["enter_extends_an_entry_and_never_shortens_it"]),
    (Fault::EnterKeepsTheFirstDeadline, &["enter_extends_an_entry_and_never_shortens_it"]),
    (Fault::EnterEndsTheWholeIndexAtItsDeadline, &["entry_ends_at_its_deadline"]),
    (Fault::EnterChecksThenActs, &["n_enters_all_count"]),
    (Fault::EntriesSeeWhatHasPassed, &["entry_ends_at_its_deadline"]),
    (Fault::EntriesForgetAMillisecondEarly, &["entry_ends_at_its_deadline"]),
    (Fault::EntriesUpToAHundred, &["entries_are_of_their_index_only"]),
    (Fault::CreateEnteredCreatesOnly, &["create_entered_stores_a_session_and_its_entry"]),
    (Fault::CreateEnteredEntersTheFirst, &["create_entered_stores_a_session_and_its_entry"]),
    (Fault::CreateEnteredEntersOnly, &["create_entered_stores_a_session_and_its_entry"]),
    (Fault::CreateEnteredOverwrites, &["create_entered_stores_a_session_and_its_entry"]),
    (
        Fault::CreateEnteredCreatesFirst,
        &["create_entered_enters_first", "dropped_create_entered_leaves_no_session_alone"],
    ),
    (Fault::EntriesForgetTheFamily, &["entries_return_family_and_deadline"]),
    (Fault::EntriesCutTheFamily, &["entries_return_family_and_deadline"]),
    (Fault::EntriesForgetTheDeadline, &["entries_return_family_and_deadline"]),
    (Fault::EntriesAreOneEnterOld, &["n_enters_all_count"]),
    (Fault::LeaveNeedsTheDeadline, &["leave_removes_these_entries_and_no_others"]),
    (Fault::LeaveIgnoresTheFamily, &["leave_needs_key_and_family"]),
    (Fault::LeaveDoesNothing, &["leave_removes_these_entries_and_no_others"]),
    (Fault::LeaveForgetsAll, &["leave_removes_these_entries_and_no_others"]),
    (Fault::LeaveForgetsThemOfEveryIndex, &["leave_removes_these_entries_and_no_others"]),
    (Fault::LoadManyLeavesOutTheMissing, &["load_many_answers_in_the_order_of_the_keys"]),
    (Fault::LoadManySortsTheKeys, &["load_many_answers_in_the_order_of_the_keys"]),
    (Fault::LoadManyUpToAHundred, &["load_many_answers_in_the_order_of_the_keys"]),
    (
        Fault::DeleteOrBlockLeavesSessions,
        &[
            "delete_or_block_deletes_sessions_and_blocks_keys",
            "delete_or_block_beside_commit_leaves_nothing",
        ],
    ),
    (
        Fault::DeleteOrBlockForgetsTheRecord,
        &["delete_or_block_deletes_sessions_and_blocks_keys", "delete_or_block_reaches_every_key"],
    ),
    (
        Fault::BlockDoesNothing,
        &["delete_or_block_deletes_sessions_and_blocks_keys", "delete_or_block_reaches_every_key"],
    ),
    (Fault::BlockLastsForGood, &["delete_or_block_deletes_sessions_and_blocks_keys"]),
    (Fault::DeleteOrBlockRemovesTombstones, &["delete_or_block_deletes_sessions_and_blocks_keys"]),
    (Fault::DeleteOrBlockSeesExpired, &["delete_or_block_blocks_expired_keys"]),
    (Fault::DeleteOrBlockUpToAHundred, &["delete_or_block_reaches_every_key"]),
    (Fault::DeleteOrBlockEmptiesTheStore, &["delete_or_block_deletes_sessions_and_blocks_keys"]),
    (
        Fault::DeleteOrBlockChecksThenActs,
        &["delete_or_block_beside_create_leaves_nothing", "one_of_n_delete_or_blocks_deletes"],
    ),
];

pub(crate) async fn check(fault: Fault) -> Report {
    let (keys, indexes, former) = Default::default();
    let broken = Broken { fault, keys, indexes, former };
    conformance::check(Intercepted::new(MapStore::default(), broken)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_of_this_test_passes_without_a_fault() {
    let report = check(Fault::None).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_index_fails_its_cases() {
    for (fault, cases) in FAULTS {
        let missed = crate::missed(cases, || check(*fault)).await;
        assert!(missed.is_empty(), "{fault:?} passes {missed:?}");
    }
}
