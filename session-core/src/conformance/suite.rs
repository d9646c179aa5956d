use std::{panic::AssertUnwindSafe, sync::Arc};

use super::report::{Outcome, Violation};
use crate::Backend;

/// Creates a test for each case of the suite, with the name of the case.
///
/// Takes an expression that creates a store; each test evaluates the expression anew. The
/// expression stands in an `async` function, on a Tokio runtime of two threads: it may `.await`,
/// and may be a block. After `skip:`, list the cases that the store cannot pass, each with the
/// reason. A name outside of the suite does not compile.
///
/// Put a second suite in the same file into a module of its own.
///
/// # Examples
///
/// ```
/// # mod map_store {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
/// # }
/// # use map_store::MapStore;
/// mod plain {
///     session_core::conformance::suite!(super::MapStore::default());
/// }
///
/// mod shared_server {
///     # use std::future::ready;
///     session_core::conformance::suite!(
///         {
///             let address = "localhost";
///             # let connect = |_| ready(super::MapStore::default());
///             connect(address).await
///         },
///         skip: [
///             one_of_n_deletes_returns_the_session = "the server does not say what it deleted",
///         ],
///     );
/// }
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// # mod map_store {
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
/// # }
/// # use map_store::MapStore;
/// session_core::conformance::suite!(
///     MapStore::default(),
///     skip: [create_makes_coffee = "there is no such case"],
/// );
/// # fn main() {}
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_suite {
    (async move $store:block $(, $($rest:tt)*)?) => {
        $crate::__conformance_suite!(async { $store }.await $(, $($rest)*)?);
    };
    (async $store:block $(, $($rest:tt)*)?) => {
        $crate::__conformance_suite!(async { $store }.await $(, $($rest)*)?);
    };
    ($store:expr $(, skip: [$($case:ident = $reason:literal),* $(,)?])? $(,)?) => {
        /// The cases that the store cannot pass.
        const SKIPPED: &[$crate::conformance::Skip] = &[$($(
            $crate::conformance::Skip {
                case: {
                    // A name outside of the suite does not compile.
                    let _ = $crate::conformance::cases::$case;
                    stringify!($case)
                },
                reason: $reason,
            },
        )*)?];

        $crate::__conformance_cases!($crate::__conformance_tests![$store]);
    };
}

/// Creates the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ([$store:expr] $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::conformance::run(
                stringify!($case),
                SKIPPED,
                async || $store,
                $crate::conformance::cases::$case,
            );
        }
    )*};
}

/// Calls a macro with the list of all cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_cases {
    ($($then:ident)::+ ! [$($argument:tt)*]) => {
        $crate::__conformance_cases! { @ [$($then)::+] [$($argument)*] }
    };
    ($crate_:tt :: $then:ident ! [$($argument:tt)*]) => {
        $crate::__conformance_cases! { @ [$crate_::$then] [$($argument)*] }
    };
    (@ [$($then:tt)*] [$($argument:tt)*]) => {
        $($then)*! {
            [$($argument)*]

            create_stores_a_session
            create_refuses_a_key_in_use
            create_refuses_the_key_of_a_tombstone
            create_succeeds_again_after_delete
            keys_of_any_bytes_stay_distinct

            load_returns_none_for_an_unused_key
            load_changes_nothing
            load_returns_the_stored_session_bit_for_bit
            load_reports_an_unreadable_record
            load_returns_values_up_to_the_limits
            load_returns_1024_values
            load_returns_a_tombstone_bit_for_bit
            ping_succeeds

            commit_replaces_a_session_at_its_revision
            commit_at_another_revision_returns_the_stored_entry
            commit_compares_all_48_bits_of_the_revision
            commit_compares_the_nonce
            commit_stores_nothing_under_an_unused_key
            commit_stores_nothing_after_delete
            commit_may_leave_a_tombstone
            commit_may_shorten_the_lifetime
            commit_may_lengthen_the_lifetime
            dropped_commit_is_done_or_not_done
            tombstone_answers_conflict_to_every_commit

            touch_moves_the_idle_deadline_and_nothing_else
            touch_keeps_the_revision
            touch_never_moves_back
            touch_never_passes_the_absolute_deadline
            touch_follows_the_lifetime_of_the_last_commit
            touch_stores_nothing_under_an_unused_key
            touch_stores_nothing_after_delete
            touch_leaves_a_tombstone_as_it_is

            delete_returns_the_session
            delete_returns_a_tombstone_and_leaves_it
            delete_is_idempotent
            delete_removes_an_unreadable_record
            delete_leaves_other_keys_alone

            local_reads_return_stored_entries
            local_reads_see_this_stores_own_changes
            local_reads_end_at_their_deadline

            watch_returns_the_entry
            commit_completes_watches
            delete_completes_watches

            expired_session_is_missing_for_load
            expired_session_is_missing_for_commit
            expired_session_is_missing_for_touch
            expired_session_is_missing_for_delete
            expired_tombstone_is_missing
            session_stored_after_its_deadline_is_missing
            deadline_is_exact_to_the_millisecond
            lifetime_of_half_a_second_is_kept
            session_is_stored_in_its_last_millisecond

            one_of_n_creates_wins
            one_of_n_commits_at_one_revision_wins
            one_of_n_deletes_returns_the_session
            n_commits_that_retry_all_count
            commit_beside_delete_leaves_nothing
            touch_beside_delete_leaves_nothing
            touch_beside_commit_keeps_the_commit
            touch_beside_tombstone_keeps_the_tombstone

            entries_are_of_their_index_only
            entries_return_family_and_deadline
            enter_extends_an_entry_and_never_shortens_it
            entry_ends_at_its_deadline
            leave_removes_these_entries_and_no_others
            leave_needs_key_and_family
            n_enters_all_count
            create_entered_stores_a_session_and_its_entry
            create_entered_enters_first
            dropped_create_entered_leaves_no_session_alone

            load_many_answers_in_the_order_of_the_keys
            load_many_reports_an_unreadable_record_alone
            delete_or_block_deletes_sessions_and_blocks_keys
            delete_or_block_deletes_an_unreadable_record
            delete_or_block_reaches_every_key
            delete_or_block_blocks_expired_keys
            delete_or_block_beside_create_leaves_nothing
            delete_or_block_beside_commit_leaves_nothing
            one_of_n_delete_or_blocks_deletes
        }
    };
}

/// A case that a store cannot pass.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Skip {
    /// The case's name.
    pub case: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// Runs one case as a test.
///
/// # Panics
///
/// Panics if the store does not pass.
#[doc(hidden)]
pub fn run<S: Backend, O>(
    case: &str,
    skipped: &[Skip],
    make_store: impl AsyncFnOnce() -> S,
    body: impl Fn(Arc<dyn Backend>) -> O,
) where
    O: Future<Output = Outcome> + Send + 'static,
{
    if let Some(skip) = skipped.iter().find(|skip| skip.case == case) {
        println!("skipped: {}", skip.reason);
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the operating system gives a runtime its threads");
    let outcome = runtime.block_on(async {
        let store: Arc<dyn Backend> = Arc::new(make_store().await);
        run_both_ways(&store, body).await
    });
    if let Err(violation) = outcome {
        panic!("the store breaks its contract: {case}: {violation}");
    }
}

/// Runs one case on the store, and again on a pointer to the store. Each run has a task of its own,
/// in order to report a panic of the store as a violation.
pub(super) async fn run_both_ways<O>(
    store: &Arc<dyn Backend>,
    case: impl Fn(Arc<dyn Backend>) -> O,
) -> Outcome
where
    O: Future<Output = Outcome> + Send + 'static,
{
    let pointer: Arc<dyn Backend> = Arc::new(Arc::clone(store));
    for (store, way) in [(store, ""), (&pointer, "through a pointer: ")] {
        let run = AssertUnwindSafe(case(Arc::clone(store)));
        match tokio::spawn(run.0).await {
            Ok(Ok(())) => {}
            Ok(Err(violation)) => return Err(violation.met(way)),
            Err(panic) => return Err(Violation::new(format!("{way}the store panicked: {panic}"))),
        }
    }
    Ok(())
}
