//! Cases of concurrent requests. A runtime interleaves the steps of a store differently each time,
//! so each case runs many times.

use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};

use super::{
    fixture::*,
    report::{Outcome, Violation},
};
use crate::{
    Committed, Created, Entry, Expected, Record, SessionKey, StoreError, Timestamp, Touched,
};

/// Of n concurrent creations of one key, one wins, and its record is stored.
pub async fn one_of_n_creates_wins(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let key = fresh_key();
        let mut tasks = JoinSet::new();
        for _ in 0..REQUESTS {
            let (store, record) = (Arc::clone(&store), session(now));
            tasks.spawn(async move {
                let answer = store.create(&key, live(&record), now).await;
                (answer, record)
            });
        }
        let mut winners = Vec::new();
        for (answer, record) in tasks.join_all().await {
            if answer? == Created::Created {
                winners.push(record);
            }
        }
        let winner = the_one("creates", winners)?;
        expect_stored(&store, &key, now, Some(live(&winner))).await?;
    }
    Ok(())
}

/// Of n concurrent commits at one revision, one wins. The others receive its record as a conflict.
pub async fn one_of_n_commits_at_one_revision_wins(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let first = session(now);
        let key = stored(&store, &first, now).await?;
        let mut tasks = JoinSet::new();
        for _ in 0..REQUESTS {
            let (store, record) = (Arc::clone(&store), next(&first, now));
            let expected = Expected::from(&first);
            tasks.spawn(async move {
                let answer = store.commit(&key, expected, live(&record), now).await;
                (answer, record)
            });
        }
        let (mut winners, mut returned) = (Vec::new(), Vec::new());
        for (answer, record) in tasks.join_all().await {
            match answer? {
                Committed::Committed => winners.push(record),
                answer => returned.push(answer),
            }
        }
        let winner = the_one("commits at one revision", winners)?;
        for answer in returned {
            let conflict = Committed::Conflict(live(&winner));
            expect("commit that was too late", &answer, &conflict)?;
        }
        expect_stored(&store, &key, now, Some(live(&winner))).await?;
    }
    Ok(())
}

/// Of n concurrent deletions, one returns the session.
pub async fn one_of_n_deletes_returns_the_session(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let record = session(now);
        let key = stored(&store, &record, now).await?;
        let mut tasks = JoinSet::new();
        for _ in 0..REQUESTS {
            let store = Arc::clone(&store);
            tasks.spawn(async move { store.delete(&key, now).await });
        }
        let mut returned = Vec::new();
        for answer in tasks.join_all().await {
            returned.extend(answer?);
        }
        let returned = the_one("deletes", returned)?;
        expect("delete", &returned, &live(&record))?;
    }
    Ok(())
}

/// After a conflict, each request retries on the newer record, and all changes are kept (I1).
pub async fn n_commits_that_retry_all_count(store: Store) -> Outcome {
    let now = now();
    let first = session(now);
    let key = stored(&store, &first, now).await?;
    let mut tasks = JoinSet::new();
    for request in 0..REQUESTS {
        let (store, mut base) = (Arc::clone(&store), first.clone());
        tasks.spawn(async move {
            let name = format!("request {request}");
            // Each conflict means that another request has committed.
            for _ in 0..REQUESTS {
                let mut record = next(&base, now);
                record.values.set(&name, b"");
                match store.commit(&key, (&base).into(), live(&record), now).await? {
                    Committed::Committed => return Ok(()),
                    Committed::Conflict(Entry::Session(newer)) => base = Record::clone(&newer),
                    answer => {
                        return Err(Violation::new(format!("commit: came {}", text(&answer))));
                    }
                }
            }
            Err(Violation::new("commit: came more conflicts than commits"))
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    match store.load(&key, now).await? {
        Some(Entry::Session(record)) => {
            expect("values", &record.values.len(), &(1 + REQUESTS))?;
            expect("revision", &record.revision.0, &(1 + REQUESTS as u64))
        }
        other => ensure(false, || format!("load: came {}", text(&other))),
    }
}

/// In any order the session is deleted (I2), and the deletion returns the last committed record.
pub async fn commit_beside_delete_leaves_nothing(store: Store) -> Outcome {
    for round in 0..2 * ROUNDS {
        let now = now();
        let first = session(now);
        let key = stored(&store, &first, now).await?;
        let (mut commits, mut delete) = (Vec::new(), None);
        for place in 0..4 {
            if place == round % 4 {
                delete = Some(spawn_delete(&store, key, now));
            } else {
                let record = next(&first, now);
                let commit = spawn_commit(&store, key, &first, live(&record), now);
                commits.push((commit, record));
            }
        }
        let mut winner = None;
        for (commit, record) in commits {
            match joined(commit).await? {
                Committed::Committed if winner.is_none() => winner = Some(record),
                Committed::Committed => {
                    return Err(Violation::new("of commits at one revision two won"));
                }
                Committed::Conflict(_) | Committed::Gone => {}
            }
        }
        let last = winner.unwrap_or(first);
        if let Some(delete) = delete {
            expect("delete", &joined(delete).await?, &Some(live(&last)))?;
        }
        expect_stored(&store, &key, now, None).await?;
    }
    Ok(())
}

/// Beside a concurrent touch, a deleted session stays deleted (I2).
pub async fn touch_beside_delete_leaves_nothing(store: Store) -> Outcome {
    for round in 0..2 * ROUNDS {
        let now = now();
        let record = session(now);
        let key = stored(&store, &record, now).await?;
        let later = now + MINUTE;
        let (mut touches, mut delete) = (Vec::new(), None);
        for place in 0..4 {
            if place == round % 4 {
                delete = Some(spawn_delete(&store, key, now));
            } else {
                touches.push(spawn_touch(&store, key, later));
            }
        }
        let mut last = record.clone();
        for touch in touches {
            if joined(touch).await? == Touched::Touched {
                last = record.seen(later);
            }
        }
        if let Some(delete) = delete {
            expect("delete", &joined(delete).await?, &Some(live(&last)))?;
        }
        expect_stored(&store, &key, later, None).await?;
    }
    Ok(())
}

/// A concurrent touch neither undoes a commit (I1) nor makes it conflict.
pub async fn touch_beside_commit_keeps_the_commit(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let first = session(now);
        let key = stored(&store, &first, now).await?;
        let later = now + MINUTE;
        let second = next(&first, later);
        let touches: Vec<_> = (0..REQUESTS).map(|_| spawn_touch(&store, key, later)).collect();
        let commit = spawn_commit(&store, key, &first, live(&second), now);
        let more = spawn_touch(&store, key, later);
        expect("commit", &joined(commit).await?, &Committed::Committed)?;
        for touch in touches.into_iter().chain([more]) {
            expect("touch", &joined(touch).await?, &Touched::Touched)?;
        }
        expect_stored(&store, &key, later, Some(live(&second))).await?;
    }
    Ok(())
}

/// Beside a concurrent touch, the tombstone of a session that moved stays (I4).
pub async fn touch_beside_tombstone_keeps_the_tombstone(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let record = session(now);
        let key = stored(&store, &record, now).await?;
        let tombstone = moved(&tombstone(&record, now));
        let touch = spawn_touch(&store, key, now + MINUTE);
        let commit = spawn_commit(&store, key, &record, tombstone.clone(), now);
        let more = spawn_touch(&store, key, now + MINUTE);
        expect("commit", &joined(commit).await?, &Committed::Committed)?;
        joined(touch).await?;
        joined(more).await?;
        expect_stored(&store, &key, now, Some(tombstone)).await?;
    }
    Ok(())
}

type Task<T> = JoinHandle<Result<T, StoreError>>;

fn spawn_commit(
    store: &Store,
    key: SessionKey,
    base: &Record,
    entry: Entry,
    now: Timestamp,
) -> Task<Committed> {
    let (store, expected) = (Arc::clone(store), Expected::from(base));
    tokio::spawn(async move { store.commit(&key, expected, entry, now).await })
}

fn spawn_touch(store: &Store, key: SessionKey, now: Timestamp) -> Task<Touched> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.touch(&key, now).await })
}

fn spawn_delete(store: &Store, key: SessionKey, now: Timestamp) -> Task<Option<Entry>> {
    let store = Arc::clone(store);
    tokio::spawn(async move { store.delete(&key, now).await })
}

fn the_one<T>(what: &str, mut winners: Vec<T>) -> Result<T, Violation> {
    match (winners.pop(), winners.len()) {
        (Some(winner), 0) => Ok(winner),
        (None, _) => Err(Violation::new(format!("of {REQUESTS} {what} none won"))),
        (Some(_), others) => {
            Err(Violation::new(format!("of {REQUESTS} {what} {} won", others + 1)))
        }
    }
}

const ROUNDS: usize = 16;
const REQUESTS: usize = 16;
