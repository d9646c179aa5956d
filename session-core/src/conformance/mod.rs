//! The promises of a [`Backend`], as tests for every store.
//!
//! Each case tests one promise, and the name of the case is the promise. Cases can run
//! concurrently, because each uses fresh keys. A case passes the time to the store, and so never
//! waits for a deadline.
//!
//! Some cases pass a time hours ahead. A store may then remove expired entries of other keys, live
//! sessions included, so the suite should have a database of its own.
//!
//! # Examples
//!
//! Add the suite to the integration tests of a store, with this crate's feature `conformance`:
//!
//! ```
//! # mod map_store {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
//! # }
//! # use map_store::MapStore;
//! session_core::conformance::suite!(MapStore::default());
//! # fn main() {}
//! ```
//!
//! A program, or a test of a broken store, calls [`check`] and reads the [`Report`]:
//!
//! ```
//! # #![allow(dead_code)]
//! # mod map_store {
//! #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/map_store/store.rs"));
//! # }
//! # use map_store::MapStore;
//! # #[tokio::main]
//! # async fn main() {
//! let report = session_core::conformance::check(MapStore::default()).await;
//! assert!(report.is_ok(), "{report}");
//! # }
//! ```

#![expect(
    clippy::missing_errors_doc,
    reason = "a case returns how the store broke its contract, all of them the same way"
)]

mod commit;
mod create;
mod delete;
mod expiry;
mod fixture;
mod index;
mod load;
mod local_reads;
mod many;
mod races;
mod report;
mod suite;
mod touch;
mod watch;

use std::sync::Arc;

use crate::Backend;

#[doc(inline)]
pub use crate::__conformance_suite as suite;
pub use report::{Report, Violation};

/// The cases, one function each.
#[doc(hidden)]
pub mod cases {
    pub use super::{
        commit::*, create::*, delete::*, expiry::*, index::*, load::*, local_reads::*, many::*,
        races::*, touch::*, watch::*,
    };
}

#[doc(hidden)]
pub use suite::{Skip, run};

/// Runs all cases on a store, one after the other, and returns a report of the failures. Each case
/// runs on the store itself, and then through `Arc<dyn Backend>`.
///
/// Requires a Tokio runtime. With several threads, a runtime finds more violations.
pub async fn check(store: impl Backend) -> Report {
    let store: Arc<dyn Backend> = Arc::new(store);
    let mut report = Report::default();
    macro_rules! check_all {
        ([] $($case:ident)*) => {$(
            let failed = suite::run_both_ways(&store, cases::$case).await;
            report.note(stringify!($case), failed);
        )*};
    }
    crate::__conformance_cases!(check_all![]);
    report
}

/// Returns the names of all cases.
#[must_use]
pub fn names() -> &'static [&'static str] {
    macro_rules! names {
        ([] $($case:ident)*) => { &[$(stringify!($case)),*] };
    }
    crate::__conformance_cases!(names![])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_in_the_list() {
        let sources = [
            include_str!("commit.rs"),
            include_str!("create.rs"),
            include_str!("delete.rs"),
            include_str!("expiry.rs"),
            include_str!("load.rs"),
            include_str!("local_reads.rs"),
            include_str!("many.rs"),
            include_str!("index.rs"),
            include_str!("races.rs"),
            include_str!("touch.rs"),
            include_str!("watch.rs"),
        ];
        let mut written: Vec<_> = sources
            .iter()
            .flat_map(|source| source.lines())
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|line| line.split('(').next())
            .collect();
        written.sort_unstable();
        let mut listed = names().to_vec();
        listed.sort_unstable();
        assert_eq!(written, listed);
    }
}
