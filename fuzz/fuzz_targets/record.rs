//! The record around the values.

#![no_main]

use libfuzzer_sys::fuzz_target;
use session_core::Entry;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entry) = Entry::decode(bytes.to_vec()) else { return };
    let again = Entry::decode(entry.encode()).expect("a decoded entry can be encoded and decoded");
    assert!(again == entry);
});
