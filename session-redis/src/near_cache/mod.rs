//! Sessions kept in this process, for as long as Redis confirms them.
//!
//! The transport connects, and reports what it reads to a [`Tracking`]. Without the feature, or where
//! no cache is configured, that records nothing.

#[cfg(feature = "near-cache")]
pub mod cache;
#[cfg(not(feature = "near-cache"))]
mod disabled;
#[cfg(feature = "near-cache")]
mod freshness;
#[cfg(feature = "near-cache")]
mod settings;
#[cfg(feature = "near-cache")]
mod tracking;

#[cfg(not(feature = "near-cache"))]
pub(crate) use disabled::{ReadOrigin, Tracked, Tracking};
#[cfg(feature = "near-cache")]
pub use settings::{NearCache, NearCacheStats};
#[cfg(feature = "near-cache")]
pub(crate) use tracking::{ReadOrigin, Tracked, Tracking};
