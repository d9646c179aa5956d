//! The places that a type takes in another one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Value, shapes::Table};

/// Tries a value in every position.
pub(crate) fn try_everywhere<T: Value + Clone>(table: &mut Table, name: &str, value: &T) {
    try_in_some(table, name, value);
    let value = || value.clone();
    table.try_in("newtype", name, &Newtype(value()));
    table.try_in("tuple", name, &(1_u8, value()));
    table.try_in(
        "map",
        name,
        &BTreeMap::from([("a".to_owned(), value()), (String::new(), value())]),
    );
    table.try_in("flattened", name, &FlattenedBare { id: 1, inner: value() });
    table.try_in(
        "flattened option",
        name,
        &FlattenedOption { inner: Some(Inner { value: value() }) },
    );
    table.try_in("external", name, &External::Newtype(value()));
    table.try_in("external field", name, &External::Struct { value: value() });
    table.try_in("internal", name, &Internal::Newtype(value()));
    table.try_in("adjacent", name, &Adjacent::Newtype(value()));
    table.try_in("adjacent tuple", name, &Adjacent::Tuple(1, value()));
    table.try_in("untagged field", name, &Untagged::Struct { id: 1, value: value() });
}

/// Tries a value in those positions that differ most.
pub(crate) fn try_in_some<T: Value + Clone>(table: &mut Table, name: &str, value: &T) {
    let value = || value.clone();
    table.try_in("bare", name, &value());
    table.try_in("option", name, &Some(value()));
    table.try_in("sequence", name, &vec![value(), value()]);
    table.try_in("flattened field", name, &Flattened { id: 1, inner: Inner { value: value() } });
    table.try_in("internal field", name, &Internal::Struct { value: value() });
    table.try_in("untagged", name, &Untagged::Newtype(value()));
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Newtype<T>(T);

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Inner<T> {
    value: T,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Flattened<T> {
    id: u8,
    #[serde(flatten)]
    inner: Inner<T>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct FlattenedBare<T> {
    id: u8,
    #[serde(flatten)]
    inner: T,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct FlattenedOption<T> {
    #[serde(flatten)]
    inner: Option<Inner<T>>,
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
enum External<T> {
    Newtype(T),
    Struct { value: T },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind")]
enum Internal<T> {
    Newtype(T),
    Struct { value: T },
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", content = "content")]
enum Adjacent<T> {
    Newtype(T),
    Tuple(u8, T),
}

#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
enum Untagged<T> {
    Newtype(T),
    Struct { id: u8, value: T },
}
