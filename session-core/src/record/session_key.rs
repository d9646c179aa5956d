use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name under which a store holds a session: the first 128 bits of the SHA-256 of its ID and its
/// [realm](crate::Sessions::in_realm).
///
/// A key is safe to show, in a log, an event or a list of devices. It cannot open a session, or
/// lead back to the ID. Look-ups go by this hash, so their duration reveals nothing about an ID
/// (Rack CVE-2019-16782).
///
/// The text of a key is 22 characters of base64url without padding. `Display` and serde write it,
/// `FromStr` and serde read it, in text formats and binary formats alike.
///
/// # Examples
///
/// A key travels in the form of a device list, or in a message to another service:
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use session_core::{SessionKey, SessionKeyError};
///
/// #[derive(Deserialize, Serialize)]
/// struct Revoke {
///     key: SessionKey,
/// }
///
/// # fn main() -> Result<(), SessionKeyError> {
/// let key: SessionKey = "DwBzhbb51LfusnSGBa_hqQ".parse()?;
/// assert_eq!(key.to_string(), "DwBzhbb51LfusnSGBa_hqQ");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey([u8; SessionKey::LEN]);

impl SessionKey {
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

impl FromStr for SessionKey {
    type Err = SessionKeyError;

    fn from_str(text: &str) -> Result<Self, SessionKeyError> {
        let mut bytes = [0; Self::LEN];
        let is_key = text.len() == Self::TEXT_LEN
            && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(Self::LEN);
        if is_key { Ok(Self(bytes)) } else { Err(SessionKeyError(())) }
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

/// The error for a text that is not a [`SessionKey`].
///
/// The error omits the text, because a client sent it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a session key is {} characters of base64url without padding", SessionKey::TEXT_LEN)]
pub struct SessionKeyError(());

#[cfg(test)]
mod tests {
    use serde::de::{IntoDeserializer as _, value};

    use super::*;
    use crate::{SessionId, record::Realm};

    #[test]
    fn key_is_the_sha_256_of_the_id() {
        let id = SessionId::from_random_bits([0; 32]);
        // printf A…A (43 of them) | sha256sum | cut -c1-32 | xxd -r -p | base64, without its padding
        insta::assert_snapshot!(id.key(), @"DwBzhbb51LfusnSGBa_hqQ");
    }

    #[test]
    fn key_in_a_realm_is_the_sha_256_of_realm_and_id() {
        let id = SessionId::from_random_bits([0; 32]);
        let bearer = id.clone().in_realm(Realm::default().inner("bearer"));
        // The bytes of the realm are those of the snapshot in its module, before the text of the ID.
        insta::assert_snapshot!(bearer.key(), @"PdoHJR5FlJ21THZWvHuk3g");
        assert_eq!(bearer.expose(), id.expose());
        assert_eq!(bearer.in_realm(Realm::default()).key(), id.key());
    }

    #[test]
    fn displayed_key_parses_back() {
        let key = SessionId::from_random_bits([1; 32]).key();
        assert_eq!(key.to_string().parse(), Ok(key));
    }

    #[test]
    fn key_is_serialized_as_its_text() {
        let key = SessionId::from_random_bits([1; 32]).key();
        let bytes = rmp_serde::to_vec(&key).unwrap();
        assert_eq!(bytes, rmp_serde::to_vec(&key.to_string()).unwrap());
        assert_eq!(rmp_serde::from_slice::<SessionKey>(&bytes).unwrap(), key);
    }

    #[test]
    fn malformed_text_is_refused() {
        let text = SessionKey::from_bytes([0; 16]).to_string();
        for bad in [
            "",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}=="),
            &format!(" {}", &text[1..]),
            &format!("{}+", &text[1..]),
            // The last character has bits that an encoder never sets.
            &format!("{}B", &text[1..]),
        ] {
            assert!(bad.parse::<SessionKey>().is_err(), "{bad:?}");
            let read: Result<_, value::Error> = SessionKey::deserialize(bad.into_deserializer());
            assert!(read.is_err(), "{bad:?}");
        }
        insta::assert_snapshot!(
            "private".parse::<SessionKey>().unwrap_err(),
            @"a session key is 22 characters of base64url without padding"
        );
    }
}
