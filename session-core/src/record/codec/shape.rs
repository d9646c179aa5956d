//! The shape of a value: everything that serde reports of it except what its numbers and texts are.
//!
//! Two shapes are equal if they have the same parts at the same levels, in any order. Hash maps therefore
//! do not matter, nor do types that write a random nonce or the current time.
//!
//! ```text
//! encode:  levels, floats ◀── Shape::of(value)
//! check:                      Shape::of(value) = Shape::of(decode(bytes))
//! ```

use std::{cell::Cell, fmt};

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{LEVELS, TooDeep};
use crate::error::BoxError;

/// The shape of a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    /// The sum of the hashes of all parts.
    sum: u64,
    /// A float is NaN or infinite.
    pub(super) has_non_finite: bool,
}

impl Shape {
    /// Goes through a value. Fails if the value nests too deep, or cannot be serialized.
    #[inline]
    pub(super) fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, BoxError> {
        let (sum, has_non_finite) = (Cell::new(0), Cell::new(false));
        value.serialize(Walk {
            sum: &sum,
            has_non_finite: &has_non_finite,
            levels: LEVELS,
            is_key: false,
        })?;
        Ok(Self { sum: sum.get(), has_non_finite: has_non_finite.get() })
    }
}

/// Fails unless the decoded value has the shape of the one that was encoded.
#[inline]
pub(super) fn check<T: Serialize>(value: &T, decoded: &T) -> Result<(), BoxError> {
    if Shape::of(value)? == Shape::of(decoded)? {
        Ok(())
    } else {
        Err("its type reads another value from the bytes, such as `None` instead of `Some(None)`, or \
             another variant of an untagged enum"
            .into())
    }
}

/// A serializer that writes nothing.
#[derive(Clone, Copy)]
struct Walk<'a> {
    sum: &'a Cell<u64>,
    has_non_finite: &'a Cell<bool>,
    /// The levels that may still be opened.
    levels: u8,
    is_key: bool,
}

/// The kinds of parts.
#[derive(Clone, Copy)]
enum Part {
    Bool,
    I8,
    I16,
    I32,
    I64,
    I128,
    U8,
    U16,
    U32,
    U64,
    U128,
    F32,
    F64,
    Char,
    Str,
    Key,
    Bytes,
    None,
    Some,
    Unit,
    UnitStruct,
    UnitVariant,
    NewtypeStruct,
    NewtypeVariant,
    Seq,
    Tuple,
    TupleStruct,
    TupleVariant,
    Map,
    Struct,
    Field,
    StructVariant,
}

impl Walk<'_> {
    #[inline]
    fn add(self, part: Part, name: u64) {
        let place = u64::from(self.levels) << 8 | part as u64;
        self.sum.set(self.sum.get().wrapping_add(mixed(mixed(place) ^ name)));
    }

    #[inline]
    fn leaf(self, part: Part) -> Result<(), WalkError> {
        self.add(part, 0);
        Ok(())
    }

    #[inline]
    fn float(self, part: Part, is_finite: bool) -> Result<(), WalkError> {
        if !is_finite {
            self.has_non_finite.set(true);
        }
        self.leaf(part)
    }

    /// Adds a part that opens a level, and returns the walk inside of it.
    #[inline]
    fn open(self, part: Part, name: u64) -> Result<Self, WalkError> {
        self.add(part, name);
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels, is_key: false, ..self }),
            None => Err(WalkError::TooDeep),
        }
    }
}

#[inline]
fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ number >> 29
}

/// FNV-1a.
#[inline]
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[inline]
fn hash_variant(name: &str, index: u32) -> u64 {
    hash(name) ^ mixed(u64::from(index))
}

macro_rules! leaves {
    ($($method:ident($type:ty) $part:ident)*) => {$(
        #[inline]
        fn $method(self, _: $type) -> Result<(), WalkError> {
            self.leaf(Part::$part)
        }
    )*};
}

impl Serializer for Walk<'_> {
    type Ok = ();
    type Error = WalkError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    leaves! {
        serialize_bool(bool) Bool
        serialize_i8(i8) I8
        serialize_i16(i16) I16
        serialize_i32(i32) I32
        serialize_i64(i64) I64
        serialize_i128(i128) I128
        serialize_u8(u8) U8
        serialize_u16(u16) U16
        serialize_u32(u32) U32
        serialize_u64(u64) U64
        serialize_u128(u128) U128
        serialize_char(char) Char
        serialize_bytes(&[u8]) Bytes
        serialize_unit_struct(&'static str) UnitStruct
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), WalkError> {
        self.float(Part::F32, value.is_finite())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), WalkError> {
        self.float(Part::F64, value.is_finite())
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), WalkError> {
        if self.is_key {
            self.add(Part::Key, hash(value));
            return Ok(());
        }
        self.leaf(Part::Str)
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), WalkError> {
        if self.is_key {
            return self.serialize_str(&value.to_string());
        }
        self.leaf(Part::Str)
    }

    #[inline]
    fn serialize_none(self) -> Result<(), WalkError> {
        self.leaf(Part::None)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), WalkError> {
        self.leaf(Part::Unit)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), WalkError> {
        value.serialize(self.open(Part::Some, 0)?)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<(), WalkError> {
        self.add(Part::UnitVariant, hash_variant(variant, index));
        Ok(())
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), WalkError> {
        value.serialize(self.open(Part::NewtypeStruct, hash(name))?)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), WalkError> {
        value.serialize(self.open(Part::NewtypeVariant, hash_variant(variant, index))?)
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Self, WalkError> {
        self.open(Part::Seq, 0)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Self, WalkError> {
        self.open(Part::Tuple, 0)
    }

    #[inline]
    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self, WalkError> {
        self.open(Part::TupleStruct, hash(name))
    }

    /// Two levels: the variant and the sequence in it.
    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, WalkError> {
        self.open(Part::TupleVariant, hash_variant(variant, index))?.open(Part::Seq, 0)
    }

    #[inline]
    fn serialize_map(self, _: Option<usize>) -> Result<Self, WalkError> {
        self.open(Part::Map, 0)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self, WalkError> {
        self.open(Part::Struct, hash(name))
    }

    /// Two levels: the variant and the map in it.
    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, WalkError> {
        self.open(Part::StructVariant, hash_variant(variant, index))?.open(Part::Map, 0)
    }
}

macro_rules! elements {
    ($($trait:ident::$method:ident)*) => {$(
        impl $trait for Walk<'_> {
            type Ok = ();
            type Error = WalkError;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WalkError> {
                value.serialize(*self)
            }

            #[inline]
            fn end(self) -> Result<(), WalkError> {
                Ok(())
            }
        }
    )*};
}

elements! {
    SerializeSeq::serialize_element
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

impl SerializeMap for Walk<'_> {
    type Ok = ();
    type Error = WalkError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), WalkError> {
        key.serialize(Self { is_key: true, ..*self })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), WalkError> {
        value.serialize(*self)
    }

    #[inline]
    fn end(self) -> Result<(), WalkError> {
        Ok(())
    }
}

macro_rules! fields {
    ($($trait:ident)*) => {$(
        impl $trait for Walk<'_> {
            type Ok = ();
            type Error = WalkError;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), WalkError> {
                self.add(Part::Field, hash(name));
                value.serialize(*self)
            }

            #[inline]
            fn end(self) -> Result<(), WalkError> {
                Ok(())
            }
        }
    )*};
}

fields! {
    SerializeStruct
    SerializeStructVariant
}

/// Why a value has no shape.
#[derive(Debug)]
enum WalkError {
    TooDeep,
    /// The words of the type.
    Custom(Box<str>),
}

impl Error for WalkError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string().into())
    }
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => TooDeep.fmt(f),
            Self::Custom(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for WalkError {}
