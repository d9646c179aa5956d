#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod index;
mod pace;
mod session;
mod session_index;
mod store;
pub mod table;

pub use store::MemoryStore;
