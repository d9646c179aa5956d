use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The name under which a store holds a session: the first 128 bits of the SHA-256 of its ID.
///
/// Safe to show: in a log, an event, a list of devices. It opens nothing, for it cannot be turned back
/// into the ID. As look-ups go by a hash, how long one takes tells nothing about an ID
/// (Rack CVE-2019-16782).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey([u8; SessionKey::LEN]);

impl SessionKey {
    /// The length of a key, in bytes.
    pub const LEN: usize = 16;

    /// The length of a key's text, in characters of base64url.
    pub const TEXT_LEN: usize = 22;

    /// Makes the key that was read back from a store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Parses a key as `Display` writes it, in the form of a device list for example.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LEN];
        (text.len() == Self::TEXT_LEN
            && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(Self::LEN))
        .then_some(Self(bytes))
    }

    /// Calls `f` with the text of the key, without allocating.
    pub fn with_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        let mut text = [0; Self::TEXT_LEN];
        URL_SAFE_NO_PAD
            .encode_slice(self.0, &mut text)
            .expect("16 bytes are 22 characters of base64url");
        f(std::str::from_utf8(&text).expect("base64url is ASCII"))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;

    #[test]
    fn key_is_the_sha_256_of_the_id() {
        let id = SessionId::from_random_bits([0; 32]);
        // printf A…A (43 of them) | sha256sum | cut -c1-32 | xxd -r -p | base64, without its padding
        insta::assert_snapshot!(id.key(), @"DwBzhbb51LfusnSGBa_hqQ");
    }

    #[test]
    fn text_is_read_back() {
        let key = SessionId::from_random_bits([1; 32]).key();
        assert_eq!(SessionKey::parse(&key.to_string()), Some(key));
        assert_eq!(SessionKey::parse(""), None);
        assert_eq!(SessionKey::parse(&"A".repeat(23)), None);
    }
}
