//! The promises of an [`OwnerIndex`](crate::OwnerIndex).

use std::{sync::Arc, task::Poll, time::Duration};

use super::{fixture::*, report::Outcome};
use crate::{Created, IndexEntry, OwnerKey, SessionKey, Timestamp};

/// Every entry is in the index of its owner, however many there are, and in no other.
pub async fn entries_are_of_their_owner_only(store: Store) -> Outcome {
    let now = now();
    let owner: [u8; OwnerKey::LEN] = random();
    let mut owners = vec![owner];
    for bit in [0, 63, 64, 127] {
        let mut other = owner;
        other[bit / 8] ^= 1 << (bit % 8);
        owners.push(other);
    }
    let mut entered = Vec::new();
    for owner in owners.into_iter().map(OwnerKey::from_bytes) {
        let keys: Vec<_> = (0..3).map(|_| fresh_key()).collect();
        for key in &keys {
            store.enter(&owner, entry(*key, now + HOUR), now).await?;
        }
        entered.push((owner, keys));
    }
    for (owner, keys) in &entered {
        expect_entries(&store, owner, now, keys).await?;
    }
    let (owner, mut keys) = entered.swap_remove(0);
    for _ in 0..MANY {
        let key = fresh_key();
        store.enter(&owner, entry(key, now + HOUR), now).await?;
        keys.push(key);
    }
    expect_entries(&store, &owner, now, &keys).await
}

/// An entry comes back with its family and its deadline.
pub async fn entries_return_family_and_deadline(store: Store) -> Outcome {
    let now = now();
    let owner = fresh_owner();
    for key in [fresh_key(), fresh_key()] {
        let entered = entry(key, now + HOUR);
        store.enter(&owner, entered, now).await?;
        let entries = store.entries(&owner, now).await?;
        let found = entries.into_iter().find(|entry| entry.key == key);
        expect("entry", &found, &Some(entered))?;
    }
    Ok(())
}

/// A later deadline replaces an earlier one, and not the other way round.
pub async fn enter_extends_an_entry_and_never_shortens_it(store: Store) -> Outcome {
    let now = now();
    let (owner, key) = (fresh_owner(), fresh_key());
    store.enter(&owner, entry(key, now + HOUR), now).await?;
    store.enter(&owner, entry(key, now + MINUTE), now).await?;
    expect_entries(&store, &owner, now + 2 * MINUTE, &[key]).await?;
    store.enter(&owner, entry(key, now + 2 * HOUR), now).await?;
    expect_entries(&store, &owner, now + HOUR + MINUTE, &[key]).await
}

/// An entry ends to the millisecond, whatever else the index holds.
pub async fn entry_ends_at_its_deadline(store: Store) -> Outcome {
    let now = now();
    let (owner, short, long) = (fresh_owner(), fresh_key(), fresh_key());
    store.enter(&owner, entry(long, now + HOUR), now).await?;
    store.enter(&owner, entry(short, now + MINUTE), now).await?;
    let deadline = now + MINUTE;
    expect_entries(&store, &owner, before(deadline, MILLISECOND), &[short, long]).await?;
    expect_entries(&store, &owner, deadline, &[long]).await?;
    store.enter(&owner, entry(fresh_key(), deadline + MINUTE), deadline).await?;
    expect_entries(&store, &owner, deadline + MINUTE, &[long]).await
}

/// The session is stored and entered. A key in use stays as it is.
pub async fn create_entered_stores_a_session_and_its_entry(store: Store) -> Outcome {
    let now = now();
    let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
    let until = record.absolute_deadline();
    let answer = store.create_entered(&owner, entry(key, until), live(&record), now).await?;
    expect("create_entered", &answer, &Created::Created)?;
    expect_stored(&store, &key, now, Some(live(&record))).await?;
    expect_entries(&store, &owner, before(until, MILLISECOND), &[key]).await?;
    let answer = store.create_entered(&owner, entry(key, until), live(&session(now)), now).await?;
    expect("create_entered under a key in use", &answer, &Created::Exists)?;
    expect_stored(&store, &key, now, Some(live(&record))).await
}

/// A request that finds the session finds its entry too (I8).
pub async fn create_entered_enters_first(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
        let until = record.absolute_deadline();
        let creating = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.create_entered(&owner, entry(key, until), live(&record), now).await }
        });
        loop {
            let done = creating.is_finished();
            if store.load(&key, now).await?.is_some() {
                expect_entries(&store, &owner, now, &[key]).await?;
                break;
            }
            ensure(!done, || "the session was never there".to_owned())?;
            tokio::task::yield_now().await;
        }
        joined(creating).await?;
    }
    Ok(())
}

/// A dropped creation leaves at most an entry (I8).
pub async fn dropped_create_entered_leaves_no_session_alone(store: Store) -> Outcome {
    for polls in 1..ROUNDS {
        let now = now();
        let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
        let until = record.absolute_deadline();
        let mut creating = store.create_entered(&owner, entry(key, until), live(&record), now);
        let mut left = polls;
        std::future::poll_fn(|context| {
            left -= 1;
            match creating.as_mut().poll(context) {
                Poll::Pending if left > 0 => Poll::Pending,
                Poll::Pending | Poll::Ready(_) => Poll::Ready(()),
            }
        })
        .await;
        drop(creating);
        if store.load(&key, now).await?.is_some() {
            expect_entries(&store, &owner, now, &[key]).await?;
        }
    }
    Ok(())
}

/// The named entries leave, possibly after the answer, and no others.
pub async fn leave_removes_these_entries_and_no_others(store: Store) -> Outcome {
    let now = now();
    let (owner, other_owner) = (fresh_owner(), fresh_owner());
    let (gone, stays) = ([fresh_key(), fresh_key()], fresh_key());
    for key in gone.iter().chain([&stays]) {
        store.enter(&owner, entry(*key, now + HOUR), now).await?;
        store.enter(&other_owner, entry(*key, now + HOUR), now).await?;
    }
    let leaving = gone.map(|key| entry(key, now + HOUR));
    store.leave(&owner, &leaving, now).await?;
    store.leave(&owner, &[entry(fresh_key(), now + HOUR)], now).await?;
    store.leave(&owner, &[], now).await?;
    for _ in 0..WAITS {
        if store.entries(&owner, now).await?.len() <= 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    expect_entries(&store, &owner, now, &[stays]).await?;
    expect_entries(&store, &other_owner, now, &[gone[0], gone[1], stays]).await
}

/// An entry stays if another session's is named under its key.
pub async fn leave_needs_key_and_family(store: Store) -> Outcome {
    let now = now();
    let (owner, key) = (fresh_owner(), fresh_key());
    let entered = entry(key, now + HOUR);
    store.enter(&owner, entered, now).await?;
    let other = IndexEntry { family: fresh_family(), ..entered };
    store.leave(&owner, &[other], now).await?;
    // A store may remove entries after it has answered.
    tokio::time::sleep(Duration::from_millis(20)).await;
    expect_entries(&store, &owner, now, &[key]).await
}

/// None of n concurrent entries is lost.
pub async fn n_enters_all_count(store: Store) -> Outcome {
    let (now, owner) = (now(), fresh_owner());
    let keys: Vec<_> = (0..REQUESTS).map(|_| fresh_key()).collect();
    let tasks: Vec<_> = keys
        .iter()
        .map(|&key| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enter(&owner, entry(key, now + HOUR), now).await })
        })
        .collect();
    for task in tasks {
        joined(task).await?;
    }
    expect_entries(&store, &owner, now, &keys).await
}

fn fresh_owner() -> OwnerKey {
    OwnerKey::from_bytes(random())
}

async fn expect_entries(
    store: &Store,
    owner: &OwnerKey,
    now: Timestamp,
    keys: &[SessionKey],
) -> Outcome {
    let entries = store.entries(owner, now).await?;
    let present: Vec<_> = entries.iter().map(|entry| entry.key).collect();
    expect("entries", &sorted(present), &sorted(keys.to_vec()))
}

fn sorted(mut keys: Vec<SessionKey>) -> Vec<SessionKey> {
    keys.sort_unstable();
    keys
}

const ROUNDS: usize = 16;
const REQUESTS: usize = 16;
/// The number of waits, of five milliseconds each, for work after the answer.
const WAITS: usize = 1_000;
