#![doc = include_str!("../README.md")]

mod expiry;
mod hasher;
mod owner_index;
mod owners;
mod slot;
mod slots;
mod store;

pub use store::MemoryStore;
