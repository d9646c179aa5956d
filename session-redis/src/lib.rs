#![doc = include_str!("../README.md")]

mod access;
mod check;
mod config;
mod connection;
mod error;
mod failure;
mod key;
mod node;
mod owner_index;
mod script;
#[cfg(feature = "sentinel")]
mod sentinel;
mod store;

pub use {config::RedisConfig, store::RedisStore};
