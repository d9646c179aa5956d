use super::{fixture::*, report::Outcome};
use crate::{Committed, Entry, Record, Touched};

/// A touch changes only the recorded last use.
pub async fn touch_moves_the_idle_deadline_and_nothing_else(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let later = now + 30 * MINUTE;
    let answer = store.touch(&key, later).await?;
    expect("touch", &answer, &Touched::Touched)?;
    let touched = record.seen(later);
    expect_stored(&store, &key, later, Some(live(&touched))).await?;
    let end = later + HOUR;
    let last = before(end, MILLISECOND);
    expect_stored(&store, &key, last, Some(live(&touched))).await?;
    // The other verbs return the same record.
    let other = at(record.revision.next(), &record);
    let answer = store.commit(&key, other, live(&next(&record, last)), last).await?;
    expect("commit at another revision", &answer, &Committed::Conflict(live(&touched)))?;
    let answer = store.delete(&key, last).await?;
    expect("delete", &answer, &Some(live(&touched)))?;

    let key = stored(&store, &record, now).await?;
    store.touch(&key, later).await?;
    expect_stored(&store, &key, end, None).await
}

/// A commit after a touch succeeds at the same revision.
pub async fn touch_keeps_the_revision(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let later = next(&record, now + MINUTE);
    let touched = now + 2 * MINUTE;
    store.touch(&key, touched).await?;
    let answer = store.commit(&key, (&record).into(), live(&later), touched).await?;
    expect("commit after touch", &answer, &Committed::Committed)?;
    // The store may keep either of the two recorded uses.
    let there = store.load(&key, touched).await?;
    let at = |last_seen_at| Some(live(&Record { last_seen_at, ..later.clone() }));
    ensure(there == at(later.last_seen_at) || there == at(touched), || {
        format!("after touch and commit came {}", text(&there))
    })
}

/// A later request may arrive first.
pub async fn touch_never_moves_back(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let latest = now + 30 * MINUTE;
    for at in [latest, now + 10 * MINUTE, now] {
        let answer = store.touch(&key, at).await?;
        expect("touch", &answer, &Touched::Touched)?;
        expect_stored(&store, &key, at, Some(live(&record.seen(latest)))).await?;
    }
    let end = latest + HOUR;
    let touched = Some(live(&record.seen(latest)));
    expect_stored(&store, &key, before(end, MILLISECOND), touched).await
}

/// A session in constant use expires at its absolute deadline.
pub async fn touch_never_passes_the_absolute_deadline(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    record.lifetime = lifetime(24 * HOUR, 24 * HOUR);
    let key = stored(&store, &record, now).await?;
    let later = now + 23 * HOUR;
    let answer = store.touch(&key, later).await?;
    expect("touch", &answer, &Touched::Touched)?;
    let end = now + 24 * HOUR;
    let touched = Some(live(&record.seen(later)));
    expect_stored(&store, &key, before(end, MILLISECOND), touched).await?;
    expect_stored(&store, &key, end, None).await
}

/// A touch uses the idle time of the stored record.
pub async fn touch_follows_the_lifetime_of_the_last_commit(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let mut shorter = next(&record, now);
    shorter.lifetime = lifetime(10 * MINUTE, 24 * HOUR);
    store.commit(&key, (&record).into(), live(&shorter), now).await?;
    let later = now + 5 * MINUTE;
    let answer = store.touch(&key, later).await?;
    expect("touch", &answer, &Touched::Touched)?;
    let end = later + 10 * MINUTE;
    let touched = Some(live(&shorter.seen(later)));
    expect_stored(&store, &key, before(end, MILLISECOND), touched).await?;
    expect_stored(&store, &key, end, None).await
}

/// A touch never creates a session.
pub async fn touch_stores_nothing_under_an_unused_key(store: Store) -> Outcome {
    let now = now();
    let key = fresh_key();
    expect("touch", &store.touch(&key, now).await?, &Touched::Gone)?;
    expect_stored(&store, &key, now, None).await
}

/// A deleted session stays deleted (I2).
pub async fn touch_stores_nothing_after_delete(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    store.delete(&key, now).await?;
    expect("touch", &store.touch(&key, now).await?, &Touched::Gone)?;
    expect_stored(&store, &key, now, None).await
}

/// A touch leaves the deadline of a tombstone as it is.
pub async fn touch_leaves_a_tombstone_as_it_is(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    for tombstone in [tombstone(&record, now), renewal(&record, now)] {
        let key = stored(&store, &record, now).await?;
        let tombstone: Entry = moved(&tombstone);
        store.commit(&key, (&record).into(), tombstone.clone(), now).await?;
        let later = now + MINUTE;
        expect("touch", &store.touch(&key, later).await?, &Touched::Gone)?;
        let end = tombstone.expires_at();
        expect_stored(&store, &key, before(end, MILLISECOND), Some(tombstone)).await?;
        expect_stored(&store, &key, end, None).await?;
    }
    Ok(())
}
