//! The protocol: the view of each request, and the content of the store, beside concurrent requests
//! and faults of the store. The numbers (I1 …) are those of the invariants.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may unwrap")]

#[path = "../support/mod.rs"]
mod support;

mod anonymous;
mod attacks;
mod budget;
mod clones;
mod cookies;
mod copies;
mod deadlines;
mod endings;
mod ends;
mod events;
mod faults;
mod freshness;
mod interleaved;
mod leaks;
mod limits;
mod lock;
mod lost_ends;
mod overtaken;
mod owners;
mod owners_interleaved;
mod recording;
mod replays;
mod rotation;
mod secrets;
mod session_limits;
mod settings;
mod two_keys;
mod unknown_ids;
mod updates;
