//! I8: the limit of sessions per owner.

mod concurrent;
mod dead_entries;
mod places;
mod policy;
