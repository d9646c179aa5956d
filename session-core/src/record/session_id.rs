use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::Realm;
use crate::SessionKey;

/// The secret of a client, in its cookie or its bearer token, with which a request opens a session.
///
/// The usual form is 256 random bits as base64url without padding: 43 characters, made by
/// [`OsRandom`]. The feature `uuid` adds a second form: a version 4 UUID in lower case with
/// hyphens, 36 characters, made by `UuidV4`. Without the feature, a UUID is refused.
///
/// # Security
///
/// A client that knows the ID has the session. Only [`expose`](Self::expose) returns the text, for
/// the one place that sends the ID to the client. `Debug` hides the text, and `Display` is not implemented.
/// Stores, logs and events get the [`SessionKey`]. To compare two sessions, compare their keys: an
/// ID has no `==`.
#[derive(Clone)]
pub struct SessionId {
    /// The realm, and the text behind it, so that one hash covers both.
    bytes: [u8; Realm::LEN + SessionId::MAX_LEN],
    /// The length of the text.
    len: u8,
    /// `false` in the default realm, whose bytes are not hashed.
    has_realm: bool,
}

impl SessionId {
    /// The length of the longest ID, in bytes.
    pub const MAX_LEN: usize = RANDOM_LEN;

    /// Parses the text that a client sent. Accepts only the forms of an ID.
    ///
    /// A well-formed ID may belong to no session: only a store that holds its [`key`](Self::key) is
    /// proof.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let well_formed = match text.len() {
            RANDOM_LEN => is_base64url(text),
            #[cfg(feature = "uuid")]
            UUID_LEN => is_uuid_v4(text),
            _ => false,
        };
        well_formed.then(|| Self::from_ascii(text))
    }

    /// Creates an ID of 256 bits, for implementations of [`IdGenerator`].
    ///
    /// # Security
    ///
    /// The bits must come from a cryptographically secure generator.
    #[must_use]
    pub fn from_random_bits(bits: [u8; 32]) -> Self {
        let mut text = [0; RANDOM_LEN];
        URL_SAFE_NO_PAD
            .encode_slice(bits, &mut text)
            .expect("32 bytes are 43 characters of base64url");
        Self::from_ascii(&text)
    }

    /// Returns the text for the client.
    ///
    /// # Security
    ///
    /// The text is the secret itself. It belongs only in the response's header that reports the ID.
    #[must_use]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an ID is ASCII")
    }

    /// Returns the name under which a store holds the session: a hash, safe to show.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        let start = if self.has_realm { 0 } else { Realm::LEN };
        let hash: [u8; 32] = Sha256::digest(&self.bytes[start..self.end()]).into();
        let [key @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = hash;
        SessionKey::from_bytes(key)
    }

    pub(crate) fn in_realm(mut self, realm: Realm) -> Self {
        let realm = realm.bytes();
        self.has_realm = realm.is_some();
        self.bytes[..Realm::LEN].copy_from_slice(&realm.unwrap_or_default());
        self
    }

    pub(crate) fn realm(&self) -> Realm {
        Realm::from_bytes(self.bytes.first_chunk().copied().filter(|_| self.has_realm))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[Realm::LEN..self.end()]
    }

    fn end(&self) -> usize {
        Realm::LEN + usize::from(self.len)
    }

    fn from_ascii(ascii: &[u8]) -> Self {
        let mut bytes = [0; Realm::LEN + Self::MAX_LEN];
        bytes[Realm::LEN..][..ascii.len()].copy_from_slice(ascii);
        let len = u8::try_from(ascii.len()).expect("an ID has at most 43 characters");
        Self { bytes, len, has_realm: false }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

/// A generator of session IDs.
///
/// # Security
///
/// An ID must be unguessable: at least 128 bits from a cryptographically secure generator
/// (OWASP ASVS 5.0, 7.2.3).
pub trait IdGenerator: fmt::Debug + Send + Sync + 'static {
    /// Generates a new ID, different from every ID before.
    fn generate(&self) -> SessionId;
}

/// A generator of IDs of 256 bits from the operating system's random numbers. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl IdGenerator for OsRandom {
    /// # Panics
    ///
    /// Panics if the operating system returns an error in place of random numbers: a guessable ID
    /// would be worse.
    fn generate(&self) -> SessionId {
        let mut bits = [0; RANDOM_BYTES];
        getrandom::fill(&mut bits).expect("the operating system gives random bytes");
        SessionId::from_random_bits(bits)
    }
}

/// A generator of version 4 UUIDs, for applications whose other systems expect UUIDs. Requires the
/// feature `uuid`.
///
/// # Security
///
/// A version 4 UUID has 122 random bits, fewer than the 128 that OWASP ASVS 5.0 asks for (7.2.3, and
/// 11.5.1, which names UUIDs). Prefer [`OsRandom`].
#[cfg(feature = "uuid")]
#[derive(Clone, Copy, Debug, Default)]
pub struct UuidV4;

#[cfg(feature = "uuid")]
impl IdGenerator for UuidV4 {
    /// # Panics
    ///
    /// Panics if the operating system returns an error in place of random numbers.
    fn generate(&self) -> SessionId {
        let mut text = [0; UUID_LEN];
        uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
        SessionId::from_ascii(&text)
    }
}

/// Returns `true` if the text is the encoding of 256 bits. The function checks the text without
/// decoding it, because every request checks its ID.
fn is_base64url(text: &[u8]) -> bool {
    let bits = text.iter().fold(0, |bits, byte| bits | SIX_BITS[usize::from(*byte)]);
    // A session has exactly one ID: a last character with bits that an encoder never sets is
    // refused.
    let last = text.last().map_or(NO_BITS, |byte| SIX_BITS[usize::from(*byte)]);
    bits & NO_BITS == 0 && last & 0b11 == 0
}

/// The six bits of each character of base64url, and [`NO_BITS`] for every other byte.
const SIX_BITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut table = [NO_BITS; 256];
    let mut bits = 0;
    while bits < 64 {
        table[alphabet[bits as usize] as usize] = bits;
        bits += 1;
    }
    table
};

const NO_BITS: u8 = 0b1000_0000;

/// Returns `true` for a version 4 UUID in the one spelling of [`UuidV4`].
#[cfg(feature = "uuid")]
fn is_uuid_v4(text: &[u8]) -> bool {
    let Ok(uuid) = uuid::Uuid::try_parse_ascii(text) else {
        return false;
    };
    let mut spelling = [0; UUID_LEN];
    uuid.hyphenated().encode_lower(&mut spelling);
    uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122 && spelling == text
}

const RANDOM_BYTES: usize = 32;
const RANDOM_LEN: usize = 43;
#[cfg(feature = "uuid")]
const UUID_LEN: usize = 36;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_hides_the_id() {
        let id = OsRandom.generate();
        assert_eq!(format!("{id:?}"), "SessionId(..)");
    }

    #[test]
    fn generated_id_parses_and_is_unique() {
        let generators: &[&dyn IdGenerator] = &[
            &OsRandom,
            #[cfg(feature = "uuid")]
            &UuidV4,
        ];
        for generator in generators {
            let mut seen = HashSet::new();
            for _ in 0..1_000 {
                let id = generator.generate();
                let parsed = SessionId::parse(id.expose().as_bytes()).unwrap();
                assert_eq!(parsed.expose(), id.expose());
                assert_eq!(parsed.key(), id.key());
                assert!(seen.insert(id.expose().to_owned()));
            }
        }
    }

    #[test]
    fn every_bit_of_the_default_id_varies() {
        let mut ones = [0u32; 256];
        for _ in 0..2_000 {
            let mut bits = [0; 32];
            URL_SAFE_NO_PAD.decode_slice(OsRandom.generate().as_bytes(), &mut bits).unwrap();
            for (i, count) in ones.iter_mut().enumerate() {
                *count += u32::from(bits[i / 8] >> (i % 8) & 1);
            }
        }
        // Ten standard deviations of a fair coin around the mean of 1,000.
        assert!(ones.iter().all(|n| (776..=1_224).contains(n)), "{ones:?}");
    }

    #[test]
    fn parse_refuses_every_other_spelling() {
        let id = SessionId::from_random_bits([7; 32]);
        let text = id.expose();
        assert!(SessionId::parse(text.as_bytes()).is_some());
        for bad in [
            "",
            &text[1..],
            &format!("{text}A"),
            &format!("{text}="),
            &format!(" {}", &text[1..]),
            &format!("+{}", &text[1..]),
            &format!("/{}", &text[1..]),
            &format!("{}B", &text[..42]),
            "D2D6E0B8-5B0A-4C39-A9F7-3D0A9A3A8B11",
            "d2d6e0b8-5b0a-1c39-a9f7-3d0a9a3a8b11",
            "d2d6e0b8-5b0a-4c39-19f7-3d0a9a3a8b11",
            "{d2d6e0b8-5b0a-4c39-a9f7-3d0a9a3a8b}",
            "d2d6e0b85b0a4c39a9f73d0a9a3a8b110000",
        ] {
            assert!(SessionId::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn uuid_is_an_id_with_the_feature_only() {
        let id = SessionId::parse(b"d2d6e0b8-5b0a-4c39-a9f7-3d0a9a3a8b11");
        assert_eq!(id.is_some(), cfg!(feature = "uuid"));
    }

    /// Tries each byte at each place, and compares with a strict decoder.
    #[test]
    fn parse_accepts_exactly_the_decodable_texts() {
        let id = SessionId::from_random_bits([0b1010_0101; 32]);
        for at in 0..RANDOM_LEN {
            for byte in 0..=u8::MAX {
                let mut text = id.as_bytes().to_vec();
                text[at] = byte;
                let decoded = URL_SAFE_NO_PAD.decode(&text).is_ok();
                assert_eq!(SessionId::parse(&text).is_some(), decoded, "{byte:#x} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn parsed_id_has_the_text_that_was_given(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(id) = SessionId::parse(&text) {
                prop_assert_eq!(id.expose().as_bytes(), &text[..]);
            }
        }

        #[test]
        fn id_of_any_bits_parses(bits: [u8; 32]) {
            let id = SessionId::from_random_bits(bits);
            prop_assert!(SessionId::parse(id.as_bytes()).is_some());
        }
    }
}
