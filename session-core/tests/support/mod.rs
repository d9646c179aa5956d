//! Stores, clocks and helpers shared by the integration tests.

#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]

#[path = "../../examples/map_store/store.rs"]
mod map_store;
mod probe;
mod steps;
mod world;

pub(crate) use map_store::MapStore;
pub(crate) use probe::{Peek, Probe, probe};
pub(crate) use session_core::testing::{Fault, Verb};
pub(crate) use steps::{Look, StepClock, Steps, interleavings, run, steps, turn};
pub(crate) use world::{
    CLOSING, DAY, HOUR, MILLISECOND, MINUTE, MOVES, Move, NOTE, SECOND, TOKEN, VISITS, World,
    all_bytes_of, finish, keys, kinds, sign_in, told,
};
