use std::time::{Duration, Instant};

/// Which acknowledged writes a fault may cost: those that were acknowledged in a stated window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Loss {
    /// None.
    None,
    /// What was acknowledged from the moment of the fault on until it was over, and what was on its way to the
    /// replicas then.
    DuringFault,
    /// The same, at most for this time: then the primary refuses writes.
    For(Duration),
}

impl Loss {
    /// Says what is lost and must not be, of writes that were acknowledged then, by a fault from one instant to
    /// another. A write may be on its way to the replicas for the time of the margin: milliseconds, and whatever
    /// the machine stands still.
    pub(super) fn broken(
        self,
        what: &str,
        (struck_at, over_at): (Instant, Instant),
        margin: Duration,
        lost: &[Instant],
    ) -> Vec<String> {
        let is_allowed = |at: &&Instant| {
            let is_during = **at + margin >= struck_at && **at <= over_at + margin;
            match self {
                Self::None => false,
                Self::DuringFault => is_during,
                Self::For(window) => is_during && **at <= struck_at + window + margin,
            }
        };
        let broken = lost.iter().filter(|at| !is_allowed(at)).count();
        let broken = (broken > 0).then(|| format!("{broken} {what}, outside of the window"));
        broken.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_outside_of_the_window_is_told() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let count = |loss: Loss, lost: &[u64]| {
            let lost: Vec<_> = lost.iter().map(|seconds| at(*seconds)).collect();
            loss.broken("writes lost", (at(10), at(20)), Duration::from_secs(1), &lost).len()
        };
        assert_eq!(count(Loss::None, &[]), 0);
        assert_eq!(count(Loss::None, &[10]), 1);
        assert_eq!(count(Loss::DuringFault, &[9, 10, 21]), 0);
        assert_eq!(count(Loss::DuringFault, &[8]), 1);
        assert_eq!(count(Loss::DuringFault, &[22]), 1);
        let window = Loss::For(Duration::from_secs(2));
        assert_eq!(count(window, &[9, 10, 13]), 0);
        assert_eq!(count(window, &[14]), 1);
    }
}
