//! Stores of bytes that break one rule for unreadable records each.

use std::fmt;

use session_core::{
    Committed, Created, Ended, Entry, Expected, IndexEntry, IndexKey, SessionIndex, SessionKey,
    SessionStore, StoreError, StoreErrorKind, Timestamp, Tombstone, Touched,
    conformance::{self, Report},
};

use crate::map_store::MapStore;

/// The broken rule of a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    LoadReturnsNothing,
    LoadReportsAnOutage,
    LoadManyFailsAsAWhole,
    DeleteFails,
    DeleteDoesNothing,
    DeleteOrBlockFails,
    DeleteOrBlockReportsBlocked,
    DeleteOrBlockDoesNothing,
}

/// A store that decodes an entry at each read.
pub(crate) struct Broken {
    fault: Fault,
    sessions: MapStore,
}

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    async fn read(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        let entry = self.sessions.load(key, now).await?;
        entry.map(|entry| Entry::decode(entry.encode())).transpose()
    }
}

#[session_core::async_trait]
impl SessionStore for Broken {
    async fn create(
        &self,
        key: &SessionKey,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Created, StoreError> {
        self.sessions.create(key, entry, now).await
    }

    async fn load(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        match self.read(key, now).await {
            Err(_) if self.is(Fault::LoadReturnsNothing) => Ok(None),
            Err(_) if self.is(Fault::LoadReportsAnOutage) => {
                Err(StoreError::new(StoreErrorKind::Unavailable))
            }
            answer => answer,
        }
    }

    async fn commit(
        &self,
        key: &SessionKey,
        expected: Expected,
        entry: Entry,
        now: Timestamp,
    ) -> Result<Committed, StoreError> {
        self.sessions.commit(key, expected, entry, now).await
    }

    async fn touch(&self, key: &SessionKey, now: Timestamp) -> Result<Touched, StoreError> {
        self.sessions.touch(key, now).await
    }

    async fn delete(&self, key: &SessionKey, now: Timestamp) -> Result<Option<Entry>, StoreError> {
        match self.read(key, now).await {
            Err(error) if self.is(Fault::DeleteFails) => Err(error),
            Err(_) if self.is(Fault::DeleteDoesNothing) => Ok(None),
            Err(_) => self.sessions.delete(key, now).await.map(|_| None),
            Ok(_) => self.sessions.delete(key, now).await,
        }
    }

    async fn load_many(
        &self,
        keys: &[SessionKey],
        now: Timestamp,
    ) -> Result<Vec<Result<Option<Entry>, StoreError>>, StoreError> {
        let mut answers = Vec::new();
        for key in keys {
            let answer = self.load(key, now).await;
            if self.is(Fault::LoadManyFailsAsAWhole) {
                answers.push(Ok(answer?));
            } else {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    async fn delete_or_block(
        &self,
        keys: &[SessionKey],
        marker: Tombstone,
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        let mut answers = Vec::new();
        for key in keys {
            let is_unreadable = self.read(key, now).await.is_err();
            if is_unreadable && self.is(Fault::DeleteOrBlockFails) {
                return Err(StoreError::new(StoreErrorKind::Corrupt));
            }
            if is_unreadable && self.is(Fault::DeleteOrBlockDoesNothing) {
                answers.push(Ended::Session(None));
                continue;
            }
            let mut answer = self.sessions.delete_or_block(&[*key], marker.clone(), now).await?;
            if is_unreadable && self.is(Fault::DeleteOrBlockReportsBlocked) {
                answer = vec![Ended::Blocked];
            }
            answers.append(&mut answer);
        }
        Ok(answers)
    }
}

/// The index is correct here: the stores in the module `owners` have a broken index.
#[session_core::async_trait]
impl SessionIndex for Broken {
    async fn enter(
        &self,
        index: &IndexKey,
        entry: IndexEntry,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.sessions.enter(index, entry, now).await
    }

    async fn leave(
        &self,
        index: &IndexKey,
        entries: &[IndexEntry],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.sessions.leave(index, entries, now).await
    }

    async fn entries(
        &self,
        index: &IndexKey,
        now: Timestamp,
    ) -> Result<Vec<IndexEntry>, StoreError> {
        self.sessions.entries(index, now).await
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// Each fault, and the cases that must find it.
pub(crate) const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::LoadReturnsNothing, &["load_reports_an_unreadable_record"]),
    (
        Fault::LoadReportsAnOutage,
        &["load_reports_an_unreadable_record", "load_many_reports_an_unreadable_record_alone"],
    ),
    (Fault::LoadManyFailsAsAWhole, &["load_many_reports_an_unreadable_record_alone"]),
    (Fault::DeleteFails, &["delete_removes_an_unreadable_record"]),
    (Fault::DeleteDoesNothing, &["delete_removes_an_unreadable_record"]),
    (Fault::DeleteOrBlockFails, &["delete_or_block_deletes_an_unreadable_record"]),
    (Fault::DeleteOrBlockReportsBlocked, &["delete_or_block_deletes_an_unreadable_record"]),
    (Fault::DeleteOrBlockDoesNothing, &["delete_or_block_deletes_an_unreadable_record"]),
];

pub(crate) async fn check(fault: Fault) -> Report {
    conformance::check(Broken { fault, sessions: MapStore::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_of_bytes_passes_without_a_fault() {
    let report = check(Fault::None).await;
    assert!(report.is_ok(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_mishandles_unreadable_bytes_fails() {
    for (fault, cases) in FAULTS {
        let missed = crate::missed(cases, || check(*fault)).await;
        assert!(missed.is_empty(), "{fault:?} passes {missed:?}");
    }
}
