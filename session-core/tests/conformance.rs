//! The conformance suite: a correct store passes, and a store that breaks a rule fails.

#[path = "../examples/map_store/store.rs"]
mod map_store;
#[path = "conformance/owners.rs"]
mod owners;
#[path = "conformance/stores.rs"]
mod stores;
#[path = "conformance/unreadable.rs"]
mod unreadable;

use session_core::{
    Backend,
    conformance::{self, Report},
};

use map_store::MapStore;
use stores::{Broken, Fault};

conformance::suite!(MapStore::default());

mod in_a_box {
    use super::*;

    conformance::suite!(Box::new(MapStore::default()) as Box<dyn Backend>);
}

mod awaited {
    use super::*;

    conformance::suite!(
        async {
            tokio::task::yield_now().await;
            MapStore::default()
        },
        skip: [create_stores_a_session = "to show that a case can be skipped"],
    );
}

/// Each fault, and the cases that must find it.
const FAULTS: &[(Fault, &[&str])] = &[
    (Fault::CreateDoesNothing, &["create_stores_a_session"]),
    (Fault::CreateOverwrites, &["create_refuses_a_key_in_use", "one_of_n_creates_wins"]),
    (Fault::CreateOverwritesTombstones, &["create_refuses_the_key_of_a_tombstone"]),
    (Fault::CreateChecksThenActs, &["one_of_n_creates_wins"]),
    (
        Fault::CommitIgnoresTheRevision,
        &[
            "commit_at_another_revision_returns_the_stored_entry",
            "one_of_n_commits_at_one_revision_wins",
            "n_commits_that_retry_all_count",
        ],
    ),
    (Fault::CommitIgnoresTheNonce, &["commit_compares_the_nonce"]),
    (Fault::CommitComparesLowBitsOfTheRevision, &["commit_compares_all_48_bits_of_the_revision"]),
    (Fault::CommitTakesOlderRevisions, &["commit_at_another_revision_returns_the_stored_entry"]),
    (
        Fault::CommitDoesNothing,
        &["commit_replaces_a_session_at_its_revision", "commit_may_leave_a_tombstone"],
    ),
    (
        Fault::CommitInserts,
        &[
            "commit_stores_nothing_under_an_unused_key",
            "commit_stores_nothing_after_delete",
            "commit_beside_delete_leaves_nothing",
            "expired_session_is_missing_for_commit",
        ],
    ),
    (
        Fault::CommitSeesExpired,
        &[
            "expired_session_is_missing_for_commit",
            "deadline_is_exact_to_the_millisecond",
            "expired_tombstone_is_missing",
        ],
    ),
    (Fault::CommitReplacesTombstones, &["tombstone_answers_conflict_to_every_commit"]),
    (
        Fault::CommitReplacesTombstonesAtTheirRevision,
        &["tombstone_answers_conflict_to_every_commit"],
    ),
    (
        Fault::CommitReturnsItsOwnRecord,
        &["commit_at_another_revision_returns_the_stored_entry", "n_commits_that_retry_all_count"],
    ),
    (
        Fault::CommitKeepsTheOldDeadline,
        &[
            "commit_may_shorten_the_lifetime",
            "commit_may_lengthen_the_lifetime",
            "touch_follows_the_lifetime_of_the_last_commit",
        ],
    ),
    (
        Fault::CommitChecksThenActs,
        &["one_of_n_commits_at_one_revision_wins", "commit_beside_delete_leaves_nothing"],
    ),
    (Fault::CommitRefusesWhatHasExpired, &["session_stored_after_its_deadline_is_missing"]),
    (Fault::CommitDeletesThenCreates, &["dropped_commit_is_done_or_not_done"]),
    (
        Fault::TouchInserts,
        &[
            "touch_stores_nothing_under_an_unused_key",
            "touch_stores_nothing_after_delete",
            "expired_session_is_missing_for_touch",
        ],
    ),
    (Fault::TouchDoesNothing, &["touch_moves_the_idle_deadline_and_nothing_else"]),
    (
        Fault::TouchBumpsTheRevision,
        &[
            "touch_moves_the_idle_deadline_and_nothing_else",
            "touch_keeps_the_revision",
            "touch_beside_commit_keeps_the_commit",
        ],
    ),
    (Fault::TouchDropsTheValues, &["touch_moves_the_idle_deadline_and_nothing_else"]),
    (Fault::TouchMovesBack, &["touch_never_moves_back"]),
    (
        Fault::TouchSeesExpired,
        &["expired_session_is_missing_for_touch", "deadline_is_exact_to_the_millisecond"],
    ),
    (Fault::TouchMovesTombstones, &["touch_leaves_a_tombstone_as_it_is"]),
    (Fault::TouchForgetsTheAbsoluteDeadline, &["touch_never_passes_the_absolute_deadline"]),
    (
        Fault::TouchChecksThenActs,
        &[
            "touch_beside_delete_leaves_nothing",
            "touch_beside_commit_keeps_the_commit",
            "touch_beside_tombstone_keeps_the_tombstone",
        ],
    ),
    (
        Fault::DeleteReturnsNothing,
        &["delete_returns_the_session", "delete_returns_a_tombstone_and_leaves_it"],
    ),
    (Fault::DeleteReturnsOnlySessions, &["delete_returns_a_tombstone_and_leaves_it"]),
    (
        Fault::DeleteLeavesIt,
        &[
            "delete_is_idempotent",
            "commit_stores_nothing_after_delete",
            "create_succeeds_again_after_delete",
            "one_of_n_deletes_returns_the_session",
        ],
    ),
    (Fault::DeleteRemovesTombstones, &["delete_returns_a_tombstone_and_leaves_it"]),
    (
        Fault::DeleteReturnsExpired,
        &["expired_session_is_missing_for_delete", "expired_tombstone_is_missing"],
    ),
    (
        Fault::DeleteChecksThenActs,
        &["one_of_n_deletes_returns_the_session", "commit_beside_delete_leaves_nothing"],
    ),
    (Fault::DeleteEmptiesTheStore, &["delete_leaves_other_keys_alone"]),
    (Fault::LoadInvents, &["load_returns_none_for_an_unused_key"]),
    (Fault::LoadCutsValues, &["load_returns_the_stored_session_bit_for_bit"]),
    (
        Fault::LoadSeesExpired,
        &[
            "expired_session_is_missing_for_load",
            "lifetime_of_half_a_second_is_kept",
            "session_is_stored_in_its_last_millisecond",
        ],
    ),
    (Fault::LoadExpiresLate, &["deadline_is_exact_to_the_millisecond"]),
    (Fault::LoadMovesTheDeadline, &["load_changes_nothing"]),
    (Fault::LoadHidesTombstones, &["load_returns_a_tombstone_bit_for_bit"]),
    (Fault::DeadlinesInSeconds, &["deadline_is_exact_to_the_millisecond"]),
    (Fault::KeysByHalf, &["keys_of_any_bytes_stay_distinct"]),
    (Fault::RecordsUpTo8KiB, &["load_returns_1024_values"]),
    (Fault::RecordsUpTo64KiB, &["load_returns_values_up_to_the_limits"]),
    (Fault::PingFails, &["ping_succeeds"]),
    (Fault::CopiesOfNothing, &["local_reads_return_stored_entries"]),
    (Fault::CopiesOutliveChanges, &["local_reads_see_this_stores_own_changes"]),
    (Fault::CopiesOutliveTheirDeadline, &["local_reads_end_at_their_deadline"]),
    (Fault::WatchLoadsNothing, &["watch_returns_the_entry"]),
    (Fault::WatchReportsNothing, &["commit_completes_watches", "delete_completes_watches"]),
];

async fn check(fault: Fault) -> Report {
    conformance::check(Broken::new(fault)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_of_this_test_passes_without_a_fault() {
    let report = check(Fault::None).await;
    assert!(report.is_ok(), "{report}");
}

/// Returns the cases that do not fail in any attempt. Several attempts, because one may meet no
/// race.
pub(crate) async fn missed<F: Future<Output = Report>>(
    cases: &[&'static str],
    check: impl Fn() -> F,
) -> Vec<&'static str> {
    let mut missed = cases.to_vec();
    for _ in 0..ATTEMPTS {
        let report = check().await;
        missed.retain(|case| report.failures().all(|(failed, _)| failed != *case));
        if missed.is_empty() {
            break;
        }
    }
    missed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_store_fails_its_cases() {
    for (fault, cases) in FAULTS {
        let missed = missed(cases, || check(*fault)).await;
        assert!(missed.is_empty(), "{fault:?} passes {missed:?}");
    }
}

#[tokio::test]
async fn one_thread_finds_stores_that_check_before_they_act() {
    for fault in [
        Fault::CreateChecksThenActs,
        Fault::CommitChecksThenActs,
        Fault::TouchChecksThenActs,
        Fault::DeleteChecksThenActs,
    ] {
        assert!(!check(fault).await.is_ok(), "{fault:?} passes");
    }
}

/// Each case fails for at least one of the broken stores.
#[test]
fn every_case_has_a_store_that_fails_it() {
    let mut never_failed = conformance::names().to_vec();
    let failed = FAULTS.iter().map(|(_, cases)| cases);
    let failed = failed.chain(owners::FAULTS.iter().map(|(_, cases)| cases));
    for cases in failed.chain(unreadable::FAULTS.iter().map(|(_, cases)| cases)) {
        never_failed.retain(|name| !cases.contains(name));
    }
    assert_eq!(never_failed, [""; 0]);
}

/// The number of attempts to catch a broken store.
const ATTEMPTS: usize = 5;
