use std::convert::Infallible;

use redis::{ConnectionAddr, PushInfo, RedisError};
use session_core::{Entry, SessionKey};
use tokio::time::Instant;

#[derive(Clone, Default)]
pub(crate) struct Tracking(());

impl Tracking {
    pub(crate) fn begin(&self) -> Option<(Tracked, Listener)> {
        None
    }

    pub(crate) fn complain(&self, _: &ConnectionAddr, _: &RedisError) {}

    pub(crate) fn fetch(&self, _: &SessionKey) -> Fetch {
        Fetch
    }

    pub(crate) fn changing(&self, _: &[SessionKey]) -> Changing {
        Changing
    }

    pub(crate) fn ending(&self, _: &[SessionKey]) -> Changing {
        Changing
    }

    pub(crate) fn forget(&self, _: &SessionKey) {}
}

type Listener = fn(PushInfo) -> Result<(), Infallible>;

#[derive(Clone, Default)]
pub(crate) struct Tracked(());

impl Tracked {
    pub(crate) fn seen(&self) -> ReadOrigin {
        ReadOrigin(())
    }

    pub(crate) fn prove(&self, _: Instant) {}

    pub(crate) fn end(&self) {}

    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {}
}

#[derive(Default)]
pub(crate) struct ReadOrigin(());

pub(crate) struct Fetch;

impl Fetch {
    pub(crate) fn keep(self, _: &Entry, _: ReadOrigin) {}
}

pub(crate) struct Changing;
