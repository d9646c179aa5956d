use std::fmt;

use bytes::Bytes;
use sha2::{Digest as _, Sha512};

use crate::SessionId;

/// A new ID, readable only with the former one. The bytes are the exclusive or of the new ID's text
/// with a hash of the former ID and the new key.
///
/// The hash includes the new key, so each mask is used once. The mask covers the whole text: 64
/// bytes for at most 43. Changed bytes never become an ID, because the unsealed text is compared
/// with the new key.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct SealedId(Bytes);

impl SealedId {
    pub(crate) fn seal(new: &SessionId, former: &SessionId) -> Self {
        let mask = mask(former, new.key().as_bytes());
        Self(new.as_bytes().iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect())
    }

    pub(crate) fn unseal(
        &self,
        former: &SessionId,
        successor: crate::SessionKey,
    ) -> Option<SessionId> {
        let mask = mask(former, successor.as_bytes());
        let text: Vec<u8> = self.0.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        let new = SessionId::parse(&text)?.in_realm(former.realm());
        Some(new).filter(|id| id.key() == successor)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn from_stored(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SealedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedId(..)")
    }
}

fn mask(former: &SessionId, new_key: &[u8]) -> [u8; 64] {
    Sha512::new()
        .chain_update(b"session-core: renewed ID\0")
        .chain_update(new_key)
        .chain_update(former.as_bytes())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdGenerator as _, OsRandom};

    #[test]
    fn only_the_former_id_unseals() {
        let former = OsRandom.generate();
        let new_ids = [
            OsRandom.generate(),
            #[cfg(feature = "uuid")]
            crate::UuidV4.generate(),
        ];
        for new in new_ids {
            let sealed = SealedId::seal(&new, &former);
            let unsealed = sealed.unseal(&former, new.key()).unwrap();
            assert_eq!(unsealed.expose(), new.expose());
            assert!(sealed.unseal(&OsRandom.generate(), new.key()).is_none());
            assert!(sealed.unseal(&former, OsRandom.generate().key()).is_none());
            let cut = SealedId::from_stored(sealed.0.slice(1..));
            assert!(cut.unseal(&former, new.key()).is_none());
            assert!(!sealed.0.windows(4).any(|part| new.expose().as_bytes().starts_with(part)));
        }
    }
}
