//! Copies of sessions in this process, usable for as long as Redis confirms them.
//!
//! The transport reports the events of each connection to a [`Tracking`]. Without the feature, or
//! without a configured cache, `Tracking` records nothing.

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
