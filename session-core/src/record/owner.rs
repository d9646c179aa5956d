use std::{borrow::Cow, fmt, str::FromStr};

use super::too_large;
use crate::{IndexKey, Limits, SessionError};
use bytes::Bytes;

/// The application's name for a user: any bytes, at most [`Limits::OWNER_BYTES`] of them.
///
/// An owner is made from text, bytes, an integer or, with the feature `uuid`, a UUID. Choose a name
/// that stays, such as the user's number in the database: an e-mail address changes.
///
/// `Debug` hides the name, because it may be personal.
///
/// [`Limits::OWNER_BYTES`]: crate::Limits::OWNER_BYTES
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Owner(Bytes);

impl Owner {
    /// Returns the bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the name as text. Returns `None` if the bytes of the name are not UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Returns the name as a number, a UUID or another type parsed from text. Returns `None` if the
    /// name does not parse as the type.
    ///
    /// Numbers and text share their names: the owner made from `7` equals the one made from `"7"`.
    #[must_use]
    pub fn parse<T: FromStr>(&self) -> Option<T> {
        self.as_str()?.parse().ok()
    }

    /// Returns the key of the index that lists the owner's sessions: a hash of the name, without a
    /// secret. A reader of the key finds a small number by trying all numbers.
    #[must_use]
    pub fn key(&self) -> IndexKey {
        IndexKey::of_owner(&self.0)
    }

    /// Creates an owner of 1 to [`Limits::OWNER_BYTES`] bytes.
    pub(crate) fn checked(owner: impl Into<Self>) -> Result<Self, SessionError> {
        let owner = owner.into();
        if owner.0.is_empty() {
            return Err(SessionError::EmptyOwner);
        }
        if owner.0.len() > Limits::OWNER_BYTES {
            return Err(too_large("the owner", Limits::OWNER_BYTES));
        }
        Ok(owner)
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

/// Implements `From` for integers: the decimal text of the number is the name.
macro_rules! from_number {
    ($($number:ty)*) => {$(
        impl From<$number> for Owner {
            fn from(number: $number) -> Self {
                number.to_string().into()
            }
        }
    )*};
}

from_number!(i32 i64 i128 isize u32 u64 u128 usize);

impl From<&String> for Owner {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl From<Cow<'_, str>> for Owner {
    fn from(name: Cow<'_, str>) -> Self {
        name.into_owned().into()
    }
}

impl<const N: usize> From<[u8; N]> for Owner {
    fn from(name: [u8; N]) -> Self {
        name.as_slice().into()
    }
}

#[cfg(feature = "uuid")]
impl From<&uuid::Uuid> for Owner {
    fn from(uuid: &uuid::Uuid) -> Self {
        (*uuid).into()
    }
}

#[cfg(feature = "uuid")]
impl From<uuid::Uuid> for Owner {
    fn from(uuid: uuid::Uuid) -> Self {
        uuid.to_string().into()
    }
}
