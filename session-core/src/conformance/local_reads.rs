//! Reads without I/O. A store without local reads passes.

use super::{fixture::*, report::Outcome};
use crate::{Entry, SessionKey, Timestamp};

/// A local read returns the stored entry, and `None` for an empty key.
pub async fn local_reads_return_stored_entries(store: Store) -> Outcome {
    let now = now();
    let nothing = fresh_key();
    store.load(&nothing, now).await?;
    expect("a copy of nothing", &copy(&store, &nothing, now), &None)?;
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    expect_copy(&store, &key, now, Some(live(&record)))?;
    expect("a copy of nothing", &copy(&store, &nothing, now), &None)
}

/// After a change through this store, a local read returns the changed entry or `None`.
pub async fn local_reads_see_this_stores_own_changes(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    let second = next(&record, now);
    store.commit(&key, (&record).into(), live(&second), now).await?;
    expect_copy(&store, &key, now, Some(live(&second)))?;

    store.load(&key, now).await?;
    let later = now + MINUTE;
    store.touch(&key, later).await?;
    let touched = second.seen(later);
    expect_copy(&store, &key, later, Some(live(&touched)))?;

    store.load(&key, later).await?;
    let tombstone = tombstone(&touched, later);
    store.commit(&key, (&touched).into(), moved(&tombstone), later).await?;
    expect_copy(&store, &key, later, Some(moved(&tombstone)))?;

    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    store.delete(&key, now).await?;
    expect_copy(&store, &key, now, None)?;

    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    store.delete_or_block(&[key], marker(now), now).await?;
    expect_copy(&store, &key, now, None)
}

/// A local read returns `None` from the session's deadline on.
pub async fn local_reads_end_at_their_deadline(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    let end = record.expires_at();
    expect_copy(&store, &key, before(end, MILLISECOND), Some(live(&record)))?;
    expect_copy(&store, &key, end, None)
}

fn copy(store: &Store, key: &SessionKey, now: Timestamp) -> Option<Entry> {
    (**store).local_reads()?.find(key, now)
}

/// Checks that a copy, if the store has one, is the expected entry.
fn expect_copy(
    store: &Store,
    key: &SessionKey,
    now: Timestamp,
    expected: Option<Entry>,
) -> Outcome {
    let found = copy(store, key, now);
    ensure(found.is_none() || found == expected, || {
        format!("a copy: expected {} or none, came {}", text(&expected), text(&found))
    })
}
