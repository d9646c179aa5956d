/// Numbers that depend only on a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// The purpose of a stream of numbers.
///
/// Each purpose has a separate stream. If one part of a history is removed, the rest stays the same, so
/// that a history can be shortened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Plan = 1,
    Client,
    Id,
    Call,
    Limit,
    Visitor,
    Fault,
    Near,
}

impl Random {
    pub(crate) fn of(seed: u64, part: Part, number: u64) -> Self {
        Self(mix(mix(seed) ^ mix((part as u64) << 56 | number)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// Returns a number from 0 to `end`, exclusive.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a length")
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Returns one of several items, each with a weight.
    pub(crate) fn weighted<T: Copy>(&mut self, of: &[(u64, T)]) -> T {
        let mut left = self.below(of.iter().map(|(weight, _)| weight).sum());
        for &(weight, thing) in of {
            if left < weight {
                return thing;
            }
            left -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }
}

fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(STEP);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
