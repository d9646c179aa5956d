//! What an [`OwnerIndex`](crate::OwnerIndex) promises of its entries.

use std::{num::NonZeroUsize, sync::Arc, task::Poll, time::Duration};

use super::{
    fixture::*,
    report::{Outcome, Violation},
};
use crate::{Admission, Admitted, Created, OwnerKey, SessionKey, Timestamp};

/// What was entered is in the index of its owner, however many there are, and in no other.
pub async fn enter_is_seen_in_its_owners_index_and_in_no_other(store: Store) -> Outcome {
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
            store.enter(&owner, key, now + HOUR, now).await?;
        }
        entered.push((owner, keys));
    }
    for (owner, keys) in &entered {
        expect_entries(&store, owner, now, keys).await?;
    }
    let (owner, mut keys) = entered.swap_remove(0);
    for _ in 0..MANY {
        let key = fresh_key();
        store.enter(&owner, &key, now + HOUR, now).await?;
        keys.push(key);
    }
    expect_entries(&store, &owner, now, &keys).await
}

/// A later deadline replaces an earlier one, and not the other way round.
pub async fn enter_keeps_a_key_for_longer_and_never_for_shorter(store: Store) -> Outcome {
    let now = now();
    let (owner, key) = (fresh_owner(), fresh_key());
    store.enter(&owner, &key, now + HOUR, now).await?;
    store.enter(&owner, &key, now + MINUTE, now).await?;
    expect_entries(&store, &owner, now + 2 * MINUTE, &[key]).await?;
    store.enter(&owner, &key, now + 2 * HOUR, now).await?;
    expect_entries(&store, &owner, now + HOUR + MINUTE, &[key]).await
}

/// To the millisecond, and whatever else the index holds.
pub async fn an_entry_is_gone_at_its_deadline(store: Store) -> Outcome {
    let now = now();
    let (owner, short, long) = (fresh_owner(), fresh_key(), fresh_key());
    store.enter(&owner, &long, now + HOUR, now).await?;
    store.enter(&owner, &short, now + MINUTE, now).await?;
    let deadline = now + MINUTE;
    expect_entries(&store, &owner, before(deadline, MILLISECOND), &[short, long]).await?;
    expect_entries(&store, &owner, deadline, &[long]).await?;
    store.enter(&owner, &fresh_key(), deadline + MINUTE, deadline).await?;
    expect_entries(&store, &owner, deadline + MINUTE, &[long]).await
}

/// The limit is the number of keys with the new one; who is refused is told the others, and not entered.
pub async fn admit_refuses_what_exceeds_the_limit(store: Store) -> Outcome {
    let now = now();
    let (owner, keys) = (fresh_owner(), [fresh_key(), fresh_key()]);
    for key in &keys {
        let answer = store.admit(&owner, key, now + HOUR, &at_most(2), now).await?;
        expect("admit", &answer, &Admitted::Admitted)?;
    }
    let answer = store.admit(&owner, &fresh_key(), now + HOUR, &at_most(2), now).await?;
    expect_full(answer, &keys)?;
    expect_entries(&store, &owner, now, &keys).await?;
    let third = fresh_key();
    let answer = store.admit(&owner, &third, now + HOUR, &at_most(3), now).await?;
    expect("admit", &answer, &Admitted::Admitted)?;
    expect_entries(&store, &owner, now, &[keys[0], keys[1], third]).await
}

/// What has passed its deadline takes no place.
pub async fn admit_does_not_count_what_has_passed(store: Store) -> Outcome {
    let now = now();
    let (owner, key) = (fresh_owner(), fresh_key());
    store.enter(&owner, &fresh_key(), now + MINUTE, now).await?;
    let later = now + MINUTE;
    let answer = store.admit(&owner, &key, now + HOUR, &at_most(1), later).await?;
    expect("admit", &answer, &Admitted::Admitted)?;
    expect_entries(&store, &owner, later, &[key]).await
}

/// A key that is in the index already has its place, and is kept for longer.
pub async fn admit_again_is_admitted(store: Store) -> Outcome {
    let now = now();
    let (owner, key) = (fresh_owner(), fresh_key());
    for span in [MINUTE, HOUR, MINUTE] {
        let answer = store.admit(&owner, &key, now + span, &at_most(1), now).await?;
        expect("admit", &answer, &Admitted::Admitted)?;
    }
    expect_entries(&store, &owner, now + 2 * MINUTE, &[key]).await
}

/// The key whose place is to be taken stays for now, and is not counted.
pub async fn admit_does_not_count_what_is_replaced(store: Store) -> Outcome {
    let now = now();
    let (owner, old, new) = (fresh_owner(), fresh_key(), fresh_key());
    store.enter(&owner, &old, now + HOUR, now).await?;
    let admission = Admission { replaces: &[old], ..at_most(1) };
    let answer = store.admit(&owner, &new, now + HOUR, &admission, now).await?;
    expect("admit", &answer, &Admitted::Admitted)?;
    expect_entries(&store, &owner, now, &[old, new]).await?;
    let answer = store.admit(&owner, &fresh_key(), now + HOUR, &admission, now).await?;
    expect_full(answer, &[new])
}

/// Several keys may be replaced at once.
pub async fn admit_does_not_count_any_of_those_replaced(store: Store) -> Outcome {
    let now = now();
    let (owner, old, stays) = (fresh_owner(), [fresh_key(), fresh_key()], fresh_key());
    for key in old.iter().chain([&stays]) {
        store.enter(&owner, key, now + HOUR, now).await?;
    }
    let admission = Admission { replaces: &old, ..at_most(1) };
    let key = fresh_key();
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect_full(answer, &[stays])?;
    let admission = Admission { replaces: &old, ..at_most(2) };
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect("admit", &answer, &Admitted::Admitted)?;
    expect_entries(&store, &owner, now, &[old[0], old[1], stays, key]).await
}

/// Two keys of one session take one place, and who is refused is told both.
pub async fn admit_counts_a_pair_once(store: Store) -> Outcome {
    let now = now();
    let (owner, keys) = (fresh_owner(), [(); 5].map(|()| fresh_key()));
    for key in &keys {
        store.enter(&owner, key, now + HOUR, now).await?;
    }
    let pairs = [(keys[0], keys[1]), (keys[2], keys[3])];
    let key = fresh_key();
    let admission = Admission { pairs: &pairs, ..at_most(3) };
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect_full(answer, &keys)?;
    let admission = Admission { pairs: &pairs, ..at_most(4) };
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect("admit", &answer, &Admitted::Admitted)
}

/// Of a pair whose session has arrived under its new key, that one counts like any other.
pub async fn admit_counts_what_is_left_of_a_pair(store: Store) -> Outcome {
    let now = now();
    let (owner, former, key) = (fresh_owner(), fresh_key(), fresh_key());
    let pairs = [(former, key)];
    store.enter(&owner, &key, now + HOUR, now).await?;
    let admission = Admission { pairs: &pairs, ..at_most(1) };
    let answer = store.admit(&owner, &fresh_key(), now + HOUR, &admission, now).await?;
    expect_full(answer, &[key])?;
    // As it does where the former one is replaced, or has ended.
    store.enter(&owner, &former, now + HOUR, now).await?;
    let admission = Admission { replaces: &[former], ..admission };
    let answer = store.admit(&owner, &fresh_key(), now + HOUR, &admission, now).await?;
    expect_full(answer, &[key])?;
    let admission = Admission { replaces: &[], ended: &[former], ..admission };
    let answer = store.admit(&owner, &fresh_key(), now + HOUR, &admission, now).await?;
    expect_full(answer, &[key])
}

/// What the caller knows to have ended makes room in the same step.
pub async fn admit_forgets_what_has_ended(store: Store) -> Outcome {
    let now = now();
    let (owner, ended, stays) = (fresh_owner(), [fresh_key(), fresh_key()], fresh_key());
    for key in ended.iter().chain([&stays]) {
        store.enter(&owner, key, now + HOUR, now).await?;
    }
    let key = fresh_key();
    let admission = Admission { ended: &ended, ..at_most(1) };
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect_full(answer, &[stays])?;
    expect_entries(&store, &owner, now, &[stays]).await?;
    let admission = Admission { ended: &[stays], ..at_most(1) };
    let answer = store.admit(&owner, &key, now + HOUR, &admission, now).await?;
    expect("admit", &answer, &Admitted::Admitted)?;
    expect_entries(&store, &owner, now, &[key]).await
}

/// The session is there, and in the index; a key in use is left as it is.
pub async fn create_entered_stores_a_session_and_its_entry(store: Store) -> Outcome {
    let now = now();
    let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
    let until = record.absolute_deadline();
    let answer = store.create_entered(&owner, until, &key, live(&record), now).await?;
    expect("create_entered", &answer, &Created::Created)?;
    expect_stored(&store, &key, now, Some(live(&record))).await?;
    expect_entries(&store, &owner, before(until, MILLISECOND), &[key]).await?;
    let answer = store.create_entered(&owner, until, &key, live(&session(now)), now).await?;
    expect("create_entered under a key in use", &answer, &Created::Exists)?;
    expect_stored(&store, &key, now, Some(live(&record))).await
}

/// Who sees the session sees it in the index too (I8).
pub async fn create_entered_enters_first(store: Store) -> Outcome {
    for _ in 0..ROUNDS {
        let now = now();
        let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
        let until = record.absolute_deadline();
        let creating = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.create_entered(&owner, until, &key, live(&record), now).await }
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

/// A creation that was given up leaves at most an entry (I8).
pub async fn create_entered_that_was_dropped_leaves_no_session_alone(store: Store) -> Outcome {
    for polls in 1..ROUNDS {
        let now = now();
        let (owner, key, record) = (fresh_owner(), fresh_key(), session(now));
        let until = record.absolute_deadline();
        let mut creating = store.create_entered(&owner, until, &key, live(&record), now);
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

/// By and by, the keys that are named and no others.
pub async fn leave_forgets_these_keys_and_no_others(store: Store) -> Outcome {
    let now = now();
    let (owner, other_owner) = (fresh_owner(), fresh_owner());
    let (gone, stays) = ([fresh_key(), fresh_key()], fresh_key());
    for key in gone.iter().chain([&stays]) {
        store.enter(&owner, key, now + HOUR, now).await?;
        store.enter(&other_owner, key, now + HOUR, now).await?;
    }
    store.leave(&owner, &gone, now).await?;
    store.leave(&owner, &[fresh_key()], now).await?;
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

/// Of admissions at once as many win as there is room for.
pub async fn of_n_admits_at_once_as_many_win_as_there_is_room(store: Store) -> Outcome {
    for max in 1..=4 {
        let (now, owner) = (now(), fresh_owner());
        let tasks: Vec<_> = (0..REQUESTS)
            .map(|_| {
                let (store, key) = (Arc::clone(&store), fresh_key());
                tokio::spawn(async move {
                    let answer = store.admit(&owner, &key, now + HOUR, &at_most(max), now).await?;
                    Ok((answer, key))
                })
            })
            .collect();
        let mut winners = Vec::new();
        for task in tasks {
            if let (Admitted::Admitted, key) = joined(task).await? {
                winners.push(key);
            }
        }
        expect("admissions", &winners.len(), &max)?;
        expect_entries(&store, &owner, now, &winners).await?;
    }
    Ok(())
}

/// Of keys entered at once none is lost.
pub async fn of_n_enters_at_once_all_count(store: Store) -> Outcome {
    let (now, owner) = (now(), fresh_owner());
    let keys: Vec<_> = (0..REQUESTS).map(|_| fresh_key()).collect();
    let tasks: Vec<_> = keys
        .iter()
        .map(|&key| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.enter(&owner, &key, now + HOUR, now).await })
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

fn at_most(max: usize) -> Admission<'static> {
    let max = NonZeroUsize::new(max).expect("cases use limits that are possible");
    Admission { max, replaces: &[], pairs: &[], ended: &[] }
}

async fn expect_entries(
    store: &Store,
    owner: &OwnerKey,
    now: Timestamp,
    keys: &[SessionKey],
) -> Outcome {
    expect("entries", &sorted(store.entries(owner, now).await?), &sorted(keys.to_vec()))
}

fn expect_full(answer: Admitted, keys: &[SessionKey]) -> Outcome {
    match answer {
        Admitted::Full(present) => {
            expect("who has the places", &sorted(present), &sorted(keys.to_vec()))
        }
        Admitted::Admitted => Err(Violation::new("admit: more than the limit")),
    }
}

fn sorted(mut keys: Vec<SessionKey>) -> Vec<SessionKey> {
    keys.sort_unstable();
    keys
}

const ROUNDS: usize = 16;
const REQUESTS: usize = 16;
/// How often five milliseconds are waited for what is done after the answer.
const WAITS: usize = 1_000;
