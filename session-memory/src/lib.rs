#![doc = include_str!("../README.md")]

mod owner_index;
mod owners;
mod pace;
mod session;
mod store;
pub mod table;

pub use store::MemoryStore;
