//! Copies, of a store that keeps some. One that keeps none passes.

use super::{fixture::*, report::Outcome};
use crate::{Entry, SessionKey, Timestamp};

/// A copy is one of what is there, and of nothing there is none.
pub async fn copies_are_of_what_was_stored(store: Store) -> Outcome {
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

/// Whoever changed a session through this store never sees it as it was before.
pub async fn copies_are_no_older_than_what_this_store_has_changed(store: Store) -> Outcome {
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
    store.end_many(&[key], moved(&tombstone), now).await?;
    expect_copy(&store, &key, now, None)
}

/// A copy ends when the session does, whoever else knows.
pub async fn copies_end_at_their_deadline(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    store.load(&key, now).await?;
    let end = record.expires_at();
    expect_copy(&store, &key, before(end, MILLISECOND), Some(live(&record)))?;
    expect_copy(&store, &key, end, None)
}

fn copy(store: &Store, key: &SessionKey, now: Timestamp) -> Option<Entry> {
    (**store).copies()?.find(key, now)
}

/// Checks that there is no copy, or this one.
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
