//! The promises I1 to I13 of the protocol, on a store that fails and interleaves as a test asks.

#![allow(clippy::unwrap_used, reason = "tests and their helpers may unwrap")]

#[path = "../support/mod.rs"]
mod support;

mod acting;
mod anonymous;
mod broken_moves;
mod budget;
mod clones;
mod concurrent_logins;
mod cookies;
mod copies;
mod deadlines;
mod double_click;
mod due_renewal;
mod endings;
mod ends;
mod events;
mod faults;
mod flashes;
mod freshness;
mod get_or_insert;
mod hijacking;
mod interleaved;
mod issued;
mod leaks;
mod limits;
mod links;
mod live;
mod lock;
mod login;
mod lost_ends;
mod overtaken;
mod owners;
mod realms;
mod reauthentication;
mod recording;
mod renewal;
mod reuse;
mod rotation;
mod secrets;
mod session_limit;
mod settings;
mod superseded_cookies;
mod take_once;
mod try_update;
mod unknown_ids;
mod unreadable_values;
mod updates;
