//! The protocol: what requests see and what is left, whatever the others do and the store says. The
//! numbers (I1 …) are those of the invariants.

#![allow(clippy::unwrap_used, reason = "a test may, and so may what it calls")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod budget;
mod cookies;
mod deadlines;
mod endings;
mod faults;
mod interleaved;
mod limits;
mod recording;
mod rotation;
mod secrets;
mod unknown_ids;
mod updates;
