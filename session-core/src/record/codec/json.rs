use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, Format};
use crate::error::BoxError;

/// Encodes by serde as JSON, for values that people read in the store. Needs the feature `json`.
#[derive(Clone, Copy, Debug)]
pub enum Json {}

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    const FORMAT: Format = Format::JSON;

    fn encode(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
        Ok(serde_json::to_writer(out, value)?)
    }

    fn decode(bytes: &[u8]) -> Result<T, BoxError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}
