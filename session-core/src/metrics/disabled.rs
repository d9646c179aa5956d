use super::{OpenResult, Operation};

pub(crate) struct Metrics;

impl Metrics {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn measured<F: Future>(&self, _: Operation, running: F) -> F {
        running
    }

    pub(crate) fn on_open(&self, _: impl FnOnce() -> OpenResult) {}

    pub(crate) fn on_conflict(&self) {}

    pub(crate) fn on_unreadable_value(&self) {}
}

pub(crate) struct EventMetrics;

impl EventMetrics {
    pub(crate) fn new(_: &[&'static str]) -> Self {
        Self
    }

    pub(crate) fn on_event(&self, _: &'static str) {}
}

#[cfg(feature = "axum")]
pub(crate) fn on_error_response(_: http::StatusCode, _: &crate::SessionError) {}
