#![doc = include_str!("../README.md")]

mod config;
mod credentials;
mod error;
mod health;
mod info;
mod near_cache;
mod server_error;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod transport;

#[cfg(feature = "near-cache")]
#[doc(hidden)]
pub use near_cache::cache;
#[cfg(feature = "near-cache")]
pub use near_cache::{NearCache, NearCacheStats};
pub use {
    config::RedisConfig,
    credentials::{Credentials, CredentialsProvider},
    health::{EvictionPolicy, Health, NodeHealth, Role, Software},
    store::RedisStore,
    transport::{Circuit, RedisState},
};

#[doc = include_str!("../OPERATING.md")]
pub mod operating {}

#[doc = include_str!("../MANAGED.md")]
pub mod managed {}
