//! Metrics for operators, through the facade of the crate `metrics`.
//!
//! Without the feature `metrics` a twin of each type records nothing. Each label has a bounded set of values: servers,
//! commands, and kinds of errors. A server's text becomes a label only as the address of a cluster's node.

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod enabled;

#[cfg(all(not(feature = "metrics"), feature = "near-cache"))]
pub(crate) use disabled::NearCacheMetrics;
#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{
    CircuitMetrics, CommandMetrics, Operation, Raised, ServerLabels, WriteMetrics, describe,
    error_type, retried,
};
#[cfg(all(feature = "metrics", feature = "near-cache"))]
pub(crate) use enabled::NearCacheMetrics;
#[cfg(feature = "metrics")]
pub(crate) use enabled::{
    CircuitMetrics, CommandMetrics, Operation, Raised, ServerLabels, WriteMetrics, describe,
    error_type, retried,
};
