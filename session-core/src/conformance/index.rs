//! The promises of an [`SessionIndex`](crate::SessionIndex).

use std::{sync::Arc, task::Poll, time::Duration};

use super::{fixture::*, report::Outcome};
use crate::{Created, Family, IndexEntry, IndexKey, Record, SessionKey, Timestamp};

/// Every entry is only in its index, for any number of entries.
pub async fn entries_are_of_their_index_only(store: Store) -> Outcome {
    let now = now();
    let index: [u8; IndexKey::LEN] = random();
    let mut indexes = vec![index];
    for bit in [0, 63, 64, 127] {
        let mut other = index;
        other[bit / 8] ^= 1 << (bit % 8);
        indexes.push(other);
    }
    let mut entered = Vec::new();
    for index in indexes.into_iter().map(IndexKey::from_bytes) {
        let entries: Vec<_> = (0..3).map(|_| fresh_entry(now + HOUR)).collect();
        for entry in &entries {
            store.enter(&index, *entry, now).await?;
        }
        entered.push((index, entries));
    }
    for (index, entries) in &entered {
        expect_entries(&store, index, now, entries).await?;
    }
    let (index, mut entries) = entered.swap_remove(0);
    for _ in 0..MANY {
        let entry = fresh_entry(now + HOUR);
        store.enter(&index, entry, now).await?;
        entries.push(entry);
    }
    expect_entries(&store, &index, now, &entries).await
}

/// The store returns every key, family and deadline as entered.
pub async fn entries_return_family_and_deadline(store: Store) -> Outcome {
    let (now, index) = (now(), fresh_index());
    let mut entries = Vec::new();
    for number in [0, 1, 1 << 53, (1 << 53) + 1, 1 << 63, u64::MAX] {
        let until = now + HOUR + MILLISECOND * u32::try_from(entries.len()).unwrap_or(0);
        entries.push(IndexEntry { family: Family(number), ..fresh_entry(until) });
    }
    for bytes in [[0; SessionKey::LEN], [0xff; SessionKey::LEN], *b"\0\n\r :[]*?{}\\'\"%\x80"] {
        entries.push(IndexEntry { key: SessionKey::from_bytes(bytes), ..fresh_entry(now + HOUR) });
    }
    for entry in &entries {
        store.enter(&index, *entry, now).await?;
    }
    expect_entries(&store, &index, now, &entries).await
}

/// A later deadline replaces an earlier one, never the reverse.
pub async fn enter_extends_an_entry_and_never_shortens_it(store: Store) -> Outcome {
    let (now, index) = (now(), fresh_index());
    let entry = fresh_entry(now + HOUR);
    let longer = IndexEntry { until: now + 2 * HOUR, ..entry };
    store.enter(&index, entry, now).await?;
    store.enter(&index, IndexEntry { until: now + MINUTE, ..entry }, now).await?;
    expect_entries(&store, &index, now + 2 * MINUTE, &[entry]).await?;
    store.enter(&index, longer, now).await?;
    expect_entries(&store, &index, now + HOUR + MINUTE, &[longer]).await
}

/// An entry ends at its deadline, to the millisecond, whatever else the index holds.
pub async fn entry_ends_at_its_deadline(store: Store) -> Outcome {
    let (now, index) = (now(), fresh_index());
    let deadline = now + MINUTE;
    let (short, long) = (fresh_entry(deadline), fresh_entry(now + HOUR));
    store.enter(&index, long, now).await?;
    store.enter(&index, short, now).await?;
    expect_entries(&store, &index, before(deadline, MILLISECOND), &[short, long]).await?;
    expect_entries(&store, &index, deadline, &[long]).await?;
    store.enter(&index, fresh_entry(deadline + MINUTE), deadline).await?;
    expect_entries(&store, &index, deadline + MINUTE, &[long]).await
}

/// Only the named entries leave, possibly after the answer.
pub async fn leave_removes_these_entries_and_no_others(store: Store) -> Outcome {
    let (now, index, other_index) = (now(), fresh_index(), fresh_index());
    let entries = [(); 3].map(|()| fresh_entry(now + HOUR));
    for entry in entries {
        store.enter(&index, entry, now).await?;
        store.enter(&other_index, entry, now).await?;
    }
    // `leave` ignores the deadline: another request may have extended the entry.
    let gone = [IndexEntry { until: now + MINUTE, ..entries[0] }, entries[1]];
    store.leave(&index, &gone, now).await?;
    store.leave(&index, &[fresh_entry(now + HOUR)], now).await?;
    store.leave(&index, &[], now).await?;
    wait_for_entries(&store, &index, now, 1).await?;
    expect_entries(&store, &index, now, &entries[2..]).await?;
    expect_entries(&store, &other_index, now, &entries).await
}

/// If `leave` names another family under the key, the entry stays.
pub async fn leave_needs_key_and_family(store: Store) -> Outcome {
    let (now, index) = (now(), fresh_index());
    let (stays, gone) = (fresh_entry(now + HOUR), fresh_entry(now + HOUR));
    store.enter(&index, stays, now).await?;
    store.enter(&index, gone, now).await?;
    let other = IndexEntry { family: fresh_family(), ..stays };
    store.leave(&index, &[other, gone], now).await?;
    wait_for_entries(&store, &index, now, 1).await?;
    expect_entries(&store, &index, now, &[stays]).await
}

/// All entries of n requests stay, and each request finds all entries from before its read. A limit
/// on sessions relies on this: of two logins, one finds the other.
pub async fn n_enters_all_count(store: Store) -> Outcome {
    let (now, index) = (now(), fresh_index());
    let entries: Vec<_> = (0..REQUESTS).map(|_| fresh_entry(now + HOUR)).collect();
    let tasks: Vec<_> = entries
        .iter()
        .map(|&entry| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.enter(&index, entry, now).await?;
                store.entries(&index, now).await
            })
        })
        .collect();
    let mut most = 0;
    for (task, entry) in tasks.into_iter().zip(&entries) {
        let found = joined(task).await?;
        ensure(found.contains(entry), || "a request does not find its own entry".to_owned())?;
        most = most.max(found.len());
    }
    expect("the entries that the last request finds", &most, &REQUESTS)?;
    expect_entries(&store, &index, now, &entries).await
}

/// The store stores the session and its entry in each index. A key in use stays as it is.
pub async fn create_entered_stores_a_session_and_its_entry(store: Store) -> Outcome {
    let (now, indexes) = (now(), [(); 3].map(|()| fresh_index()));
    let (record, entry) = session_and_entry(now);
    let answer = store.create_entered(&indexes, entry, live(&record), now).await?;
    expect("create_entered", &answer, &Created::Created)?;
    expect_stored(&store, &entry.key, now, Some(live(&record))).await?;
    for index in &indexes {
        expect_entries(&store, index, before(entry.until, MILLISECOND), &[entry]).await?;
    }
    let answer = store.create_entered(&indexes, entry, live(&session(now)), now).await?;
    expect("create_entered under a key in use", &answer, &Created::Exists)?;
    expect_stored(&store, &entry.key, now, Some(live(&record))).await
}

/// A request that finds the session finds its entry in each index too (I8).
pub async fn create_entered_enters_first(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let (now, indexes) = (now(), [(); 3].map(|()| fresh_index()));
        let (record, entry) = session_and_entry(now);
        let creating = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.create_entered(&indexes, entry, live(&record), now).await }
        });
        loop {
            let done = creating.is_finished();
            if store.load(&entry.key, now).await?.is_some() {
                for index in &indexes {
                    expect_entries(&store, index, now, &[entry]).await?;
                }
                break;
            }
            ensure(!done, || "the session was never there".to_owned())?;
            tokio::task::yield_now().await;
        }
        joined(creating).await?;
    }
    Ok(())
}

/// A dropped creation leaves at most entries (I8).
pub async fn dropped_create_entered_leaves_no_session_alone(store: Store) -> Outcome {
    for polls in 1..ROUNDS {
        let (now, indexes) = (now(), [(); 3].map(|()| fresh_index()));
        let (record, entry) = session_and_entry(now);
        let mut creating = store.create_entered(&indexes, entry, live(&record), now);
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
        if store.load(&entry.key, now).await?.is_some() {
            for index in &indexes {
                expect_entries(&store, index, now, &[entry]).await?;
            }
        }
    }
    Ok(())
}

fn fresh_index() -> IndexKey {
    IndexKey::from_bytes(random())
}

fn session_and_entry(now: Timestamp) -> (Record, IndexEntry) {
    let record = session(now);
    let entry = IndexEntry { family: record.family, ..fresh_entry(record.absolute_deadline()) };
    (record, entry)
}

async fn expect_entries(
    store: &Store,
    index: &IndexKey,
    now: Timestamp,
    entries: &[IndexEntry],
) -> Outcome {
    expect("entries", &sorted(store.entries(index, now).await?), &sorted(entries.to_vec()))
}

/// Waits until the index holds few entries: a store may remove entries after its answer.
async fn wait_for_entries(store: &Store, index: &IndexKey, now: Timestamp, few: usize) -> Outcome {
    for _ in 0..WAITS {
        if store.entries(index, now).await?.len() <= few {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn sorted(mut entries: Vec<IndexEntry>) -> Vec<IndexEntry> {
    entries.sort_unstable_by_key(|entry| entry.key);
    entries
}

const ROUNDS: usize = 16;
const REQUESTS: usize = 16;
/// The number of waits, of five milliseconds each, for work after the answer.
const WAITS: usize = 400;
