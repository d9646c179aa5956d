//! Types that refer to themselves, one for each way in which serde lets them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use session_core::Codec;

/// Decodes bytes as each type. A value that was read must be one that can be written again, read
/// again and then be written as the same bytes.
pub(crate) fn decode_all<C>(bytes: &[u8])
where
    C: Codec<Links>
        + Codec<Newtype>
        + Codec<Variant>
        + Codec<Vec<Vec<Vec<Option<i8>>>>>
        + Codec<Map>
        + Codec<Tagged>
        + Codec<Adjacent>
        + Codec<Untagged>
        + Codec<Flattened>
        + Codec<serde_json::Value>,
{
    decode::<C, Links>(bytes);
    decode::<C, Newtype>(bytes);
    decode::<C, Variant>(bytes);
    decode::<C, Vec<Vec<Vec<Option<i8>>>>>(bytes);
    decode::<C, Map>(bytes);
    decode::<C, Tagged>(bytes);
    decode::<C, Adjacent>(bytes);
    decode::<C, Untagged>(bytes);
    decode::<C, Flattened>(bytes);
    decode::<C, serde_json::Value>(bytes);
}

fn decode<C: Codec<T>, T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = C::decode(bytes) else { return };
    let mut first = Vec::new();
    // A value can have more levels than its bytes, which is an error here.
    if C::encode(&value, &mut first).is_err() || C::check(&value, &first).is_err() {
        return;
    }
    let again = C::decode(&first).expect("it was checked");
    let mut second = Vec::new();
    C::encode(&again, &mut second).expect("it was encoded before");
    assert_eq!(first, second);
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Links {
    id: Option<u8>,
    next: Option<Box<Links>>,
    pair: Option<(f64, Box<Links>)>,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Newtype(Option<Box<Newtype>>);

#[derive(Deserialize, Serialize)]
pub(crate) enum Variant {
    End,
    Newtype(Box<Variant>),
    Tuple(u8, Box<Variant>),
    Struct { next: Box<Variant> },
    Many(Vec<Variant>),
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Map(BTreeMap<String, Map>);

#[derive(Deserialize, Serialize)]
#[serde(tag = "t")]
pub(crate) enum Tagged {
    End,
    Next { next: Box<Tagged> },
    Many { many: Vec<Tagged> },
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "t", content = "c")]
pub(crate) enum Adjacent {
    End,
    Next(Box<Adjacent>),
    Many(u8, Vec<Adjacent>),
}

/// One variant only refers to itself: with two, bytes that fit neither take exponential time.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Number(i64),
    Text(String),
    Many(Vec<Untagged>),
}

#[derive(Deserialize, Serialize)]
pub(crate) struct Flattened {
    id: Option<u8>,
    #[serde(flatten)]
    more: BTreeMap<String, Flattened>,
}
