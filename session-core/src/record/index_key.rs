use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The name under which a store keeps an owner's index: the first 128 bits of a SHA-256 of the owner.
///
/// An owner may be any bytes, and personal. An owner's key has a fixed length, and is safe to show.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct IndexKey([u8; IndexKey::LEN]);

impl IndexKey {
    /// The length of a key, in bytes.
    pub const LEN: usize = 16;

    /// The length of a key's text, in characters of base64url.
    pub const TEXT_LEN: usize = 22;

    /// Creates a key from bytes read from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD
            .encode_slice(self.0, &mut text)
            .expect("16 bytes are 22 characters of base64url");
        f.pad(std::str::from_utf8(&text).expect("base64url is ASCII"))
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Owner;

    #[test]
    fn key_is_the_sha_256_of_the_owner_in_a_domain_of_its_own() {
        // printf 'session-core: owner\0ada' | sha256sum | cut -c1-32 | xxd -r -p | base64
        insta::assert_snapshot!(Owner::from("ada").key(), @"oaEkoqaPJKC0dKs3kKcc5A");
        assert_ne!(Owner::from("ada").key(), Owner::from("Ada").key());
        assert_eq!(Owner::from("").key().to_string().len(), IndexKey::TEXT_LEN);
    }
}
