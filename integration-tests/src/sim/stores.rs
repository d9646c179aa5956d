use std::sync::Arc;

use redis::{RedisError, aio::MultiplexedConnection};
use session_axum::MemoryStore;
use session_core::{Backend, StoreError, StoreErrorKind};
use session_redis::RedisStore;

use crate::harness::patience::{PATIENCE, redis_config};

/// The kind of store that histories are played on.
#[derive(Clone, Debug)]
pub(super) enum Stores {
    Memory,
    Redis(Redis),
}

/// A part of a Redis: the keys under a prefix.
#[derive(Clone, Debug)]
pub(super) struct Redis {
    url: String,
    prefix: String,
    connection: MultiplexedConnection,
}

impl Stores {
    /// Returns an empty store.
    pub(super) async fn empty(&self) -> Result<Arc<dyn Backend>, StoreError> {
        match self {
            Self::Memory => Ok(Arc::new(MemoryStore::default())),
            Self::Redis(redis) => {
                self.clear().await?;
                // Only the simulation may cause faults, so slow replies of the machine must not time
                // out.
                let config = redis_config(redis.url.as_str(), PATIENCE).with_prefix(&redis.prefix);
                let config = config.expect("the prefix is short");
                Ok(Arc::new(RedisStore::connect(config).await?))
            }
        }
    }

    /// Deletes the keys that histories left in a shared store.
    pub(super) async fn clear(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory => Ok(()),
            Self::Redis(redis) => redis.clear().await.map_err(unavailable),
        }
    }
}

impl Redis {
    pub(super) async fn connect(url: &str) -> Result<MultiplexedConnection, StoreError> {
        let client = redis::Client::open(url).map_err(unavailable)?;
        client.get_multiplexed_async_connection().await.map_err(unavailable)
    }

    pub(super) fn new(url: &str, prefix: String, connection: MultiplexedConnection) -> Self {
        Self { url: url.to_owned(), prefix, connection }
    }

    async fn clear(&self) -> Result<(), RedisError> {
        let mut connection = self.connection.clone();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
            if !keys.is_empty() {
                redis::cmd("DEL").arg(keys).query_async::<()>(&mut connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

fn unavailable(error: RedisError) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable).with_source(error)
}
