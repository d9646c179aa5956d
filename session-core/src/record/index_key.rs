use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::too_large;
use crate::{Limits, SessionError};

/// The name of an index of sessions: the first 128 bits of a SHA-256 of an
/// [owner](crate::Owner::key) or of a [link](crate::Session::link).
///
/// Owners and links may be any bytes, and personal. The key of an index has a fixed length, and opens
/// no session. The key of a link never equals the key of an owner.
///
/// # Security
///
/// The hash has no secret. A reader of the key can try owners until one has this key: all user numbers
/// of a database within seconds, or the known e-mail addresses.
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

    pub(super) fn of_owner(owner: &[u8]) -> Self {
        Self::hash("session-core: owner\0", &[owner])
    }

    /// Returns the key of the index that lists the sessions with a [link](crate::Session::link).
    ///
    /// # Errors
    ///
    /// Returns [`SessionError::EmptyLink`] if the name or the value is empty, and
    /// [`SessionError::TooLarge`] if the name is longer than [`Limits::NAME_BYTES`] or the value longer
    /// than [`Limits::LINK_BYTES`].
    pub fn of_link(name: &str, value: &[u8]) -> Result<Self, SessionError> {
        if name.is_empty() || value.is_empty() {
            return Err(SessionError::EmptyLink);
        }
        if name.len() > Limits::NAME_BYTES {
            return Err(too_large("the name of a link", Limits::NAME_BYTES));
        }
        if value.len() > Limits::LINK_BYTES {
            return Err(too_large("the value of a link", Limits::LINK_BYTES));
        }
        // The length of the name separates the name from the value.
        let len = u8::try_from(name.len()).expect("a name has at most 128 bytes");
        Ok(Self::hash("session-core: link\0", &[&[len], name.as_bytes(), value]))
    }

    fn hash(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new_with_prefix(domain);
        for part in parts {
            hash.update(part);
        }
        let hash: [u8; 32] = hash.finalize().into();
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash;
        Self(key)
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

    fn link(name: &str, value: &str) -> IndexKey {
        IndexKey::of_link(name, value.as_bytes()).unwrap()
    }

    #[test]
    fn key_is_the_sha_256_of_the_owner_in_a_domain_of_its_own() {
        // printf 'session-core: owner\0ada' | sha256sum | cut -c1-32 | xxd -r -p | base64
        insta::assert_snapshot!(Owner::from("ada").key(), @"oaEkoqaPJKC0dKs3kKcc5A");
        assert_ne!(Owner::from("ada").key(), Owner::from("Ada").key());
        assert_eq!(Owner::from("").key().to_string().len(), IndexKey::TEXT_LEN);
    }

    #[test]
    fn key_of_a_link_is_the_sha_256_of_name_and_value_with_a_length() {
        // printf 'session-core: link\0\003sid1' | sha256sum | cut -c1-32 | xxd -r -p | base64
        insta::assert_snapshot!(link("sid", "1"), @"N0LtuvjsbFdihHwwV99z7w");
    }

    #[test]
    fn links_and_owners_have_different_keys() {
        let keys = [
            link("a", "bc"),
            link("ab", "c"),
            link("a", "b"),
            link("b", "a"),
            link("a", "a"),
            Owner::from("abc").key(),
            Owner::from("\u{1}abc").key(),
            Owner::from("link\0\u{1}abc").key(),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn link_out_of_bounds_is_refused() {
        let text = |name: &str, value: &[u8]| match IndexKey::of_link(name, value) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        let long = [b'x'; Limits::LINK_BYTES + 1];
        let long_name = "n".repeat(Limits::NAME_BYTES + 1);
        insta::assert_snapshot!(text("", b"1"), @"the name and the value of a link must not be empty");
        insta::assert_snapshot!(text("sid", b""), @"the name and the value of a link must not be empty");
        insta::assert_snapshot!(text("sid", &long), @"the value of a link exceeds the limit of 1024");
        insta::assert_snapshot!(text("sid", &long[1..]), @"accepted");
        insta::assert_snapshot!(text(&long_name, b"1"), @"the name of a link exceeds the limit of 128");
        insta::assert_snapshot!(text(&long_name[1..], b"1"), @"accepted");
    }
}
