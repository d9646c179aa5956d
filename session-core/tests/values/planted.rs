//! Bytes that another writer left, nested far deeper than any value of ours.

use session_core::{Codec, Json, MessagePack, SessionError};

use crate::{
    Marked, World,
    deep::{Deep, Newtype, Transparent, for_each_deep_type},
    on_a_usual_stack,
};

/// Beginnings of one more level, and what may stand innermost.
const MESSAGE_PACK: ([&[u8]; 9], [&[u8]; 4]) = (
    [
        b"\x91",
        b"\x92\x01",
        b"\x81\xa1k",
        b"\x81\xa4next",
        b"\x81\xa4Next",
        b"\x81\xa4Next\x92\x01",
        b"\x82\xa4kind\xa4Next\xa4next",
        // These claim more elements than any bytes could hold.
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\xa1k",
    ],
    [b"", b"\xc0", b"\x01", b"\xa3End"],
);

const JSON: ([&[u8]; 7], [&[u8]; 4]) = (
    [
        b"[",
        b"[1,",
        br#"{"k":"#,
        br#"{"next":"#,
        br#"{"Next":"#,
        br#"{"Next":[1,"#,
        br#"{"kind":"Next","next":"#,
    ],
    [b"", b"null", b"1", br#""End""#],
);

#[test]
fn planted_levels_are_refused() {
    for_each_deep_type!(planted_levels_are_refused_by);
}

fn planted_levels_are_refused_by<T: Deep>() {
    on_a_usual_stack(|| {
        let world = World::new();
        planted_levels::<MessagePack, T>(&world, &MESSAGE_PACK.0, &MESSAGE_PACK.1);
        planted_levels::<Json, T>(&world, &JSON.0, &JSON.1);
    });
}

fn planted_levels<C: Codec<T> + Marked, T: Deep>(world: &World, levels: &[&[u8]], ends: &[&[u8]]) {
    for level in levels {
        for end in ends {
            for count in [99, 101, 1_000, 100_000] {
                let bytes = [&level.repeat(count), *end].concat();
                let read = world.read::<C, T>(&bytes);
                assert!(read.is_err() || count == 99, "{} through {}", T::NAME, C::NAME);
            }
        }
    }
}

/// A type that refers to itself through `Some` and a newtype alone takes no byte for a level.
#[test]
fn type_without_bytes_for_its_levels_is_refused() {
    on_a_usual_stack(|| {
        is_refused::<MessagePack, Newtype>(b"\x01");
        is_refused::<MessagePack, Transparent>(b"\x01");
        is_refused::<Json, Newtype>(b"1");
        is_refused::<Json, Transparent>(b"1");
    });
}

fn is_refused<C: Codec<T> + Marked, T: Deep>(bytes: &[u8]) {
    let error = World::new().read::<C, T>(bytes).unwrap_err();
    let SessionError::Decode { source, .. } = error else { panic!("another error: {error}") };
    assert!(source.to_string().contains("100 levels"), "{source}");
}
