#![doc = include_str!("../README.md")]

mod config;
mod connection;
mod error;
mod key;
mod owner_index;
mod script;
mod store;

pub use {config::RedisConfig, store::RedisStore};
