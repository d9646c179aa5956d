//! The table: types in positions, through both codecs. Each value comes back equal or is refused.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Write as _,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    ops::{Bound, Range},
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_bytes::ByteBuf;
use serde_json::{Value as JsonValue, json};
use session_core::{Codec, Json, MessagePack};

use crate::{
    Marked, Value, World,
    positions::{try_everywhere, try_in_some},
    reason,
};

pub(crate) struct Table {
    world: World,
    /// Combinations of a type, a position and a codec.
    tried: BTreeSet<(String, &'static str, &'static str)>,
    /// By a codec and a type, the positions in which it is refused.
    refused: BTreeMap<(&'static str, String), Vec<&'static str>>,
    /// The combinations that come back as another value.
    merged: BTreeSet<String>,
}

impl Table {
    fn new() -> Self {
        Self {
            world: World::new(),
            tried: BTreeSet::new(),
            refused: BTreeMap::new(),
            merged: BTreeSet::new(),
        }
    }

    pub(crate) fn try_in<T: Value>(&mut self, position: &'static str, name: &str, value: &T) {
        self.try_through::<MessagePack, T>(position, name, value);
        self.try_through::<Json, T>(position, name, value);
    }

    fn try_through<C: Codec<T> + Marked, T: Value>(
        &mut self,
        position: &'static str,
        name: &str,
        value: &T,
    ) {
        self.tried.insert((name.to_owned(), position, C::NAME));
        match self.world.round_trip::<C, T>(value) {
            // NaN is not equal to itself, but it has a text.
            Ok(read) if read == *value || format!("{read:?}") == format!("{value:?}") => {}
            Ok(read) => {
                self.merged.insert(format!("{}: {value:?} came back as {read:?}", C::NAME));
            }
            Err(error) => {
                assert!(!reason(&error).is_empty());
                self.refused.entry((C::NAME, name.to_owned())).or_default().push(position);
            }
        }
    }

    /// The types that are refused, by codec and positions.
    fn refused(&self) -> String {
        let mut by_positions = BTreeMap::<_, Vec<_>>::new();
        for ((codec, name), positions) in &self.refused {
            let tried = self.tried.iter().filter(|tried| tried.0 == *name && tried.2 == *codec);
            let positions = if positions.len() == tried.count() {
                "everywhere".to_owned()
            } else {
                positions.join(", ")
            };
            by_positions.entry((*codec, positions)).or_default().push(name.as_str());
        }
        let mut text = String::new();
        for ((codec, positions), names) in by_positions {
            writeln!(text, "{codec}, {positions}: {}", names.join(", ")).unwrap();
        }
        text
    }
}

macro_rules! table {
    ($try:ident($table:ident): $($name:literal => $value:expr,)*) => {$(
        $try($table, $name, &$value);
    )*};
}

#[test]
fn every_shape_comes_back_or_is_refused() {
    let mut table = Table::new();
    shapes(&mut table);
    more_shapes(&mut table);
    keys(&mut table);
    assert!(table.tried.len() > 1_000, "{}", table.tried.len());
    insta::assert_snapshot!(table.refused(), @r"
    JSON, everywhere: NaN, None key, Some(()), Some(None), Some(unit struct), SystemTime before 1970, infinity, tuple key
    JSON, flattened field, internal field, untagged: bool key, i128, i8 key, u64 key
    JSON, flattened field, internal field, untagged, flattened, flattened option, internal, untagged field: map of numbers, u128
    JSON, flattened, internal: IPv6 address, Some, address, binary or readable, bool, bytes, f64, f64 integer, no bytes, no text, text, u64, u8, untagged
    JSON, internal: tagged
    JSON, option: unit, unit struct
    JSON, option, flattened, internal: untagged unit
    JSON, option, internal: None
    JSON, option, untagged field: JSON null
    JSON, untagged field: JSON
    MessagePack, everywhere: Some(()), Some(None), SystemTime before 1970
    MessagePack, flattened field, internal field, untagged: i128
    MessagePack, flattened field, internal field, untagged, flattened, flattened option, internal, untagged field: u128
    MessagePack, flattened, internal: IPv6 address, NaN, Some, address, binary or readable, bool, bytes, f64, f64 integer, no bytes, no text, text, u64, u8, untagged
    MessagePack, internal: tagged
    MessagePack, option: unit
    MessagePack, option, flattened, internal: untagged unit
    MessagePack, option, internal: None
    MessagePack, option, untagged field: JSON null
    MessagePack, untagged: Some(unit struct)
    MessagePack, untagged field: JSON
    MessagePack, untagged, untagged field: unit struct
    ");
    // serde writes both as no field at all, to the check too: see the documentation of `MessagePack`.
    let merged: Vec<_> = table.merged.into_iter().collect();
    insta::assert_snapshot!(merged.join("\n"), @r"
    JSON: FlattenedBare { id: 1, inner: Null } came back as FlattenedBare { id: 1, inner: Object {} }
    JSON: Newtype(Null) came back as Newtype(Object {})
    MessagePack: FlattenedBare { id: 1, inner: Null } came back as FlattenedBare { id: 1, inner: Object {} }
    MessagePack: Newtype(Null) came back as Newtype(Object {})
    ");
}

fn shapes(table: &mut Table) {
    table! { try_everywhere(table):
        "bool" => true,
        "u8" => 0_u8,
        "u64" => u64::MAX,
        "u128" => u128::MAX,
        "f64" => 0.1_f64,
        "f64 integer" => 5.0_f64,
        "NaN" => f64::NAN,
        "text" => "Ada \u{1f980} \"\n\0".to_owned(),
        "no text" => String::new(),
        "address" => IpAddr::from([127, 0, 0, 1]),
        "IPv6 address" => IpAddr::V6(Ipv6Addr::LOCALHOST),
        "binary or readable" => Id([7; 16]),
        "unit" => (),
        "unit struct" => UnitStruct,
        "None" => None::<u8>,
        "Some" => Some(1_u8),
        "bytes" => ByteBuf::from([0, 127, 128, 255]),
        "no bytes" => ByteBuf::new(),
        "struct" => Cart { items: vec![1, 2], note: None, paid: true },
        "map" => BTreeMap::from([("a".to_owned(), 1_u32), ("b".to_owned(), 2)]),
        "map of numbers" => BTreeMap::from([(1_u32, 'a'), (300, 'b')]),
        "unit variant" => Event::Nothing,
        "newtype variant" => Event::One(1),
        "tuple variant" => Event::Two(1, "a".to_owned()),
        "struct variant" => Event::Named { ip: IpAddr::from([10, 0, 0, 1]) },
        "tagged" => SignIn::SignIn { ip: IpAddr::from([10, 0, 0, 1]) },
        "untagged" => Either::Text("a".to_owned()),
        "untagged unit" => Either::Nothing,
        "JSON" => json!({ "a": [1, -1, 0.5, "b", null, true, { "c": [] }], "d": {} }),
        "JSON null" => JsonValue::Null,
    }
}

fn more_shapes(table: &mut Table) {
    table! { try_in_some(table):
        "i64" => i64::MIN,
        "i16" => 5_i16,
        "i128" => i128::MIN,
        "f32" => 0.1_f32,
        "infinity" => f32::NEG_INFINITY,
        "char" => 'ß',
        "cow" => Cow::<'static, str>::Owned("Ada".to_owned()),
        "NonZeroU16" => NonZeroU16::MAX,
        "Duration" => Duration::new(u64::MAX, 999_999_999),
        "SystemTime" => SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001),
        "SystemTime before 1970" => SystemTime::UNIX_EPOCH - Duration::from_secs(1),
        "SocketAddr" => SocketAddr::from(([127, 0, 0, 1], 443)),
        "path" => PathBuf::from("/a/b"),
        "empty struct" => Empty {},
        "empty tuple struct" => EmptyTuple(),
        "Some(None)" => Some(None::<u8>),
        "Some(Some)" => Some(Some(1_u8)),
        "Some(())" => Some(()),
        "Some(unit struct)" => Some(UnitStruct),
        "Vec<u8>" => (0..=255).collect::<Vec<u8>>(),
        "array" => [1_u8, 2, 3, 4],
        "tuple" => (1_u8, "a".to_owned(), None::<u8>),
        "VecDeque" => VecDeque::from([1_i8, -1]),
        "HashMap" => (0..40).map(|n| (format!("k{n}"), n)).collect::<HashMap<String, u32>>(),
        "HashSet" => (0..40).collect::<HashSet<u32>>(),
        "Range" => Range { start: 1_u8, end: 2 },
        "Bound" => Bound::Included(1_u8),
        "Result" => Err::<u8, String>("a".to_owned()),
    }
}

fn keys(table: &mut Table) {
    table! { try_in_some(table):
        "u64 key" => BTreeMap::from([(u64::MAX, 1)]),
        "i8 key" => BTreeMap::from([(-1_i8, 1)]),
        "bool key" => BTreeMap::from([(true, 1)]),
        "char key" => BTreeMap::from([('a', 1)]),
        "variant key" => BTreeMap::from([(Colour::Red, 1)]),
        "address key" => BTreeMap::from([(IpAddr::from([127, 0, 0, 1]), 1)]),
        "newtype key" => BTreeMap::from([(Name("a".to_owned()), 1)]),
        "tuple key" => BTreeMap::from([((1_u8, 2_u8), 1)]),
        "None key" => BTreeMap::from([(None::<u8>, 1)]),
        "Some key" => BTreeMap::from([(Some("a".to_owned()), 1)]),
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct UnitStruct;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Empty {}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct EmptyTuple();

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Cart {
    items: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(rename = "p", default)]
    paid: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
enum Event {
    Nothing,
    One(u8),
    Two(u8, String),
    Named { ip: IpAddr },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum SignIn {
    SignIn { ip: IpAddr },
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Either {
    Number(u8),
    Text(String),
    Nothing,
}

#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
enum Colour {
    Red,
}

#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
struct Name(String);

/// Bytes for a machine, text for people: as UUIDs and points in time are.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Id([u8; 16]);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let text: Vec<_> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
            serializer.serialize_str(&text.join("-"))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let bytes = text.split('-').map(|byte| u8::from_str_radix(byte, 16));
            bytes.collect::<Result<Vec<_>, _>>().map_err(D::Error::custom)?
        } else {
            ByteBuf::deserialize(deserializer)?.into_vec()
        };
        let len = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| D::Error::invalid_length(len, &"16 bytes"))?))
    }
}
