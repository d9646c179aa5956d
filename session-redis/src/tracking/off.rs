use redis::{Client, RedisError};
use session_core::{Entry, SessionKey};
use tokio::time::Instant;

use crate::{RedisConfig, node::Limits, tracking::Link, wire::Wire};

#[derive(Clone, Default)]
pub(crate) struct Tracking(());

impl Tracking {
    pub(crate) fn of(_: &RedisConfig) -> Self {
        Self(())
    }

    pub(crate) async fn connect(
        &self,
        client: &Client,
        limits: Limits,
    ) -> Result<Link, RedisError> {
        Wire::connect(client, limits).await.map(Link::untracked)
    }

    pub(crate) fn fetch(&self, _: &SessionKey) -> Fetch {
        Fetch
    }

    pub(crate) fn changing(&self, _: &[SessionKey]) -> Changing {
        Changing
    }

    pub(crate) fn forget(&self, _: &SessionKey) {}
}

#[derive(Clone, Default)]
pub(crate) struct Tracked(());

impl Tracked {
    pub(crate) fn seen(&self) -> Seen {
        Seen(())
    }

    pub(crate) fn prove(&self, _: Instant) {}

    pub(crate) fn end(&self) {}

    #[cfg(feature = "cluster")]
    pub(crate) fn flush(&self) {}
}

#[derive(Default)]
pub(crate) struct Seen(());

pub(crate) struct Fetch;

impl Fetch {
    pub(crate) fn keep(self, _: &Entry, _: Seen) {}
}

pub(crate) struct Changing;
