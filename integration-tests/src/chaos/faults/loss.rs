use std::time::{Duration, Instant};

/// The acknowledged writes that a fault may lose: those of a stated window.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Loss {
    /// No write.
    None,
    /// Writes that were acknowledged during the fault, or were in flight to the replicas when the fault
    /// began.
    DuringFault,
    /// Like `DuringFault`, but at most for this time. The primary refuses writes afterwards.
    For(Duration),
}

impl Loss {
    /// Returns a text if a fault between two instants lost writes that it must keep. `lost` has the
    /// instants of acknowledgement. A write may be in flight to the replicas for the margin:
    /// milliseconds, plus any time for which the machine stands still.
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
