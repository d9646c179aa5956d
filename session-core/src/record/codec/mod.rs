mod bounded_de;
#[cfg(feature = "json")]
mod json;
mod message_pack;
mod shape;

use std::fmt;

use crate::error::BoxError;

#[cfg(feature = "json")]
pub use json::Json;
pub use message_pack::MessagePack;
pub(super) use message_pack::read_message_pack;

/// Turns values of one type into bytes and back.
///
/// [`MessagePack`] is the default; `Json` (feature `json`) keeps values readable in the store; [`Raw`]
/// stores bytes as they are. Implement this for a format outside serde.
///
/// # Examples
///
/// A codec for Protobuf messages:
///
/// ```
/// use session_core::{BoxError, Codec, Format, Key};
///
/// struct Protobuf;
///
/// impl<T: prost::Message + Default> Codec<T> for Protobuf {
///     const FORMAT: Format = Format::application(0);
///
///     fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
///         Ok(value.encode(out)?)
///     }
///
///     fn decode(bytes: &[u8]) -> Result<T, BoxError> {
///         Ok(T::decode(bytes)?)
///     }
/// }
///
/// #[derive(Clone, PartialEq, prost::Message)]
/// struct Basket {
///     #[prost(string, repeated, tag = "1")]
///     items: Vec<String>,
/// }
///
/// const BASKET: Key<Basket, Protobuf> = Key::new("basket");
/// # let _ = BASKET;
/// ```
pub trait Codec<T> {
    /// Names the format in the record, so that bytes of one format are never read as another.
    const FORMAT: Format;

    /// Appends the encoded value to `out`.
    ///
    /// # Errors
    ///
    /// Returns whatever the format says, if the value has no form in it.
    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError>;

    /// Decodes a value.
    ///
    /// # Errors
    ///
    /// Returns whatever the format says, if the bytes are not a value of this type.
    fn decode(bytes: &[u8]) -> Result<T, BoxError>;

    /// Returns an error if [`decode`](Self::decode) does not read the value back from the bytes that
    /// [`encode`](Self::encode) wrote.
    ///
    /// [`Session::set`](crate::Session::set) and [`update`](crate::Session::update) call it before they
    /// accept a value. By default, it only decodes the bytes.
    ///
    /// # Errors
    ///
    /// Returns the error of `decode`, or the difference between the values.
    fn check(value: &T, encoded: &[u8]) -> Result<(), BoxError> {
        _ = value;
        Self::decode(encoded).map(drop)
    }
}

/// The most levels that a value of [`MessagePack`] or `Json` may nest.
///
/// Each takes stack, and more of it in a debug build: the smallest stack that programs commonly use, 2 MiB,
/// must hold this many of any type.
const LEVELS: u8 = 100;

/// A value, or bytes, with more levels.
#[derive(Debug)]
struct TooDeep;

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it nests more than {LEVELS} levels deep")
    }
}

/// The name of a value's format: one byte in front of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Format(u8);

impl Format {
    /// MessagePack.
    pub const MESSAGE_PACK: Self = Self(0);
    /// JSON.
    pub const JSON: Self = Self(1);
    /// Bytes as the application gave them.
    pub const RAW: Self = Self(2);

    /// Names a format of the application's, by a number of its choice from 0 to 127.
    ///
    /// # Panics
    ///
    /// Panics if the number is larger, when the program is compiled if it is used in a constant.
    #[must_use]
    pub const fn application(number: u8) -> Self {
        assert!(number < 128, "an application's format is numbered 0 to 127");
        Self(128 + number)
    }

    pub(crate) const fn byte(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MESSAGE_PACK => f.write_str("MessagePack"),
            Self::JSON => f.write_str("JSON"),
            Self::RAW => f.write_str("raw bytes"),
            Self(byte @ 128..) => write!(f, "application format {}", byte - 128),
            Self(byte) => write!(f, "unknown format {byte}"),
        }
    }
}

/// Stores bytes as they are.
#[derive(Clone, Copy, Debug)]
pub enum Raw {}

impl Codec<Vec<u8>> for Raw {
    const FORMAT: Format = Format::RAW;

    fn encode(value: &Vec<u8>, out: &mut Vec<u8>) -> Result<(), BoxError> {
        out.extend_from_slice(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, BoxError> {
        Ok(bytes.to_vec())
    }

    fn check(_: &Vec<u8>, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Before {
        name: String,
        count: u32,
    }

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct After {
        #[serde(default)]
        added: Option<u8>,
        count: u64,
        name: String,
    }

    fn encoded<C: Codec<T>, T>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        C::encode(value, &mut out).unwrap();
        out
    }

    fn before() -> Before {
        Before { name: "Ada".to_owned(), count: 7 }
    }

    fn after(added: Option<u8>) -> After {
        After { added, count: 7, name: "Ada".to_owned() }
    }

    /// A deployment, and its being taken back (I11).
    fn fields_come_and_go<C: Codec<Before> + Codec<After>>() {
        let old = encoded::<C, Before>(&before());
        assert_eq!(<C as Codec<After>>::decode(&old).unwrap(), after(None));
        let new = encoded::<C, After>(&after(Some(1)));
        assert_eq!(<C as Codec<Before>>::decode(&new).unwrap(), before());
    }

    #[test]
    fn a_structure_may_gain_move_and_widen_fields_in_message_pack() {
        fields_come_and_go::<MessagePack>();
    }

    #[cfg(feature = "json")]
    #[test]
    fn a_structure_may_gain_move_and_widen_fields_in_json() {
        fields_come_and_go::<Json>();
    }

    #[test]
    fn bytes_left_over_are_refused() {
        let mut bytes = encoded::<MessagePack, _>(&7_u8);
        bytes.push(0);
        assert!(<MessagePack as Codec<u8>>::decode(&bytes).is_err());
        #[cfg(feature = "json")]
        assert!(<Json as Codec<u8>>::decode(b"7 7").is_err());
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_is_readable() {
        let text = String::from_utf8(encoded::<Json, _>(&before())).unwrap();
        insta::assert_snapshot!(text, @r#"{"name":"Ada","count":7}"#);
    }

    #[test]
    fn formats_have_names_and_applications_have_their_own() {
        let formats =
            [Format::MESSAGE_PACK, Format::JSON, Format::RAW, Format::application(0), Format(99)];
        insta::assert_snapshot!(
            formats.map(|format| format.to_string()).join(", "),
            @"MessagePack, JSON, raw bytes, application format 0, unknown format 99"
        );
        assert_eq!(Format::application(127).byte(), 255);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = <MessagePack as Codec<Vec<String>>>::decode(&bytes);
            let _ = <MessagePack as Codec<After>>::decode(&bytes);
            prop_assert_eq!(<Raw as Codec<Vec<u8>>>::decode(&bytes).unwrap(), bytes);
        }

        #[test]
        fn what_is_written_is_read_back(name: String, count: u32, raw: Vec<u8>) {
            let value = Before { name, count };
            let bytes = encoded::<MessagePack, _>(&value);
            prop_assert_eq!(<MessagePack as Codec<Before>>::decode(&bytes).unwrap(), value);
            prop_assert_eq!(encoded::<Raw, _>(&raw), raw);
        }
    }
}
