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
/// without making older values unreadable (give a new field `#[serde(default)]`).
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
    // serde reads what it buffers, as for a tagged or untagged enum, as human-readable in any case.
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes).with_human_readable();
    let value = T::deserialize(Bounded::new(&mut deserializer))?;
    // Only at the end is there no further marker.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(()) | Err(_) => Err("bytes are left over".into()),
    }
}
