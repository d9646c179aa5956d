//! The promises of the verbs on many keys of a [`SessionStore`](crate::SessionStore).

use std::sync::Arc;

use super::{
    fixture::*,
    report::{Outcome, Violation},
};
use crate::{
    Committed, Created, Ended, Entry, Expected, Record, Revision, SessionKey, Timestamp, Tombstone,
};

/// Each key has one answer, in the order of the keys, for any number of keys.
pub async fn load_many_answers_in_the_order_of_the_keys(store: Store) -> Outcome {
    let now = now();
    expect_loaded(&store, &[], now).await?;
    let mut keys = Vec::new();
    for number in 0..MANY {
        keys.push(match number % 5 {
            0 => fresh_key(),
            1 => bury(&store, now).await?.0,
            _ => stored(&store, &session(now), now).await?,
        });
    }
    expect_loaded(&store, &keys, now).await?;
    // At this time the sessions have expired, for both verbs.
    expect_loaded(&store, &keys, now + HOUR).await
}

/// An unreadable record is an error of its own key: all other records are loaded.
pub async fn load_many_reports_an_unreadable_record_alone(store: Store) -> Outcome {
    let now = now();
    let (record, unreadable) = (session(now), unreadable(now));
    let mut keys = Vec::new();
    for record in [&record, &unreadable, &record] {
        keys.push(stored(&store, record, now).await?);
    }
    let loaded = store.load_many(&keys, now).await?;
    expect("the number of answers", &loaded.len(), &keys.len())?;
    for (number, answer) in loaded.into_iter().enumerate() {
        if number == 1 {
            expect_unreadable("load_many", &answer, &unreadable)?;
        } else {
            expect("load_many", &answer?, &Some(live(&record)))?;
        }
    }
    Ok(())
}

/// Sessions are deleted, tombstones stay and are returned, and an empty key is blocked.
pub async fn delete_or_block_deletes_sessions_and_blocks_keys(store: Store) -> Outcome {
    let now = now();
    let (moved_key, tombstone) = bury(&store, now).await?;
    let record = session(now);
    let session_key = stored(&store, &record, now).await?;
    let (empty, other) = (fresh_key(), stored(&store, &session(now), now).await?);
    let marker = marker(now);
    let answers =
        store.delete_or_block(&[moved_key, session_key, empty], marker.clone(), now).await?;
    let returned = Ended::Tombstone(Arc::new(tombstone.clone()));
    expect("delete_or_block", &answers, &vec![returned, ended(record), Ended::Blocked])?;

    expect_stored(&store, &session_key, now, None).await?;
    expect_stored(&store, &moved_key, now, Some(moved(&tombstone))).await?;
    expect_stored(&store, &empty, now, Some(moved(&marker))).await?;
    ensure(store.load(&other, now).await?.is_some(), || "another session is gone".to_owned())?;

    let answer = store.create(&empty, live(&session(now)), now).await?;
    expect("create under a key that was blocked", &answer, &Created::Exists)?;
    let answer =
        store.commit(&empty, at(Revision(0), &session(now)), live(&session(now)), now).await?;
    expect("commit under a key that was blocked", &answer, &Committed::Conflict(moved(&marker)))?;
    let answers = store.delete_or_block(&[empty], self::marker(now), now).await?;
    expect("delete_or_block again", &answers, &vec![Ended::Tombstone(Arc::new(marker))])?;
    expect_stored(&store, &empty, now + 5 * MINUTE, None).await
}

/// Each key has one answer, in the order of the keys, for any number of keys.
pub async fn delete_or_block_reaches_every_key(store: Store) -> Outcome {
    let now = now();
    let mut keys = Vec::new();
    let mut answers = Vec::new();
    for number in 0..MANY {
        if number % 3 == 0 {
            keys.push(fresh_key());
            answers.push(Ended::Blocked);
        } else {
            let record = session(now);
            keys.push(stored(&store, &record, now).await?);
            answers.push(ended(record));
        }
    }
    let marker = marker(now);
    let came = store.delete_or_block(&keys, marker.clone(), now).await?;
    expect("delete_or_block", &came, &answers)?;
    for (number, entry) in store.load_many(&keys, now).await?.into_iter().enumerate() {
        let left = (number % 3 == 0).then(|| moved(&marker));
        expect("what is left", &entry?, &left)?;
    }
    expect("none", &store.delete_or_block(&[], marker, now).await?, &Vec::new())
}

/// A version can delete a session that it cannot read.
pub async fn delete_or_block_deletes_an_unreadable_record(store: Store) -> Outcome {
    let now = now();
    let mut keys = Vec::new();
    for record in [session(now), unreadable(now), session(now)] {
        keys.push(stored(&store, &record, now).await?);
    }
    let answers = store.delete_or_block(&keys, marker(now), now).await?;
    expect("the sessions that were deleted", &sessions(&answers), &keys.len())?;
    for key in keys {
        expect_stored(&store, &key, now, None).await?;
    }
    Ok(())
}

/// An expired session counts as missing.
pub async fn delete_or_block_blocks_expired_keys(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    let later = now + HOUR;
    let marker = marker(later);
    let answers = store.delete_or_block(&[key], marker.clone(), later).await?;
    expect("delete_or_block", &answers, &vec![Ended::Blocked])?;
    expect_stored(&store, &key, later, Some(moved(&marker))).await
}

/// In any order of the two verbs, the session is deleted or never created (I8).
pub async fn delete_or_block_beside_create_leaves_nothing(store: Store) -> Outcome {
    for round in 0..ROUNDS {
        let (now, key) = (now(), fresh_key());
        let create = {
            let (store, record) = (Arc::clone(&store), session(now));
            async move { store.create(&key, live(&record), now).await }
        };
        let end = {
            let store = Arc::clone(&store);
            async move { store.delete_or_block(&[key], marker(now), now).await }
        };
        let (created, ended) = match round % 3 {
            0 => {
                let create = tokio::spawn(create);
                let end = tokio::spawn(end);
                (joined(create).await?, joined(end).await?)
            }
            1 => {
                let end = tokio::spawn(end);
                let create = tokio::spawn(create);
                (joined(create).await?, joined(end).await?)
            }
            // Both verbs by turns, on one thread.
            _ => {
                let (ended, created) = futures_util::future::join(end, create).await;
                (created?, ended?)
            }
        };
        let is_created = created == Created::Created;
        expect("the sessions that were deleted", &sessions(&ended), &usize::from(is_created))?;
        let left = store.load(&key, now).await?;
        ensure(!matches!(left, Some(Entry::Session(_))), || "a session lives on".to_owned())?;
    }
    Ok(())
}

/// In any order of the verbs, a deleted session stays deleted (I2).
pub async fn delete_or_block_beside_commit_leaves_nothing(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let record = session(now);
        let key = stored(&store, &record, now).await?;
        let mut tasks = Vec::new();
        for _ in 0..REQUESTS / 2 {
            let (store, later) = (Arc::clone(&store), next(&record, now));
            let expected = Expected::from(&record);
            tasks.push(tokio::spawn(async move {
                store.commit(&key, expected, live(&later), now).await.map(drop)
            }));
        }
        let end = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.delete_or_block(&[key], marker(now), now).await })
        };
        for task in tasks {
            joined(task).await?;
        }
        expect("the sessions that were deleted", &sessions(&joined(end).await?), &1)?;
        expect_stored(&store, &key, now, None).await?;
    }
    Ok(())
}

/// Of n concurrent calls, one reports the session.
pub async fn one_of_n_delete_or_blocks_deletes(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let key = stored(&store, &session(now), now).await?;
        let tasks: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.delete_or_block(&[key], marker(now), now).await })
            })
            .collect();
        let mut ended = 0;
        for task in tasks {
            ended += sessions(&joined(task).await?);
        }
        expect("the calls that report the session", &ended, &1)?;
    }
    Ok(())
}

/// Stores a tombstone under a fresh key.
async fn bury(store: &Store, now: Timestamp) -> Result<(SessionKey, Tombstone), Violation> {
    let record = session(now);
    let key = stored(store, &record, now).await?;
    let tombstone = tombstone(&record, now);
    let answer = store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
    expect("commit of a tombstone", &answer, &Committed::Committed)?;
    Ok((key, tombstone))
}

/// Returns the answer for a session that can be read.
fn ended(record: Record) -> Ended {
    Ended::Session(Some(Arc::new(record)))
}

/// Returns the number of sessions that a call has deleted.
fn sessions(answers: &[Ended]) -> usize {
    answers.iter().filter(|answer| matches!(answer, Ended::Session(_))).count()
}

async fn expect_loaded(store: &Store, keys: &[SessionKey], now: Timestamp) -> Outcome {
    let loaded = store.load_many(keys, now).await?;
    expect("the number of answers", &loaded.len(), &keys.len())?;
    for (key, entry) in keys.iter().zip(loaded) {
        expect("load_many", &entry?, &store.load(key, now).await?)?;
    }
    Ok(())
}

const ROUNDS: usize = 16;
const REQUESTS: usize = 16;
