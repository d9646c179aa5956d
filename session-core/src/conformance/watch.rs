//! Watches for connections that outlive their request. A store without watches passes.

use std::time::Duration;

use super::{fixture::*, report::Outcome};
use crate::{SessionKey, Timestamp, Watch, Watched};

/// `watch` returns the stored entry, as `load` does, and `None` for an empty key.
pub async fn watch_returns_the_entry(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let Watched { entry, .. } = store.watch(&key, now).await?;
    expect("watch", &entry, &Some(live(&record)))?;
    let Watched { entry, .. } = store.watch(&key, record.expires_at()).await?;
    expect("watch of an expired session", &entry, &None)?;
    let Watched { entry, .. } = store.watch(&fresh_key(), now).await?;
    expect("watch of an unused key", &entry, &None)
}

/// Each commit completes the watches of its key, also a commit that leaves a tombstone.
pub async fn commit_completes_watches(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let watches = [watch(&store, &key, now).await?, watch(&store, &key, now).await?];
    let second = next(&record, now);
    store.commit(&key, (&record).into(), live(&second), now).await?;
    for watch in watches {
        expect_completed("a commit", watch).await?;
    }
    let watch = watch(&store, &key, now).await?;
    store.commit(&key, (&second).into(), moved(&tombstone(&second, now)), now).await?;
    expect_completed("a commit of a tombstone", watch).await
}

/// Each deletion completes the watches of its key.
pub async fn delete_completes_watches(store: Store) -> Outcome {
    let now = now();
    let keys = [
        stored(&store, &session(now), now).await?,
        stored(&store, &session(now), now).await?,
        stored(&store, &session(now), now).await?,
    ];
    let [first, second, third] = keys;
    let watching = watch(&store, &first, now).await?;
    store.delete(&first, now).await?;
    expect_completed("delete", watching).await?;
    let watches = [watch(&store, &second, now).await?, watch(&store, &third, now).await?];
    store.delete_or_block(&[second, third], marker(now), now).await?;
    for watch in watches {
        expect_completed("delete_or_block", watch).await?;
    }
    Ok(())
}

async fn watch(
    store: &Store,
    key: &SessionKey,
    now: Timestamp,
) -> Result<Option<Watch>, super::Violation> {
    Ok(store.watch(key, now).await?.watch)
}

/// Checks that a watch, if the store has one, completes.
async fn expect_completed(what: &str, watch: Option<Watch>) -> Outcome {
    let Some(watch) = watch else { return Ok(()) };
    let completed = tokio::time::timeout(PATIENCE, watch).await;
    ensure(completed.is_ok(), || format!("the watch of a key missed {what}"))
}

/// The time for a report, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
