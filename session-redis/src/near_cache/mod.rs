//! Copies of sessions in this process, usable for as long as Redis confirms them.
//!
//! [`Tracking`](crate::tracking::Tracking) reports the events of each connection to [`Copies`].
//! Without the feature, or without a configured cache, `Copies` holds nothing.

#[cfg(feature = "near-cache")]
pub mod cache;
#[cfg(feature = "near-cache")]
mod copies;
#[cfg(not(feature = "near-cache"))]
mod disabled;
#[cfg(feature = "near-cache")]
mod freshness;
#[cfg(feature = "near-cache")]
mod settings;

#[cfg(feature = "near-cache")]
pub(crate) use copies::{Changing, Copies, Fetch, Freshness, ReadOrigin};
#[cfg(not(feature = "near-cache"))]
pub(crate) use disabled::{Changing, Copies, Fetch, Freshness, ReadOrigin};
#[cfg(feature = "near-cache")]
pub use settings::{NearCache, NearCacheStats};
