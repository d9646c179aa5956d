use std::time::{Duration, Instant};

use super::{fixture::*, report::Outcome};
use crate::{Committed, Touched};

/// An expired session is missing, even if the store still holds it.
pub async fn expired_session_is_missing_for_load(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    expect_stored(&store, &key, now + 2 * HOUR, None).await
}

/// A commit leaves an expired session expired (I2).
pub async fn expired_session_is_missing_for_commit(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let late = now + 2 * HOUR;
    for revision in [record.revision, record.revision.next()] {
        let answer =
            store.commit(&key, at(revision, &record), live(&next(&record, late)), late).await?;
        expect("commit after expiry", &answer, &Committed::Gone)?;
    }
    expect_stored(&store, &key, late, None).await
}

/// A touch leaves an expired session expired (I2).
pub async fn expired_session_is_missing_for_touch(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    let late = now + 2 * HOUR;
    let answer = store.touch(&key, late).await?;
    expect("touch after expiry", &answer, &Touched::Gone)?;
    expect_stored(&store, &key, late, None).await
}

/// An expired session is deleted, and the answer is `None`.
pub async fn expired_session_is_missing_for_delete(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    let late = now + 2 * HOUR;
    let answer = store.delete(&key, late).await?;
    expect("delete after expiry", &answer, &None)?;
    expect_stored(&store, &key, now, None).await
}

/// An expired tombstone is missing for every verb.
pub async fn expired_tombstone_is_missing(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let tombstone = tombstone(&record, now);
    let key = stored(&store, &record, now).await?;
    store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
    let late = tombstone.expires_at;
    expect_stored(&store, &key, late, None).await?;
    for revision in [record.revision, tombstone.revision] {
        let answer =
            store.commit(&key, at(revision, &record), live(&next(&record, late)), late).await?;
        expect("commit after expiry", &answer, &Committed::Gone)?;
    }
    expect("touch", &store.touch(&key, late).await?, &Touched::Gone)?;
    expect("delete", &store.delete(&key, late).await?, &None)
}

/// A record past its deadline can be stored, and is missing immediately.
pub async fn session_stored_after_its_deadline_is_missing(store: Store) -> Outcome {
    let now = now();
    let old = session(before(now, 2 * HOUR));
    let key = fresh_key();
    store.create(&key, live(&old), now).await?;
    expect_stored(&store, &key, now, None).await?;

    let record = session(before(now, 20 * MINUTE));
    let key = stored(&store, &record, now).await?;
    let mut over = next(&record, now);
    over.lifetime = lifetime(10 * MINUTE, 10 * MINUTE);
    let answer = store.commit(&key, (&record).into(), live(&over), now).await?;
    expect("commit", &answer, &Committed::Committed)?;
    expect_stored(&store, &key, now, None).await?;
    expect("touch", &store.touch(&key, now).await?, &Touched::Gone)
}

/// A session expires at its deadline, to the millisecond.
pub async fn deadline_is_exact_to_the_millisecond(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    record.lifetime = lifetime(HOUR + 7 * MILLISECOND, 24 * HOUR);
    let end = now + HOUR + 7 * MILLISECOND;
    let last = before(end, MILLISECOND);
    let late = live(&next(&record, end));

    let key = stored(&store, &record, now).await?;
    expect_stored(&store, &key, last, Some(live(&record))).await?;
    expect_stored(&store, &key, end, None).await?;
    let answer = store.commit(&key, (&record).into(), late, end).await?;
    expect("commit at the deadline", &answer, &Committed::Gone)?;

    let key = stored(&store, &record, now).await?;
    expect("touch at the end", &store.touch(&key, end).await?, &Touched::Gone)?;
    let key = stored(&store, &record, now).await?;
    let answer = store.touch(&key, last).await?;
    expect("touch just before the end", &answer, &Touched::Touched)
}

/// A lifetime may have a fraction of a second.
pub async fn lifetime_of_half_a_second_is_kept(store: Store) -> Outcome {
    // A store may apply the lifetime in real time, so a slow machine can disturb this case: it
    // tries again.
    for _ in 0..20 {
        let began = Instant::now();
        let now = now();
        let mut record = session(now);
        record.lifetime = lifetime(Duration::from_millis(500), HOUR);
        let key = stored(&store, &record, now).await?;
        let last = store.load(&key, now + Duration::from_millis(499)).await?;
        let over = store.load(&key, now + Duration::from_millis(500)).await?;
        if began.elapsed() < Duration::from_millis(400) {
            expect("load before the end", &last, &Some(live(&record)))?;
            return expect("load at the end", &over, &None);
        }
    }
    ensure(false, || "in 20 attempts no two commands were answered within 400 ms".to_owned())
}

/// A session can be stored in its last millisecond: the remaining time is never rounded to zero.
pub async fn session_is_stored_in_its_last_millisecond(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    record.lifetime = lifetime(MILLISECOND, HOUR);
    let key = stored(&store, &record, now).await?;
    expect_stored(&store, &key, now + MILLISECOND, None).await?;

    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let last = before(now + HOUR, MILLISECOND);
    let mut late = next(&record, now);
    late.last_seen_at = now;
    let answer = store.commit(&key, (&record).into(), live(&late), last).await?;
    expect("commit in the last millisecond", &answer, &Committed::Committed)?;
    expect_stored(&store, &key, now + HOUR, None).await
}
