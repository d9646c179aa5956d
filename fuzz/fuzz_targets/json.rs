#![no_main]

mod types;

use libfuzzer_sys::fuzz_target;
use session_core::Json;

fuzz_target!(|bytes: &[u8]| types::decode_all::<Json>(bytes));
