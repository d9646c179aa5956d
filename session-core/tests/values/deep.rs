//! Types that refer to themselves, one for each way in which serde lets them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;

use crate::Value;

/// A type whose values can nest.
pub(crate) trait Deep: Value + Send {
    const NAME: &str;
    /// The levels that one step adds.
    const STEP: usize;

    /// The innermost value.
    fn leaf() -> Self;

    /// A value around another one.
    fn around(inner: Self) -> Self;

    fn nested(steps: usize) -> Self {
        (0..steps).fold(Self::leaf(), |inner, _| Self::around(inner))
    }
}

macro_rules! deep {
    ($($name:ident, $step:literal, $leaf:expr, |$inner:ident| $around:expr;)*) => {$(
        impl Deep for $name {
            const NAME: &str = stringify!($name);
            const STEP: usize = $step;

            fn leaf() -> Self {
                $leaf
            }

            fn around($inner: Self) -> Self {
                $around
            }
        }
    )*

        /// Calls a generic function with each type.
        macro_rules! for_each_deep_type {
            ($function:ident) => {$(
                $function::<$crate::deep::$name>();
            )*};
        }
        pub(crate) use for_each_deep_type;
    };
}

deep! {
    Field, 2, Self { next: None }, |inner| Self { next: Some(Box::new(inner)) };
    Position, 2, Self(1, None), |inner| Self(1, Some(Box::new(inner)));
    Newtype, 2, Self(None), |inner| Self(Some(Box::new(inner)));
    Transparent, 1, Self(None), |inner| Self(Some(Box::new(inner)));
    NewtypeVariant, 1, Self::End, |inner| Self::Next(Box::new(inner));
    TupleVariant, 2, Self::End, |inner| Self::Next(1, Box::new(inner));
    StructVariant, 2, Self::End, |inner| Self::Next { next: Box::new(inner) };
    Sequence, 2, Self(vec![]), |inner| Self(vec![inner]);
    Map, 2, Self(BTreeMap::new()), |inner| Self(BTreeMap::from([("k".to_owned(), inner)]));
    Pair, 2, Self::End, |inner| Self::Next((1, Box::new(inner)));
    Fixed, 2, Self::End, |inner| Self::Next([Box::new(inner)]);
    Tagged, 1, Self::End, |inner| Self::Next { next: Box::new(inner) };
    Adjacent, 1, Self::End, |inner| Self::Next(Box::new(inner));
    AdjacentPair, 2, Self::End, |inner| Self::Next(1, Box::new(inner));
    UntaggedSequence, 1, Self::End(1), |inner| Self::Next(vec![inner]);
    UntaggedField, 1, Self::End(1), |inner| Self::Next { next: Box::new(inner) };
    UntaggedOption, 2, Self::Next { next: None }, |inner| Self::Next { next: Some(Box::new(inner)) };
    Flattened, 1, Self { id: 1, more: BTreeMap::new() },
        |inner| Self { id: 1, more: BTreeMap::from([("k".to_owned(), inner)]) };
    FlattenedVariant, 2, Self { id: 1, link: Link::End },
        |inner| Self { id: 1, link: Link::Next { next: Box::new(inner) } };
    Dynamic, 1, JsonValue::Null, |inner| JsonValue::Array(vec![inner]);
}

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Field {
    #[serde(default)]
    next: Option<Box<Field>>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Position(u8, Option<Box<Position>>);

/// All of its values are written as null: none of its levels takes a byte.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Newtype(Option<Box<Newtype>>);

/// The same with `Some` alone.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Transparent(Option<Box<Transparent>>);

#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) enum NewtypeVariant {
    #[default]
    End,
    Next(Box<NewtypeVariant>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum TupleVariant {
    End,
    Next(u8, Box<TupleVariant>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum StructVariant {
    End,
    Next { next: Box<StructVariant> },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Sequence(Vec<Sequence>);

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Map(BTreeMap<String, Map>);

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Pair {
    End,
    Next((u8, Box<Pair>)),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Fixed {
    End,
    Next([Box<Fixed>; 1]),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
pub(crate) enum Tagged {
    End,
    Next { next: Box<Tagged> },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", content = "next")]
pub(crate) enum Adjacent {
    End,
    Next(Box<Adjacent>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", content = "next")]
pub(crate) enum AdjacentPair {
    End,
    Next(u8, Box<AdjacentPair>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum UntaggedSequence {
    End(u8),
    Next(Vec<UntaggedSequence>),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum UntaggedField {
    End(u8),
    Next { next: Box<UntaggedField> },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum UntaggedOption {
    Next { next: Option<Box<UntaggedOption>> },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Flattened {
    id: u8,
    #[serde(flatten)]
    more: BTreeMap<String, Flattened>,
}

/// serde buffers the variant when it is written too.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct FlattenedVariant {
    id: u8,
    #[serde(flatten)]
    link: Link,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(crate) enum Link {
    End,
    Next { next: Box<FlattenedVariant> },
}

pub(crate) type Dynamic = JsonValue;
