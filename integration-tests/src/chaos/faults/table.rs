use std::{fmt, time::Instant};

use crate::chaos::load::{Kind, Survey, Tally};

/// The result of one fault.
#[derive(Debug)]
pub struct Row {
    pub(super) place: &'static str,
    pub(super) fault: &'static str,
    pub(super) remark: Option<String>,
    pub(super) struck_at: Instant,
    pub(super) tally: Tally,
    pub(super) survey: Survey,
    pub(super) broken: Vec<String>,
}

/// The results of all faults. `Display` prints them as a Markdown table.
#[derive(Debug, Default)]
pub struct Table {
    pub(super) rows: Vec<Row>,
}

impl Table {
    /// Returns the broken promises.
    pub fn broken(&self) -> impl Iterator<Item = String> {
        self.rows.iter().flat_map(|row| {
            let Row { place, fault, broken, .. } = row;
            broken.iter().map(move |what| format!("{place}, {fault}: {what}"))
        })
    }

    /// Returns the rows.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, fault, tally, survey, .. } = self;
        let (writes, ends) =
            ([Kind::Login, Kind::Count, Kind::Set], [Kind::Logout, Kind::EndOthers]);
        let remark = self.remark.as_ref().map_or_else(String::new, |remark| format!(" ({remark})"));
        let wrong = tally.wrong().len();
        write!(
            f,
            "| {place} | {fault}{remark} | {}, {} | {} | {}, {} | {} | {} | {} | {wrong} | {:.1} s | {:.1} s |",
            tally.sent(&writes),
            tally.done(&writes),
            self.lost(&survey.lost),
            tally.sent(&ends),
            tally.done(&ends),
            self.lost(&[&*survey.back, &*survey.back_after_failure].concat()),
            self.lost(&survey.signed_out),
            tally.unavailable(),
            tally.longest_errors().as_secs_f64(),
            tally.slowest().as_secs_f64(),
        )
    }
}

impl Row {
    /// Returns the number of losses, and the time of the latest acknowledgement among them.
    fn lost(&self, lost: &[Instant]) -> String {
        let Some(last) = lost.iter().max() else { return "0".to_owned() };
        let after = last.saturating_duration_since(self.struck_at);
        format!("{}, until {:.2} s", lost.len(), after.as_secs_f64())
    }
}

const HEAD: &str = "\
| where | fault | writes sent, acknowledged | lost | ends sent, acknowledged | back | signed out | 503 | other \
answers | errors for at most | longest request |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";
