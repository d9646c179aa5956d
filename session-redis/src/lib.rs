#![doc = include_str!("../README.md")]

mod access;
mod breaker;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod connection;
#[cfg(feature = "near-cache")]
#[doc(hidden)]
pub mod copies;
mod error;
mod failure;
mod gathering;
mod health;
mod key;
mod line;
#[cfg(feature = "near-cache")]
mod near_cache;
mod node;
mod owner_index;
mod repetition;
mod revocations;
mod script;
#[cfg(feature = "sentinel")]
mod sentinel;
#[cfg(feature = "cluster")]
mod slot;
mod store;
#[cfg(feature = "cluster")]
mod topology;
mod tracking;
mod watch;
mod wire;

#[cfg(feature = "near-cache")]
pub use near_cache::{NearCache, NearCacheStats};
pub use {
    breaker::{Circuit, RedisState},
    config::RedisConfig,
    health::{EvictionPolicy, Health, NodeHealth, Role},
    store::RedisStore,
};

#[doc = include_str!("../OPERATING.md")]
pub mod operating {}
