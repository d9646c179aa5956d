use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Codec, Format};
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
        value.serialize(&mut rmp_serde::Serializer::new(out).with_struct_map())?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        read_message_pack(bytes, MAX_DEPTH)
    }
}

/// Reads one value that the bytes hold and nothing else, nested at most so deep: bytes that nobody of us
/// wrote must not drive the recursion into the end of the stack.
pub(crate) fn read_message_pack<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    max_depth: usize,
) -> Result<T, BoxError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(max_depth);
    let value = T::deserialize(&mut deserializer)?;
    // Only at the end is there no further marker.
    match <()>::deserialize(&mut deserializer) {
        Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(value),
        Ok(()) | Err(_) => Err("bytes are left over".into()),
    }
}

/// How deep a MessagePack value may nest: as deep as `serde_json` lets a JSON value.
const MAX_DEPTH: usize = 128;
