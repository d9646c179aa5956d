// The pages use relative links, for code hosts. If a link is defined twice, rustdoc uses the first
// definition.
//! [operating]: crate::operating
//! [user]: crate::operating#the-user-of-the-store
//! [managed]: crate::managed
//! [faults]: crate::faults
//! [results]: crate::results
//!
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod credentials;
mod error;
mod health;
mod info;
mod metrics;
mod near_cache;
mod server_error;
mod store;
#[cfg(feature = "tls")]
mod tls;
mod tracking;
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
    store::{Changes, RedisStore, Scan},
    transport::{Circuit, RedisState},
};

/// [operation]: crate::faults#repetitions
/// [faults]: crate::faults
/// [results]: crate::results
/// [managed]: crate::managed
/// [`ping`]: session_core::Sessions::ping
///
#[doc = include_str!("../OPERATING.md")]
pub mod operating {}

/// [health]: crate::operating#health
/// [credentials]: crate::operating#certificates-passwords-and-tokens
///
#[doc = include_str!("../MANAGED.md")]
pub mod managed {}

/// [circuit]: crate::operating#the-circuit-breaker
///
#[doc = include_str!("../FAULTS.md")]
pub mod faults {}

/// [managed]: crate::managed
/// [faults]: crate::faults#faults-that-were-tried
/// [operation]: crate::faults#repetitions
/// [operating]: crate::operating#how-large
///
#[doc = include_str!("../RESULTS.md")]
pub mod results {}
