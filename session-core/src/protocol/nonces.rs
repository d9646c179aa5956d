use std::sync::atomic::{AtomicU64, Ordering};

use crate::Nonce;

/// A generator of marks for commits and families: SplitMix64 from a random start.
///
/// The 2^64 marks of one process are all different. Marks of two processes are equal only by
/// chance. Every commit writes the counter, so that the generator has its own cache lines.
#[repr(align(128))]
pub(super) struct Nonces {
    start: u64,
    count: AtomicU64,
}

impl Nonces {
    pub(super) fn new() -> Self {
        let start = getrandom::u64().expect("the operating system gives random bytes");
        Self { start, count: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> Nonce {
        let step = self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut mark = self.start.wrapping_add(step);
        mark = (mark ^ (mark >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mark = (mark ^ (mark >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Nonce(mark ^ (mark >> 31))
    }
}
