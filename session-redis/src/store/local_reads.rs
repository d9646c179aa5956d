use std::time::Duration;

use session_core::{Entry, LocalReads, SessionKey, SessionStore as _, Timestamp};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    NearCache, RedisStore,
    near_cache::cache::{Found, NearCopies},
};

impl LocalReads for RedisStore {
    fn staleness(&self) -> Duration {
        self.tracking().copies().map_or(Duration::ZERO, NearCopies::staleness)
    }

    fn mark_lifetime(&self) -> Duration {
        self.tracking().copies().map_or(Duration::ZERO, |_| NearCache::MAX_STALENESS)
    }

    fn find(&self, key: &SessionKey, now: Timestamp) -> Option<Entry> {
        let copies = self.tracking().copies()?;
        let Found { entry, wants_proof } = copies.find(key, Instant::now().into_std(), now)?;
        if wants_proof && let Ok(runtime) = Handle::try_current() {
            // A read of the session and not a `PING`: a cluster node that has lost its keys still
            // answers `PING`.
            let (store, key) = (self.clone(), *key);
            runtime.spawn(async move {
                if let Err(error) = store.load(&key, now).await {
                    tracing::debug!(
                        target: "session", %error, session.id = %key, "copy not confirmed"
                    );
                }
            });
        }
        Some(entry)
    }
}
