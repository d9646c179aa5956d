use std::{fmt, time::Duration};

use super::{fault::Fault, resources::Resources};
use crate::chaos::load::{Kind, Survey, Tally};

/// The result of a soak test. `Display` prints it as a Markdown table.
#[derive(Debug)]
pub struct Report {
    pub(super) lasted: Duration,
    pub(super) faults: Vec<Fault>,
    pub(super) tally: Tally,
    pub(super) survey: Survey,
    pub(super) warm: Resources,
    pub(super) end: Resources,
    pub(super) margin: Duration,
}

impl Report {
    /// Returns the broken promises.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let mut broken: Vec<_> =
            self.tally.wrong().iter().chain(&self.survey.wrong).cloned().collect();
        if !self.survey.lost.is_empty() {
            broken.push(format!("{} acknowledged writes are lost", self.survey.lost.len()));
        }
        let back = self.survey.back.len() + self.survey.back_after_failure.len();
        if back > 0 {
            broken.push(format!("{back} ended sessions are back"));
        }
        if !self.survey.signed_out.is_empty() {
            broken.push(format!("{} visitors were signed out", self.survey.signed_out.len()));
        }
        broken.extend(self.tally.late(OPERATION, self.margin));
        broken.extend(self.end.grown_since(&self.warm));
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tally, survey, .. } = self;
        let writes = [Kind::Login, Kind::Count, Kind::Set];
        let ends = [Kind::Logout, Kind::EndOthers];
        writeln!(f, "| | |")?;
        writeln!(f, "| --- | --- |")?;
        writeln!(f, "| lasted | {} s |", self.lasted.as_secs())?;
        for fault in Fault::ALL {
            let times = self.faults.iter().filter(|struck| **struck == fault).count();
            writeln!(f, "| {} | {times} times |", fault.name())?;
        }
        writeln!(f, "| requests | {} |", tally.sent(&Kind::ALL))?;
        writeln!(
            f,
            "| writes sent, acknowledged | {}, {} |",
            tally.sent(&writes),
            tally.done(&writes)
        )?;
        writeln!(f, "| found, lost | {}, {} |", survey.kept, survey.lost.len())?;
        writeln!(f, "| ends sent, acknowledged | {}, {} |", tally.sent(&ends), tally.done(&ends))?;
        writeln!(
            f,
            "| ended sessions opened again, back | {}, {} |",
            survey.ended,
            survey.back.len() + survey.back_after_failure.len()
        )?;
        writeln!(f, "| answered by 503 | {} |", tally.unavailable())?;
        writeln!(f, "| unanswered, of a killed server | {} |", tally.unanswered())?;
        writeln!(f, "| signed out | {} |", survey.signed_out.len())?;
        writeln!(f, "| answered by anything else | {} |", tally.wrong().len())?;
        writeln!(f, "| longest time of errors | {:.1?} |", tally.longest_errors())?;
        writeln!(f, "| longest request | {:.1?} |", tally.slowest())?;
        writeln!(f, "| after the warm-up | {} |", self.warm)?;
        writeln!(f, "| at the end | {} |", self.end)
    }
}

/// The store's default time limit of an operation.
const OPERATION: Duration = Duration::from_secs(1);
