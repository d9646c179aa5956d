#![doc = include_str!("../README.md")]

mod expiry;
mod hasher;
mod slot;
mod store;

pub use store::MemoryStore;
