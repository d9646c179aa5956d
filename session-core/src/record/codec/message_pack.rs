use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Codec, Format,
    bounded_de::Bounded,
    shape::{self, Shape},
};
use crate::error::BoxError;

/// Encodes by serde as MessagePack. The default.
///
/// Structures are written as maps with their fields' names, so that a field can be added or moved
/// without making older values unreadable (give a new field `#[serde(default)]`). Types that have a text
/// for people, such as IP addresses and UUIDs, are written as that text: serde reads no other form inside
/// of tagged, untagged and flattened types. A UUID takes 38 bytes.
///
/// # Refused values
///
/// [`Session::set`](crate::Session::set) decodes the encoded bytes again. It refuses a value that would
/// come back as another one, or not at all:
///
/// - A value of more than 100 levels. A sequence, map, structure, newtype or `Some` is one level, a
///   variant with several fields is two.
/// - `Some(None)` and `Some(())`, which are written as `None` is. A field with a `deserialize_with` that
///   tells them apart is accepted.
/// - A value of an untagged enum that an earlier variant reads, and a skipped field whose default is not
///   the skipped value.
/// - `u128` and `i128` inside of tagged, untagged and flattened types, which serde does not buffer.
///
/// # Values that come back different
///
/// The check compares everything but numbers and texts. These pass it:
///
/// - A value of an untagged enum, if an earlier variant has the same fields of the same types.
/// - A null of a dynamic type such as `serde_json::Value`, if it is flattened or the content of an
///   internally tagged variant: it comes back as an empty map.
/// - A field that serde skips, if its default is another value: the check sees only the parts that serde
///   writes.
/// - A type whose own `Serialize` or `Deserialize` rounds or shortens.
///
/// # Security
///
/// Bytes of any origin are decoded to at most 100 levels, which 2 MiB of stack hold. serde itself leaves
/// these cases open, in which it counts nothing:
///
/// - An untagged enum with a variant that holds nothing but the enum, such as `Same(Box<Self>)`, can be
///   decoded without end. Two variants that contain the enum can take exponential time.
/// - A flattened enum is buffered while it is encoded. A value that the program itself nested a thousand
///   levels deep can then overflow the stack.
#[derive(Clone, Copy, Debug)]
pub enum MessagePack {}

impl<T: Serialize + DeserializeOwned> Codec<T> for MessagePack {
    const FORMAT: Format = Format::MESSAGE_PACK;

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
        // The serializer itself counts no levels.
        Shape::of(value)?;
        let serializer = rmp_serde::Serializer::new(out);
        value.serialize(&mut serializer.with_struct_map().with_human_readable())?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        read_message_pack(bytes)
    }

    fn check(value: &T, encoded: &[u8]) -> Result<(), BoxError> {
        shape::check(value, &Self::decode(encoded)?)
    }
}

/// Reads one value that the bytes hold and nothing else, and that nests at most [`LEVELS`](super::LEVELS)
/// deep.
#[inline]
pub(in crate::record) fn read_message_pack<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
) -> Result<T, BoxError> {
    // serde reads its buffers, as of a tagged or untagged enum, as human-readable in any case.
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    let value = T::deserialize(Bounded::new(&mut deserializer))?;
    // Only at the end is there no further marker.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(()) | Err(_) => Err("bytes are left over".into()),
    }
}
