use std::hash::{BuildHasher, Hasher};

/// Hashes a session key by its first eight bytes.
///
/// A key is the output of SHA-256, of an ID that the server made: nobody can choose many that meet in
/// one bucket, and hashing it again would only cost time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(head) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*head);
        }
    }

    /// The length that is hashed in front of an array says nothing.
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

#[cfg(test)]
mod tests {
    use session_core::SessionKey;

    use super::*;

    #[test]
    fn hash_is_the_head_of_the_key() {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_le_bytes());
        let key = SessionKey::from_bytes(bytes);
        assert_eq!(KeyHasher::default().hash_one(key), 0x0123_4567_89ab_cdef);
    }
}
