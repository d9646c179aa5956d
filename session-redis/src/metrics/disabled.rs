use redis::{Cmd, ConnectionAddr, RedisError};
use tokio::time::Instant;

pub(crate) fn describe() {}

pub(crate) fn retried(_: &'static str) {}

pub(crate) fn error_type(_: &RedisError) -> &'static str {
    ""
}

#[derive(Clone)]
pub(crate) struct ServerLabels;

impl ServerLabels {
    pub(crate) fn of(_: &ConnectionAddr) -> Self {
        Self
    }

    #[cfg(any(test, feature = "sentinel"))]
    pub(crate) fn named(_: &str) -> Self {
        Self
    }

    pub(crate) fn on_attempt(&self, _: Instant) -> Attempt {
        Attempt
    }

    pub(crate) fn on_open(&self) -> Raised {
        Raised
    }
}

pub(crate) struct Attempt;

impl Attempt {
    pub(crate) fn end(self, _: Option<&RedisError>) {}
}

pub(crate) struct Raised;

#[derive(Clone, Copy)]
pub(crate) struct Operation;

impl Operation {
    pub(crate) const PIPELINE: Self = Self;

    pub(crate) fn of(_: &Cmd) -> Self {
        Self
    }
}

pub(crate) struct CommandMetrics;

impl CommandMetrics {
    pub(crate) fn new(_: ServerLabels) -> Self {
        Self
    }

    pub(crate) fn on_end(&self, _: Operation, _: Instant, _: Option<&'static str>) {}
}

#[derive(Default)]
pub(crate) struct WriteMetrics(());

impl WriteMetrics {
    pub(crate) fn new(_: &ServerLabels) -> Self {
        Self(())
    }

    pub(crate) fn on_write(&self) {}
}

pub(crate) struct CircuitMetrics;

impl CircuitMetrics {
    pub(crate) fn new(_: &ServerLabels) -> Self {
        Self
    }

    pub(crate) fn on_open(&self) -> Raised {
        Raised
    }

    pub(crate) fn on_close(&self) {}
}

#[cfg(feature = "near-cache")]
pub(crate) struct NearCacheMetrics;

#[cfg(feature = "near-cache")]
impl NearCacheMetrics {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn on_find(&self, _: bool) {}

    pub(crate) fn on_invalidation(&self) {}

    pub(crate) fn on_flush(&self) {}

    pub(crate) fn on_entries(&self, _: impl FnOnce() -> usize) {}
}
