use std::{error::Error as _, fmt};

use crate::StoreError;

/// The result of a case.
pub(super) type Outcome = Result<(), Violation>;

/// A breach of the contract: the expected answer, and the answer of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    text: String,
}

impl Violation {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }

    pub(super) fn met(mut self, way: &str) -> Self {
        self.text.insert_str(0, way);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Violation {}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        let source = error.source().map_or_else(String::new, |source| format!(" ({source})"));
        Self::new(format!("an error came: {error}{source}"))
    }
}

/// The result of a [`check`](super::check).
#[derive(Clone, Debug, Default)]
pub struct Report {
    cases: Vec<(&'static str, Option<Violation>)>,
}

impl Report {
    /// Returns `true` if the store passed every case.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Returns the names of the failed cases, each with its violation.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &Violation)> {
        self.cases.iter().filter_map(|(case, violation)| Some((*case, violation.as_ref()?)))
    }

    pub(super) fn note(&mut self, case: &'static str, outcome: Outcome) {
        self.cases.push((case, outcome.err()));
    }
}

/// Writes one line per case.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, violation) in &self.cases {
            match violation {
                None => writeln!(f, "ok      {case}")?,
                Some(violation) => writeln!(f, "FAILED  {case}: {violation}")?,
            }
        }
        write!(
            f,
            "{} of {} cases passed",
            self.cases.len() - self.failures().count(),
            self.cases.len()
        )
    }
}
