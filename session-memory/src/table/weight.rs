//! The weight of a value: the bytes, rounded up so that most changes of the size keep the weight.

/// Rounds bytes up, to one of sixteen sizes between a power of two and the next. Returns `None`
/// past 4 GiB.
pub(super) fn rounded_up(bytes: usize) -> Option<u32> {
    let step = (bytes.max(LEAST).checked_next_power_of_two()? / 32).max(LEAST);
    u32::try_from(bytes.max(1).checked_next_multiple_of(step)?).ok()
}

/// Returns the weight of a value of so many bytes, whose former weight is known.
///
/// A value that has shrunk a little keeps its weight. Otherwise a size that goes up and down by a
/// byte could change the weight each time.
pub(super) fn adjusted(former: u32, bytes: usize) -> Option<u32> {
    let weight = rounded_up(bytes)?;
    let is_enough = (former - former / 4..=former).contains(&weight);
    Some(if is_enough { former } else { weight })
}

const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weight_is_at_least_the_bytes_and_little_more(bytes in 0_usize..1 << 31) {
            let weight = rounded_up(bytes).unwrap() as usize;
            prop_assert!(weight >= bytes && weight <= bytes + bytes / 16 + LEAST);
            prop_assert_eq!(rounded_up(weight), Some(u32::try_from(weight).unwrap()));
        }

        #[test]
        fn adjusted_weight_is_between_the_bytes_and_a_half_more(
            former in 64_u32..1 << 31,
            bytes in 0_usize..1 << 31,
        ) {
            let weight = adjusted(former, bytes).unwrap() as usize;
            prop_assert!(weight >= bytes && weight <= bytes + bytes / 2 + 2 * LEAST);
        }
    }

    #[test]
    fn bytes_that_go_up_and_down_change_no_weight() {
        let weight = rounded_up(1_000).unwrap();
        for bytes in [1_024, 1_023, 1_000, 900, 1_024] {
            assert_eq!(adjusted(weight, bytes), Some(weight), "{bytes}");
        }
        assert_eq!(adjusted(weight, 1_025), Some(1_088));
        assert_eq!(adjusted(weight, 600), Some(640));
    }

    #[test]
    fn weight_past_32_bits_is_none() {
        assert_eq!(rounded_up(u32::MAX as usize), None);
        assert_eq!(rounded_up(usize::MAX), None);
    }
}
