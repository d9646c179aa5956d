use std::{pin::pin, task::Poll};

use super::{fixture::*, report::Outcome};
use crate::{Committed, Revision};

/// At the stored revision, the new record replaces the old one.
pub async fn commit_replaces_a_session_at_its_revision(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    let key = stored(&store, &record, now).await?;
    for _ in 0..10 {
        let later = next(&record, now);
        let answer = store.commit(&key, (&record).into(), live(&later), now).await?;
        expect("commit at the revision", &answer, &Committed::Committed)?;
        expect_stored(&store, &key, now, Some(live(&later))).await?;
        record = later;
    }
    Ok(())
}

/// At any other revision the store stays unchanged, and the answer is the stored entry.
pub async fn commit_at_another_revision_returns_the_stored_entry(store: Store) -> Outcome {
    let now = now();
    let first = session(now);
    let key = stored(&store, &first, now).await?;
    let second = next(&first, now);
    let answer = store.commit(&key, (&first).into(), live(&second), now).await?;
    expect("commit at the revision", &answer, &Committed::Committed)?;
    for revision in [0, 1, 3, (1 << 48) - 1] {
        let answer = store
            .commit(&key, at(Revision(revision), &first), live(&next(&first, now)), now)
            .await?;
        expect("commit at another revision", &answer, &Committed::Conflict(live(&second)))?;
        expect_stored(&store, &key, now, Some(live(&second))).await?;
    }
    Ok(())
}

/// Two revisions with one different bit are different revisions.
pub async fn commit_compares_all_48_bits_of_the_revision(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    record.revision = Revision(0x0102_0304_0506);
    let key = stored(&store, &record, now).await?;
    for bit in 0..48 {
        let other = at(Revision(record.revision.0 ^ (1 << bit)), &record);
        let answer = store.commit(&key, other, live(&next(&record, now)), now).await?;
        expect("commit at another revision", &answer, &Committed::Conflict(live(&record)))?;
    }
    let last = Revision((1 << 48) - 1);
    for revision in [last, last.next()] {
        let mut later = next(&record, now);
        later.revision = revision;
        let answer = store.commit(&key, (&record).into(), live(&later), now).await?;
        expect("commit at the revision", &answer, &Committed::Committed)?;
        record = later;
    }
    Ok(())
}

/// After a failover to a replica without the last commits, revisions repeat.
pub async fn commit_compares_the_nonce(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let (lost, kept) = (next(&record, now), next(&record, now));
    let answer = store.commit(&key, (&record).into(), live(&kept), now).await?;
    expect("commit at the revision", &answer, &Committed::Committed)?;
    let answer = store.commit(&key, (&lost).into(), live(&next(&lost, now)), now).await?;
    expect("commit on another record", &answer, &Committed::Conflict(live(&kept)))?;
    expect_stored(&store, &key, now, Some(live(&kept))).await
}

/// A commit never creates a session.
pub async fn commit_stores_nothing_under_an_unused_key(store: Store) -> Outcome {
    let now = now();
    for revision in [0, 1, 2] {
        let key = fresh_key();
        let session = session(now);
        let expected = at(Revision(revision), &session);
        let answer = store.commit(&key, expected, live(&session), now).await?;
        expect("commit on nothing", &answer, &Committed::Gone)?;
        expect_stored(&store, &key, now, None).await?;
    }
    Ok(())
}

/// A deleted session stays deleted (I2).
pub async fn commit_stores_nothing_after_delete(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    store.delete(&key, now).await?;
    for entry in [live(&next(&record, now)), moved(&tombstone(&record, now))] {
        let answer = store.commit(&key, (&record).into(), entry, now).await?;
        expect("commit after delete", &answer, &Committed::Gone)?;
        expect_stored(&store, &key, now, None).await?;
    }
    Ok(())
}

/// A session can move to another key (I4).
pub async fn commit_may_leave_a_tombstone(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let tombstone = tombstone(&record, now);
    let other = at(Revision(record.revision.0 + 1), &record);
    let answer = store.commit(&key, other, moved(&tombstone), now).await?;
    expect(
        "commit of a tombstone at another revision",
        &answer,
        &Committed::Conflict(live(&record)),
    )?;
    let answer = store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
    expect("commit of a tombstone", &answer, &Committed::Committed)?;
    // The tombstone has its own deadline.
    let last = before(tombstone.expires_at, MILLISECOND);
    expect_stored(&store, &key, last, Some(moved(&tombstone))).await?;
    expect_stored(&store, &key, tombstone.expires_at, None).await
}

/// A tombstone stays, even if a commit expects its revision.
pub async fn tombstone_answers_conflict_to_every_commit(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    for tombstone in [tombstone(&record, now), renewal(&record, now)] {
        let key = stored(&store, &record, now).await?;
        let answer = store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
        expect("commit of a tombstone", &answer, &Committed::Committed)?;
        for revision in [record.revision, tombstone.revision, tombstone.revision.next()] {
            for entry in [live(&next(&record, now)), moved(&renewal(&record, now))] {
                let answer = store.commit(&key, at(revision, &record), entry, now).await?;
                expect("commit on a tombstone", &answer, &Committed::Conflict(moved(&tombstone)))?;
            }
        }
        expect_stored(&store, &key, now, Some(moved(&tombstone))).await?;
    }
    Ok(())
}

/// The store computes the deadline from the new record.
pub async fn commit_may_shorten_the_lifetime(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    for (idle, absolute) in [(10 * MINUTE, 24 * HOUR), (10 * MINUTE, 10 * MINUTE)] {
        let key = stored(&store, &record, now).await?;
        let mut shorter = next(&record, now);
        shorter.lifetime = lifetime(idle, absolute);
        let answer = store.commit(&key, (&record).into(), live(&shorter), now).await?;
        expect("commit", &answer, &Committed::Committed)?;
        let end = now + 10 * MINUTE;
        expect_stored(&store, &key, before(end, MILLISECOND), Some(live(&shorter))).await?;
        expect_stored(&store, &key, end, None).await?;
    }
    Ok(())
}

/// The store computes the deadline from the new record.
pub async fn commit_may_lengthen_the_lifetime(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let mut longer = next(&record, now);
    longer.lifetime = lifetime(100 * HOUR, 200 * HOUR);
    let answer = store.commit(&key, (&record).into(), live(&longer), now).await?;
    expect("commit", &answer, &Committed::Committed)?;
    let end = now + 100 * HOUR;
    expect_stored(&store, &key, before(end, MILLISECOND), Some(live(&longer))).await?;
    expect_stored(&store, &key, end, None).await
}

/// A future dropped halfway leaves the old record or the new one.
pub async fn dropped_commit_is_done_or_not_done(store: Store) -> Outcome {
    let now = now();
    for _ in 0..8 {
        let record = session(now);
        let key = stored(&store, &record, now).await?;
        let later = next(&record, now);
        {
            let mut commit = pin!(store.commit(&key, (&record).into(), live(&later), now));
            std::future::poll_fn(|cx| {
                let _ = commit.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        let there = store.load(&key, now).await?;
        ensure(there == Some(live(&record)) || there == Some(live(&later)), || {
            format!("after a dropped commit came {}", text(&there))
        })?;
    }
    Ok(())
}
