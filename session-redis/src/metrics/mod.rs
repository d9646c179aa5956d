//! Metrics for operators, recorded through the facade crate `metrics`.
//!
//! Without the feature `metrics`, the types of `disabled` replace those of `enabled` and record
//! nothing. Each label has a bounded set of values: servers, commands, and types of errors. The
//! only text of a server in a label is the address of a cluster node.

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
