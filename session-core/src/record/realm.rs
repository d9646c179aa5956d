use sha2::{Digest as _, Sha256};

/// The name that sets the IDs of one part of an application apart: its transport, or its cookie.
///
/// The realm is a part of the text that is hashed to a session's key, so that an ID has another key
/// in each realm. The text stays inside of one block of SHA-256: a realm costs no second block.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Realm(Option<[u8; Realm::LEN]>);

impl Realm {
    pub(super) const LEN: usize = 8;

    /// Returns the realm of a name inside of this realm.
    pub(crate) fn inner(self, name: &str) -> Self {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"session-core: realm\0")
            .chain_update(self.0.as_slice().as_flattened())
            .chain_update(b"\0")
            .chain_update(name)
            .finalize()
            .into();
        Self(hash.first_chunk().copied())
    }

    /// Returns the bytes before an ID in the text of its key. The default realm has none, and the
    /// lengths of the texts keep it apart from the other realms.
    pub(super) fn bytes(self) -> Option<[u8; Self::LEN]> {
        self.0
    }

    pub(super) fn from_bytes(bytes: Option<[u8; Self::LEN]>) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realm_depends_on_every_name() {
        let realm = |names: &[&str]| names.iter().copied().fold(Realm::default(), Realm::inner);
        let realms = [
            realm(&[]),
            realm(&[""]),
            realm(&["", ""]),
            realm(&["a"]),
            realm(&["b"]),
            realm(&["a", "b"]),
            realm(&["b", "a"]),
            realm(&["a\0b"]),
        ];
        for (place, one) in realms.iter().enumerate() {
            assert_eq!(realms.iter().position(|other| one == other), Some(place));
        }
        // Stored keys depend on it, so that it stays as it is.
        insta::assert_snapshot!(format!("{:?}", realm(&["bearer"]).bytes()), @"Some([56, 142, 125, 164, 184, 141, 189, 120])");
    }
}
