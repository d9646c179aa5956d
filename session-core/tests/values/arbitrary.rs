//! Arbitrary bytes as values of types that refer to themselves: they are read or refused.

use proptest::{collection::vec, prelude::*};
use session_core::{Codec, Json, MessagePack};

use crate::{
    deep::{Deep, for_each_deep_type},
    on_a_usual_stack,
};

/// Pieces of which the formats are made.
const PIECES: [&[u8]; 22] = [
    b"\x91",
    b"\x92",
    b"\x81",
    b"\x82",
    b"\xc0",
    b"\x01",
    b"\xc4\x01\x00",
    b"\xd4\x01\x02",
    b"\xdc\xff\xff",
    b"\xa1k",
    b"\xa4next",
    b"\xa4Next",
    b"\xa3End",
    b"\xa4kind",
    b"[",
    b"]",
    b"{",
    b"}",
    b"\"next\":",
    b"\"Next\":",
    b"null",
    b"1",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec((piece, prop_oneof![4 => Just(1), 1 => 1..300_usize]), 0..30)
        .prop_map(|pieces| pieces.into_iter().flat_map(|(piece, n)| piece.repeat(n)).collect())
}

#[test]
fn arbitrary_bytes_are_read_or_refused() {
    for_each_deep_type!(arbitrary_bytes_of);
}

fn arbitrary_bytes_of<T: Deep>() {
    on_a_usual_stack(|| {
        proptest!(ProptestConfig::with_cases(300), |(bytes in bytes())| {
            let _ = <MessagePack as Codec<T>>::decode(&bytes);
            let _ = <Json as Codec<T>>::decode(&bytes);
        });
    });
}
