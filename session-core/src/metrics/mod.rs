//! Metrics for operators, recorded through the facade crate `metrics`.
//!
//! Without the feature `metrics`, the types of `disabled` replace those of `enabled` and record
//! nothing. Each label has a bounded set of values, and holds neither a key nor an owner.

#[cfg(not(feature = "metrics"))]
mod disabled;
#[cfg(feature = "metrics")]
mod enabled;

#[cfg(all(feature = "axum", not(feature = "metrics")))]
pub(crate) use disabled::on_error_response;
#[cfg(not(feature = "metrics"))]
pub(crate) use disabled::{EventMetrics, Metrics};
#[cfg(all(feature = "axum", feature = "metrics"))]
pub(crate) use enabled::on_error_response;
#[cfg(feature = "metrics")]
pub(crate) use enabled::{EventMetrics, Metrics};

/// An operation with a measured duration.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Open,
    Commit,
    Destroy,
    List,
    Revoke,
}

/// The result of opening a request's session.
#[derive(Clone, Copy)]
pub(crate) enum OpenResult {
    /// The request came without a cookie of the session's name.
    None,
    Found,
    /// The cookie opens no session.
    Unknown,
    /// The cookie leads to a record that this version cannot read.
    Unreadable,
}
