use std::sync::Arc;

use integration_tests::RedisServer;
use session_axum::{Backend, MemoryStore, SessionCookie, SessionLayer};

use super::patient_store;

/// Runs a check on memory, then on a Redis of its own.
pub(crate) async fn on_each_store(check: impl AsyncFn(&TestStore)) {
    check(&TestStore::Memory(Arc::default())).await;
    check(&TestStore::on_redis().await).await;
}

/// The store of a site with several servers.
pub(crate) enum TestStore {
    /// The servers share the memory of this process.
    Memory(Arc<MemoryStore>),
    /// Each server has its own connection.
    Redis(Box<RedisServer>),
}

impl TestStore {
    pub(crate) async fn on_redis() -> Self {
        Self::Redis(Box::new(RedisServer::start().await))
    }

    /// Opens the store for one more server.
    pub(crate) async fn open(&self) -> Arc<dyn Backend> {
        match self {
            Self::Memory(store) => Arc::<MemoryStore>::clone(store),
            Self::Redis(redis) => Arc::new(patient_store(redis).await),
        }
    }

    /// Returns the Redis, for a story about its outage.
    pub(crate) fn redis(&self) -> &RedisServer {
        match self {
            Self::Memory(_) => panic!("the store is in memory"),
            Self::Redis(redis) => redis,
        }
    }

    /// Returns the layer of one more server, with the cookie of a test.
    pub(crate) async fn layer(&self) -> SessionLayer {
        let cookie = SessionCookie::insecure_for_development();
        SessionLayer::new(self.open().await).with_cookie(cookie)
    }
}
