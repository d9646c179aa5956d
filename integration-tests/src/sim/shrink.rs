use session_core::StoreError;

use super::{
    history::{Outcome, Stage},
    ledger::Violation,
    plan::Plan,
};

impl Stage {
    /// Removes all elements of a history without which it still violates the same promise, and returns
    /// the outcome of the rest.
    pub(super) async fn shrink(&self, plan: Plan, found: Outcome) -> Result<Outcome, StoreError> {
        let Some(rule) = found.violation.as_ref().map(|violation| violation.rule) else {
            return Ok(found);
        };
        let mut least = (plan, found);
        let mut tries = MAX_TRIES;
        'again: loop {
            for plan in least.0.reductions(&least.1.faults) {
                if tries == 0 {
                    break 'again;
                }
                tries -= 1;
                let outcome = self.play(&plan).await?;
                if outcome.violation.as_ref().is_some_and(|violation| violation.rule == rule) {
                    least = (plan, outcome);
                    continue 'again;
                }
            }
            break;
        }
        let traced = Self { traced: true, ..self.clone() };
        let mut told = traced.play(&least.0).await?;
        if told.violation.is_none() {
            // Redis expires keys by its own clock, so a key may expire while the machine stands still.
            told.violation = least.1.violation.map(|Violation { rule, text }| Violation {
                rule,
                text: format!("{text} (not so when the same history was played again)"),
            });
        }
        Ok(told)
    }
}

/// The number of shorter histories to try.
const MAX_TRIES: u32 = 2_000;
