//! Values that a type would read as other values, and values that only look so.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU32, Ordering},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use session_core::{Codec, Json, MessagePack};

use crate::{Value, World, reason};

/// Returns the codecs' reasons to refuse a value.
fn reasons<T: Value>(value: &T) -> [String; 2]
where
    MessagePack: Codec<T>,
    Json: Codec<T>,
{
    let world = World::new();
    [
        reason(&world.round_trip::<MessagePack, T>(value).unwrap_err()),
        reason(&world.round_trip::<Json, T>(value).unwrap_err()),
    ]
}

fn assert_kept<T: Value>(value: &T) {
    let world = World::new();
    assert_eq!(&world.round_trip::<MessagePack, T>(value).unwrap(), value);
    assert_eq!(&world.round_trip::<Json, T>(value).unwrap(), value);
}

fn assert_other<T: Value>(value: &T) {
    for reason in reasons(value) {
        assert!(reason.contains("reads another value"), "{reason}");
    }
}

#[test]
fn refusals_give_a_reason() {
    let world = World::new();
    let error = world.round_trip::<MessagePack, _>(&Some(None::<u8>)).unwrap_err();
    insta::assert_snapshot!(error, @r#"the value "value" cannot be encoded"#);
    insta::assert_snapshot!(reason(&error), @"it cannot be read back: its type reads another value from the bytes, such as `None` instead of `Some(None)`, or another variant of an untagged enum");
    let error = world.round_trip::<Json, _>(&Buffered::Keys { keys: [(1, 2)].into() }).unwrap_err();
    insta::assert_snapshot!(reason(&error), @r#"it cannot be read back: invalid type: string "1", expected u32"#);
    let error = world.round_trip::<Json, _>(&f64::NAN).unwrap_err();
    insta::assert_snapshot!(reason(&error), @"JSON has no form for NaN and infinity");
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Buffered {
    Keys { keys: BTreeMap<u32, u8> },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged {
    Short { id: u8 },
    Long { id: u8, name: String },
    Small(u8),
    Large(u64),
    Marker,
}

#[test]
fn none_in_some_is_refused() {
    assert_other(&Some(None::<u8>));
    assert_other(&Some(()));
    assert_other(&Some(Some(None::<u8>)));
    assert_other(&vec![Some(1), Some(0), None].into_iter().map(Some).collect::<Vec<_>>());
    assert_other(&Some(serde_json::Value::Null));
    assert_other(&Some(Untagged::Marker));
}

#[test]
fn value_of_another_untagged_variant_is_refused() {
    assert_kept(&Untagged::Short { id: 1 });
    assert_other(&Untagged::Long { id: 1, name: "Ada".to_owned() });
    assert_other(&Untagged::Large(1));
    assert_kept(&Untagged::Large(256));
}

#[test]
fn default_that_is_not_the_skipped_value_is_refused() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Vec::is_empty", default = "some")]
        items: Vec<u8>,
    }
    fn some() -> Vec<u8> {
        vec![1]
    }
    assert_kept(&Skips { items: vec![2] });
    assert_other(&Skips { items: vec![] });
}

#[test]
fn flattened_none_that_reads_as_some_is_refused() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Filters {
        #[serde(flatten)]
        sort: Option<Sort>,
    }
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Sort {
        by: Option<String>,
    }
    assert_kept(&Filters { sort: Some(Sort { by: None }) });
    assert_other(&Filters { sort: None });
}

/// The usual way to tell a missing field from null.
#[test]
fn none_in_some_is_kept_by_a_type_that_tells_them_apart() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Patch {
        #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
        name: Option<Option<String>>,
    }
    fn present<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<String>>, D::Error> {
        Deserialize::deserialize(deserializer).map(Some)
    }
    assert_kept(&Patch { name: None });
    assert_kept(&Patch { name: Some(None) });
    assert_kept(&Patch { name: Some(Some("Ada".to_owned())) });
}

#[test]
fn hash_maps_are_kept_whatever_their_order() {
    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Maps {
        inner: HashMap<String, HashMap<u32, Option<String>>>,
    }
    let map = |n: u32| (0..n).map(|k| (k, (k % 2 == 0).then(|| k.to_string()))).collect();
    assert_kept(&Maps { inner: (0..50).map(|n| (n.to_string(), map(n))).collect() });
}

/// As encryption does, with a fresh nonce.
#[test]
fn type_that_writes_other_bytes_each_time_is_kept() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Sealed(String);
    static NONCE: AtomicU32 = AtomicU32::new(0);
    impl Serialize for Sealed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let nonce = NONCE.fetch_add(1, Ordering::Relaxed);
            serializer.serialize_str(&"x".repeat(nonce as usize))
        }
    }
    let world = World::new();
    assert!(world.round_trip::<MessagePack, _>(&Sealed(String::new())).is_ok());
    assert!(world.round_trip::<Json, _>(&Sealed(String::new())).is_ok());
}

#[test]
fn floats_come_back_to_the_last_bit() {
    let world = World::new();
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    let random = std::iter::repeat_with(move || {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from_bits(bits)
    });
    let special = [-0.0, f64::MIN, f64::MIN_POSITIVE, f64::from_bits(1), 0.1 + 0.2];
    let floats: Vec<_> =
        special.into_iter().chain(random.filter(|float| float.is_finite()).take(5_000)).collect();
    let bits_of = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    let read = world.round_trip::<Json, _>(&floats).unwrap();
    assert_eq!(bits_of(&read), bits_of(&floats));
    let read = world.round_trip::<MessagePack, _>(&floats).unwrap();
    assert_eq!(bits_of(&read), bits_of(&floats));
}

#[test]
fn floats_without_a_form_in_json_are_refused_everywhere() {
    let world = World::new();
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(world.round_trip::<Json, _>(&float).is_err());
        assert!(world.round_trip::<Json, _>(&Some(float)).is_err());
        assert!(world.round_trip::<Json, _>(&vec![float]).is_err());
        let read = world.round_trip::<MessagePack, _>(&float).unwrap();
        assert_eq!(read.to_bits(), float.to_bits());
    }
}
