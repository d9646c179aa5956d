use std::hash::{BuildHasher, Hasher};

/// Hashes a session key by its first eight bytes.
///
/// A key is an output of SHA-256, and the server makes the IDs: a client cannot choose many keys
/// that meet in one bucket. Hashing them again would only take time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    /// Ignores the length in front of an array.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for KeyHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

/// Hashes a ticket: numbers in a row, which the finalizer of `SplitMix64` spreads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TicketHasher(u64);

impl Hasher for TicketHasher {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, number: u64) {
        let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = mixed ^ (mixed >> 31);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl BuildHasher for TicketHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use session_core::SessionKey;

    use super::*;

    #[test]
    fn hash_is_the_head_of_the_key() {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
        let key = SessionKey::from_bytes(bytes);
        assert_eq!(KeyHasher::default().hash_one(key), 0x0123_4567_89ab_cdef);
    }

    #[test]
    fn tickets_in_a_row_differ_in_both_ends_of_the_hash() {
        let hashes = (0..100_u64).map(|number| TicketHasher::default().hash_one(number));
        let ends: HashSet<_> = hashes.map(|hash| (hash >> 48, hash & 0xffff)).collect();
        assert_eq!(ends.len(), 100);
    }
}
