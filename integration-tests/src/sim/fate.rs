use session_core::{StoreErrorKind, testing::Verb};

use super::{counters::Counters, ledger::Call, plan::Plan};
use crate::random::{Part, Random};

/// The fate of a call: when it is applied, and when and how it is answered. Times count from the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) applied_after: Option<u64>,
    pub(super) applied_again_after: Option<u64>,
    pub(super) answered_after: u64,
    pub(super) error: Option<StoreErrorKind>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Fine,
    FailedBefore,
    FailedAfter,
    NeverApplied,
    AppliedLate,
    AppliedTwice,
}

impl Fate {
    /// Returns the fate that the plan's seed gives to a call.
    pub(super) fn draw(plan: &Plan, call: &Call, calm: bool) -> Self {
        let number = ((call.request as u64) << 16) | call.ordinal;
        let mut random = Random::of(plan.seed, Part::Call, number);
        let there = leg(&mut random);
        let back = leg(&mut random);
        let late = random.between(5, 150);
        let faulty = random.percent(plan.fault_percent);
        let kind = random.weighted(&[
            (3, Kind::FailedBefore),
            (4, Kind::FailedAfter),
            (3, Kind::NeverApplied),
            (4, Kind::AppliedLate),
            (2, Kind::AppliedTwice),
        ]);
        let spared = calm || plan.spared.contains(&(call.request, call.ordinal));
        let kind = match (faulty && !spared, call.verb()) {
            (false, _) => Kind::Fine,
            // For a read, a late application has the same effect as none.
            (true, verb) if only_reads(verb) && kind == Kind::AppliedLate => Kind::NeverApplied,
            (true, verb) if only_reads(verb) && kind == Kind::AppliedTwice => Kind::Fine,
            (true, _) => kind,
        };
        let fate = |applied_after, error| Self {
            applied_after,
            applied_again_after: None,
            answered_after: there + back,
            error,
            kind,
        };
        match kind {
            Kind::Fine => fate(Some(there), None),
            Kind::FailedBefore => fate(None, Some(StoreErrorKind::Unavailable)),
            Kind::FailedAfter => fate(Some(there), Some(StoreErrorKind::Timeout)),
            Kind::NeverApplied => fate(None, Some(StoreErrorKind::Timeout)),
            Kind::AppliedLate => fate(Some(there + back + late), Some(StoreErrorKind::Timeout)),
            Kind::AppliedTwice => {
                Self { applied_again_after: Some(there + late), ..fate(Some(there), None) }
            }
        }
    }
}

impl Kind {
    pub(super) fn count(self, counters: &mut Counters) {
        match self {
            Self::Fine => {}
            Self::FailedBefore => counters.failed_before += 1,
            Self::FailedAfter => counters.failed_after += 1,
            Self::NeverApplied => counters.never_applied += 1,
            Self::AppliedLate => counters.applied_late += 1,
            Self::AppliedTwice => counters.applied_twice += 1,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Fine => "goes well",
            Self::FailedBefore => "will fail before it is applied",
            Self::FailedAfter => "will be applied without an answer",
            Self::NeverApplied => "will vanish without an answer",
            Self::AppliedLate => "will be applied after it timed out",
            Self::AppliedTwice => "will be applied a second time later",
        }
    }
}

/// Returns the transit time of a message, mostly a short one.
fn leg(random: &mut Random) -> u64 {
    let most = random.weighted(&[(6, 4), (3, 12), (1, 50)]);
    random.between(1, most)
}

/// Returns `true` if the verb changes nothing.
fn only_reads(verb: Verb) -> bool {
    matches!(verb, Verb::Load | Verb::Entries | Verb::LoadMany)
}
