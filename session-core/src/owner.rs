use std::fmt;

use bytes::Bytes;

/// The application's name for a user: any bytes, at most [`Limits::OWNER_BYTES`] of them.
///
/// Made from text, bytes, an integer or a UUID. It should be a name that stays, like a user's number
/// in the database; an e-mail address changes.
///
/// `Debug` does not show it, for it may be personal.
///
/// [`Limits::OWNER_BYTES`]: crate::Limits::OWNER_BYTES
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner(Bytes);

impl Owner {
    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text, unless it was made from bytes that are no UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub(crate) fn from_stored(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Owner(..)")
    }
}

impl From<&str> for Owner {
    fn from(name: &str) -> Self {
        Self(Bytes::copy_from_slice(name.as_bytes()))
    }
}

impl From<String> for Owner {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<&[u8]> for Owner {
    fn from(name: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(name))
    }
}

impl From<Vec<u8>> for Owner {
    fn from(name: Vec<u8>) -> Self {
        Self(name.into())
    }
}

/// Names the owner by a number, in decimal.
macro_rules! from_number {
    ($($number:ty)*) => {$(
        impl From<$number> for Owner {
            fn from(number: $number) -> Self {
                number.to_string().into()
            }
        }
    )*};
}

from_number!(i32 i64 i128 u32 u64 u128);

impl From<uuid::Uuid> for Owner {
    fn from(uuid: uuid::Uuid) -> Self {
        uuid.to_string().into()
    }
}
