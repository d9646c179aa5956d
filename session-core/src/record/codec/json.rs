use serde::{Serialize, de::DeserializeOwned};

use super::{
    Codec, Format,
    bounded_de::Bounded,
    shape::{self, Shape},
};
use crate::error::BoxError;

/// Encodes by serde as JSON, for values that people read in the store. Needs the feature `json`.
///
/// [`Session::set`](crate::Session::set) refuses the values that
/// [`MessagePack`](crate::MessagePack#refused-values) refuses, and those that JSON has no form for:
///
/// - NaN and infinity.
/// - `Some` of a unit structure, which is written as `None` is.
/// - A map whose keys are not texts, numbers, `bool` or variants without fields. Inside of tagged,
///   untagged and flattened types serde reads keys as texts only.
#[derive(Clone, Copy, Debug)]
pub enum Json {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    const FORMAT: Format = Format::JSON;

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
        if Shape::of(value)?.has_non_finite {
            // The serializer would write null.
            return Err("JSON has no form for NaN and infinity".into());
        }
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = T::deserialize(Bounded::new(&mut deserializer))?;
        deserializer.end()?;
        Ok(value)
    }

    fn check(value: &T, encoded: &[u8]) -> Result<(), BoxError> {
        shape::check(value, &Self::decode(encoded)?)
    }
}
