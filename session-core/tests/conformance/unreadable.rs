//! Stores of bytes that break one rule for unreadable records each.

use session_core::{
    Ended, Entry, SessionStore as _, StoreError, StoreErrorKind, Timestamp,
    conformance::{self, Report},
    testing::{Answer, Intercept, Intercepted, Operation, Verb},
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

/// Decodes an entry at each read, except for the fault.
struct Decoding(Fault);

#[session_core::async_trait]
impl Intercept<MapStore> for Decoding {
    async fn call(
        &self,
        store: &MapStore,
        operation: Operation,
        now: Timestamp,
    ) -> Result<Answer, StoreError> {
        let (verb, mut unreadable) = (operation.verb(), None);
        for key in operation.keys() {
            let entry = store.load(&key, now).await?;
            unreadable = unreadable.or(entry.and_then(|entry| Entry::decode(entry.encode()).err()));
        }
        let Some(error) = unreadable else { return operation.perform(store, now).await };
        match (verb, self.0) {
            (Verb::Load, Fault::LoadReturnsNothing) => Ok(Answer::Loaded(None)),
            (Verb::Load, Fault::LoadReportsAnOutage) => {
                Err(StoreError::new(StoreErrorKind::Unavailable))
            }
            (Verb::Load | Verb::LoadMany, _)
            | (Verb::Delete, Fault::DeleteFails)
            | (Verb::DeleteOrBlock, Fault::DeleteOrBlockFails) => Err(error),
            (Verb::Delete, Fault::DeleteDoesNothing) => Ok(Answer::Deleted(None)),
            (Verb::Delete, _) => operation.perform(store, now).await.map(|_| Answer::Deleted(None)),
            (Verb::DeleteOrBlock, Fault::DeleteOrBlockDoesNothing) => {
                Ok(Answer::DeletedOrBlocked(vec![Ended::Session(None)]))
            }
            (Verb::DeleteOrBlock, Fault::DeleteOrBlockReportsBlocked) => {
                operation.perform(store, now).await?;
                Ok(Answer::DeletedOrBlocked(vec![Ended::Blocked]))
            }
            _ => operation.perform(store, now).await,
        }
    }

    fn splits(&self) -> bool {
        self.0 != Fault::LoadManyFailsAsAWhole
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
    conformance::check(Intercepted::new(MapStore::default(), Decoding(fault))).await
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
