//! Stores whose index of owners breaks one rule each.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use session_core::{
    Admission, Admitted, Committed, Created, Ended, Entry, Expected, OwnerIndex, OwnerKey,
    SessionKey, SessionStore, StoreError, Timestamp, Touched,
    conformance::{self, Report},
};

use crate::support::MapStore;

/// The rule that an index breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    OneIndexForAll,
    OwnersByHalf,
    EnterDoesNothing,
    EnterShortens,
    EnterKeepsTheFirstDeadline,
    EnterEndsTheWholeIndexAtItsDeadline,
    EnterChecksThenActs,
    EntriesSeeWhatHasPassed,
    EntriesForgetAMillisecondEarly,
    EntriesUpToAHundred,
    AdmitIgnoresTheLimit,
    AdmitAllowsOneMore,
    AdmitEntersWhomItRefuses,
    AdmitCountsWhatHasPassed,
    AdmitCountsItself,
    AdmitCountsTheReplaced,
    AdmitForgetsTheReplaced,
    AdmitReplacesOne,
    AdmitCountsPairsTwice,
    AdmitCountsPairsOfWhichOneIsLeftAsNone,
    AdmitCountsPairsWithTheReplacedAsNone,
    AdmitTellsOneOfAPair,
    AdmitKeepsTheEnded,
    AdmitChecksThenActs,
    CreateEnteredCreatesOnly,
    CreateEnteredEntersOnly,
    CreateEnteredOverwrites,
    CreateEnteredCreatesFirst,
    LeaveDoesNothing,
    LeaveForgetsAll,
    LeaveForgetsThemOfEveryOwner,
    LoadManyLeavesOutTheMissing,
    LoadManySortsTheKeys,
    LoadManyUpToAHundred,
    EndManyLeavesSessions,
    EndManyBarsNothing,
    EndManyBarsForGood,
    EndManyRemovesTombstones,
    EndManySeesWhatHasExpired,
    EndManyUpToAHundred,
    EndManyEmptiesTheStore,
    EndManyChecksThenActs,
}

/// A store that breaks one rule of the index.
pub(crate) struct Broken {
    fault: Fault,
    sessions: Mutex<Arc<MapStore>>,
    index: Mutex<BTreeMap<OwnerKey, BTreeMap<SessionKey, Timestamp>>>,
}

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn sessions(&self) -> Arc<MapStore> {
        Arc::clone(&self.sessions.lock().expect("no holder panics"))
    }

    fn owner(&self, owner: &OwnerKey) -> OwnerKey {
        let mut bytes = *owner.as_bytes();
        match self.fault {
            Fault::OneIndexForAll => bytes.fill(0),
            Fault::OwnersByHalf => bytes[8..].fill(0),
            _ => {}
        }
        OwnerKey::from_bytes(bytes)
    }

    fn with_index<R>(
        &self,
        owner: &OwnerKey,
        act: impl FnOnce(&mut BTreeMap<SessionKey, Timestamp>) -> R,
    ) -> R {
        let mut index = self.index.lock().expect("no holder panics");
        act(index.entry(self.owner(owner)).or_default())
    }

    fn keep(&self, index: &mut BTreeMap<SessionKey, Timestamp>, key: SessionKey, until: Timestamp) {
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
}

#[async_trait::async_trait]
impl OwnerIndex for Broken {
    async fn enter(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if self.is(Fault::EnterChecksThenActs) {
            let mut read = self.with_index(owner, |index| index.clone());
            tokio::task::yield_now().await;
            self.keep(&mut read, *key, until);
            self.with_index(owner, |index| *index = read);
            return Ok(());
        }
        self.with_index(owner, |index| {
            index.retain(|_, until| *until > now || self.is(Fault::AdmitCountsWhatHasPassed));
            self.keep(index, *key, until);
        });
        Ok(())
    }

    async fn admit(
        &self,
        owner: &OwnerKey,
        key: &SessionKey,
        until: Timestamp,
        admission: &Admission<'_>,
        now: Timestamp,
    ) -> Result<Admitted, StoreError> {
        let replaced = match self.fault {
            Fault::AdmitReplacesOne => &admission.replaces[..admission.replaces.len().min(1)],
            _ => admission.replaces,
        };
        let others = self.with_index(owner, |index| {
            index.retain(|_, until| *until > now || self.is(Fault::AdmitCountsWhatHasPassed));
            if !self.is(Fault::AdmitKeepsTheEnded) {
                index.retain(|key, _| !admission.ended.contains(key));
            }
            let mut others: Vec<_> = index.keys().copied().collect();
            others.retain(|other| {
                (other != key || self.is(Fault::AdmitCountsItself))
                    && (!replaced.contains(other) || self.is(Fault::AdmitCountsTheReplaced))
            });
            let max = admission.max.get() + usize::from(self.is(Fault::AdmitAllowsOneMore));
            let pairs = admission.pairs.iter();
            let count = match self.fault {
                Fault::AdmitCountsPairsTwice => others.len(),
                Fault::AdmitCountsPairsOfWhichOneIsLeftAsNone => {
                    others.len() - pairs.filter(|(_, key)| others.contains(key)).count()
                }
                Fault::AdmitCountsPairsWithTheReplacedAsNone => {
                    let has = |key| index.contains_key(key);
                    others.len() - pairs.filter(|(former, key)| has(former) && has(key)).count()
                }
                _ => admission.count(&others),
            };
            if self.is(Fault::AdmitTellsOneOfAPair) {
                others.retain(|other| admission.pairs.iter().all(|(_, key)| other != key));
            }
            let full = count >= max && !self.is(Fault::AdmitIgnoresTheLimit);
            if !full || self.is(Fault::AdmitEntersWhomItRefuses) {
                if !self.is(Fault::AdmitChecksThenActs) {
                    self.keep(index, *key, until);
                }
                if self.is(Fault::AdmitForgetsTheReplaced) {
                    index.retain(|key, _| !admission.replaces.contains(key));
                }
            }
            full.then_some(others)
        });
        if let Some(others) = others {
            return Ok(Admitted::Full(others));
        }
        if self.is(Fault::AdmitChecksThenActs) {
            tokio::task::yield_now().await;
            self.with_index(owner, |index| self.keep(index, *key, until));
        }
        Ok(Admitted::Admitted)
    }

    async fn create_entered(
        &self,
        owner: &OwnerKey,
        until: Timestamp,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        if self.is(Fault::CreateEnteredOverwrites) {
            self.sessions().delete(key, now).await?;
        }
        if self.is(Fault::CreateEnteredCreatesFirst) {
            let created = self.create(key, entry, now).await?;
            tokio::task::yield_now().await;
            self.enter(owner, key, until, now).await?;
            return Ok(created);
        }
        if !self.is(Fault::CreateEnteredCreatesOnly) {
            self.enter(owner, key, until, now).await?;
        }
        if self.is(Fault::CreateEnteredEntersOnly) {
            return Ok(Created::Created);
        }
        self.create(key, entry, now).await
    }

    async fn leave(
        &self,
        owner: &OwnerKey,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match self.fault {
            Fault::LeaveDoesNothing => {}
            Fault::LeaveForgetsAll => self.with_index(owner, BTreeMap::clear),
            Fault::LeaveForgetsThemOfEveryOwner => {
                let mut owners = self.index.lock().expect("no holder panics");
                for index in owners.values_mut() {
                    index.retain(|key, _| !keys.contains(key));
                }
            }
            _ => self.with_index(owner, |index| {
                index.retain(|key, until| now < *until && !keys.contains(key));
            }),
        }
        Ok(())
    }

    async fn entries(
        &self,
        owner: &OwnerKey,
        now: Timestamp,
    ) -> Result<Vec<SessionKey>, StoreError> {
        let early = u64::from(self.is(Fault::EntriesForgetAMillisecondEarly));
        let now = Timestamp::from_millis(now.as_millis() + early);
        Ok(self.with_index(owner, |index| {
            let mut entries: Vec<_> = index
                .iter()
                .filter(|(_, until)| **until > now || self.is(Fault::EntriesSeeWhatHasPassed))
                .map(|(key, _)| *key)
                .collect();
            if self.is(Fault::EntriesUpToAHundred) {
                entries.truncate(100);
            }
            entries
        }))
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut keys = keys.to_vec();
        if self.is(Fault::LoadManySortsTheKeys) {
            keys.sort_unstable();
        }
        let mut loaded = self.sessions().load_many(&keys, now).await?;
        if self.is(Fault::LoadManyLeavesOutTheMissing) {
            loaded.retain(|entry| !matches!(entry, Ok(None)));
        }
        if self.is(Fault::LoadManyUpToAHundred) {
            loaded.truncate(100);
        }
        Ok(loaded)
    }

    async fn end_many(
        &self,
        keys: &[SessionKey],
        marker: Entry,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut answers = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let present = self.sessions().load(key, now).await?;
            answers.push(match (self.fault, present) {
                (Fault::EndManyUpToAHundred, _) if number >= 100 => Ended::Barred,
                (Fault::EndManyLeavesSessions, Some(Entry::Live(_))) => Ended::Session,
                (Fault::EndManyBarsNothing, None) => Ended::Barred,
                (Fault::EndManyBarsForGood, None) => {
                    let mut bytes = marker.encode();
                    let end = session_core::envelope::ENDS_AT;
                    bytes[end].copy_from_slice(&session_core::envelope::u48(u64::MAX));
                    let marker = Entry::decode(bytes).expect("a marker");
                    self.sessions().create(key, marker, now).await?;
                    Ended::Barred
                }
                (Fault::EndManyRemovesTombstones, Some(Entry::Moved(tombstone))) => {
                    let others = MapStore::default();
                    *self.sessions.lock().expect("no holder panics") = Arc::new(others);
                    Ended::Moved(tombstone)
                }
                (Fault::EndManySeesWhatHasExpired, None) => {
                    self.sessions().create(key, marker.clone(), now).await?;
                    Ended::Session
                }
                (Fault::EndManyEmptiesTheStore, Some(Entry::Live(_))) => {
                    *self.sessions.lock().expect("no holder panics") = Arc::default();
                    Ended::Session
                }
                (Fault::EndManyChecksThenActs, present) => {
                    tokio::task::yield_now().await;
                    match present {
                        Some(Entry::Live(_)) => {
                            self.sessions().delete(key, now).await?;
                            Ended::Session
                        }
                        Some(Entry::Moved(tombstone)) => Ended::Moved(tombstone),
                        None => {
                            self.sessions().create(key, marker.clone(), now).await?;
                            Ended::Barred
                        }
                    }
                }
                _ => {
                    let ended = self.sessions().end_many(&[*key], marker.clone(), now).await?;
                    ended.into_iter().next().expect("one answer for one key")
                }
            });
        }
        Ok(answers)
    }
}

#[async_trait::async_trait]
impl SessionStore for Broken {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.sessions().create(key, entry, now).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.sessions().load(key, now).await
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.sessions().commit(key, expected, entry, now).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.sessions().touch(key, now).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        self.sessions().delete(key, now).await
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// Each fault, and the cases that must find it.
pub(crate) const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::OneIndexForAll, &["enter_is_seen_in_its_owners_index_and_in_no_other"]),
    (Fault::OwnersByHalf, &["enter_is_seen_in_its_owners_index_and_in_no_other"]),
    (Fault::EnterDoesNothing, &["enter_is_seen_in_its_owners_index_and_in_no_other"]),
    (Fault::EnterShortens, &["enter_keeps_a_key_for_longer_and_never_for_shorter"]),
    (Fault::EnterKeepsTheFirstDeadline, &["enter_keeps_a_key_for_longer_and_never_for_shorter"]),
    (Fault::EnterEndsTheWholeIndexAtItsDeadline, &["an_entry_is_gone_at_its_deadline"]),
    (Fault::EnterChecksThenActs, &["of_n_enters_at_once_all_count"]),
    (Fault::EntriesSeeWhatHasPassed, &["an_entry_is_gone_at_its_deadline"]),
    (Fault::EntriesForgetAMillisecondEarly, &["an_entry_is_gone_at_its_deadline"]),
    (Fault::EntriesUpToAHundred, &["enter_is_seen_in_its_owners_index_and_in_no_other"]),
    (
        Fault::AdmitIgnoresTheLimit,
        &[
            "admit_refuses_what_exceeds_the_limit",
            "of_n_admits_at_once_as_many_win_as_there_is_room",
        ],
    ),
    (Fault::AdmitAllowsOneMore, &["admit_refuses_what_exceeds_the_limit"]),
    (Fault::AdmitEntersWhomItRefuses, &["admit_refuses_what_exceeds_the_limit"]),
    (Fault::AdmitCountsWhatHasPassed, &["admit_does_not_count_what_has_passed"]),
    (Fault::AdmitCountsItself, &["admit_again_is_admitted"]),
    (Fault::AdmitCountsTheReplaced, &["admit_does_not_count_what_is_replaced"]),
    (Fault::AdmitForgetsTheReplaced, &["admit_does_not_count_what_is_replaced"]),
    (Fault::AdmitReplacesOne, &["admit_does_not_count_any_of_those_replaced"]),
    (Fault::AdmitCountsPairsTwice, &["admit_counts_a_pair_once"]),
    (Fault::AdmitCountsPairsOfWhichOneIsLeftAsNone, &["admit_counts_what_is_left_of_a_pair"]),
    (Fault::AdmitCountsPairsWithTheReplacedAsNone, &["admit_counts_what_is_left_of_a_pair"]),
    (Fault::AdmitTellsOneOfAPair, &["admit_counts_a_pair_once"]),
    (Fault::AdmitKeepsTheEnded, &["admit_forgets_what_has_ended"]),
    (Fault::AdmitChecksThenActs, &["of_n_admits_at_once_as_many_win_as_there_is_room"]),
    (Fault::CreateEnteredCreatesOnly, &["create_entered_stores_a_session_and_its_entry"]),
    (Fault::CreateEnteredEntersOnly, &["create_entered_stores_a_session_and_its_entry"]),
    (Fault::CreateEnteredOverwrites, &["create_entered_stores_a_session_and_its_entry"]),
    (
        Fault::CreateEnteredCreatesFirst,
        &["create_entered_enters_first", "create_entered_that_was_dropped_leaves_no_session_alone"],
    ),
    (Fault::LeaveDoesNothing, &["leave_forgets_these_keys_and_no_others"]),
    (Fault::LeaveForgetsAll, &["leave_forgets_these_keys_and_no_others"]),
    (Fault::LeaveForgetsThemOfEveryOwner, &["leave_forgets_these_keys_and_no_others"]),
    (Fault::LoadManyLeavesOutTheMissing, &["load_many_answers_in_the_order_of_the_keys"]),
    (Fault::LoadManySortsTheKeys, &["load_many_answers_in_the_order_of_the_keys"]),
    (Fault::LoadManyUpToAHundred, &["load_many_answers_in_the_order_of_the_keys"]),
    (
        Fault::EndManyLeavesSessions,
        &["end_many_ends_sessions_and_bars_keys", "end_many_and_commit_at_once_leave_nothing"],
    ),
    (
        Fault::EndManyBarsNothing,
        &["end_many_ends_sessions_and_bars_keys", "end_many_ends_them_all"],
    ),
    (Fault::EndManyBarsForGood, &["end_many_ends_sessions_and_bars_keys"]),
    (Fault::EndManyRemovesTombstones, &["end_many_ends_sessions_and_bars_keys"]),
    (Fault::EndManySeesWhatHasExpired, &["end_many_bars_what_has_expired"]),
    (Fault::EndManyUpToAHundred, &["end_many_ends_them_all"]),
    (Fault::EndManyEmptiesTheStore, &["end_many_ends_sessions_and_bars_keys"]),
    (
        Fault::EndManyChecksThenActs,
        &["end_many_and_create_at_once_leave_nothing", "of_n_end_manys_at_once_exactly_one_ends"],
    ),
];

pub(crate) async fn check(fault: Fault) -> Report {
    let (sessions, index) = (Mutex::default(), Mutex::default());
    conformance::check(Broken { fault, sessions, index }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_of_this_test_passes_without_a_fault() {
    let report = check(Fault::None).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_index_fails_the_cases_that_name_its_fault() {
    for (fault, cases) in FAULTS {
        let missed = crate::missed(cases, || check(*fault)).await;
        assert!(missed.is_empty(), "{fault:?} passes {missed:?}");
    }
}
