use std::time::Duration;

/// The result of one measurement of one route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// The CPU time of the server per request, where the system reports the time.
    pub(crate) server_cpu: Option<Duration>,
    /// The CPU time of Redis per request, for a server that uses Redis.
    pub(crate) redis_cpu: Option<Duration>,
}

impl Sample {
    /// Creates a sample from the latencies of the requests of a span, in nanoseconds.
    pub(crate) fn of(mut latencies: Vec<u32>, span: Duration) -> Self {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            Duration::from_nanos(latencies.get(place).copied().unwrap_or_default().into())
        };
        Self {
            per_second: latencies.len() as f64 / span.as_secs_f64(),
            p50: at(50),
            p99: at(99),
            server_cpu: None,
            redis_cpu: None,
        }
    }
}

/// Returns the median. For an even count, the median is the mean of the two numbers in the middle.
pub(crate) fn median(numbers: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantiles(numbers).map(|[_, median, _]| median)
}

/// Returns the lower quartile, the median and the upper quartile.
pub(crate) fn quantiles(numbers: impl IntoIterator<Item = f64>) -> Option<[f64; 3]> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().checked_sub(1)?;
    Some([1, 2, 3].map(|quarter| {
        let (place, rest) = (last * quarter / 4, last * quarter % 4);
        let part = rest as f64 / 4.0;
        numbers[place] + (numbers[(place + 1).min(last)] - numbers[place]) * part
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_one() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0]), Some(3.0));
        assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }

    #[test]
    fn quartiles_lie_between() {
        let numbers = [5.0, 1.0, 2.0, 4.0, 3.0];
        assert_eq!(quantiles(numbers), Some([2.0, 3.0, 4.0]));
        assert_eq!(quantiles([1.0, 2.0]), Some([1.25, 1.5, 1.75]));
    }

    #[test]
    fn percentiles_are_latencies_that_were_met() {
        let latencies = (1..=1_000).rev().collect();
        let sample = Sample::of(latencies, Duration::from_secs(2));
        assert_eq!(sample.per_second, 500.0);
        assert_eq!(sample.p50, Duration::from_nanos(501));
        assert_eq!(sample.p99, Duration::from_nanos(991));
    }
}
