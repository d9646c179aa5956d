use super::{fixture::*, report::Outcome};
use crate::{Committed, Created, SessionKey};

/// A load returns the created session.
pub async fn create_stores_a_session(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    expect_stored(&store, &key, now, Some(live(&record))).await
}

/// A second `create` leaves the first record unchanged.
pub async fn create_refuses_a_key_in_use(store: Store) -> Outcome {
    let now = now();
    let first = session(now);
    let key = stored(&store, &first, now).await?;
    for second in [session(now), first.clone()] {
        let answer = store.create(&key, live(&second), now).await?;
        expect("create under a key in use", &answer, &Created::Exists)?;
        expect_stored(&store, &key, now, Some(live(&first))).await?;
    }
    Ok(())
}

/// A key with a tombstone is in use.
pub async fn create_refuses_the_key_of_a_tombstone(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    let tombstone = moved(&tombstone(&record, now));
    let answer = store.commit(&key, (&record).into(), tombstone.clone(), now).await?;
    expect("commit of a tombstone", &answer, &Committed::Committed)?;
    let answer = store.create(&key, live(&session(now)), now).await?;
    expect("create in a tombstone's place", &answer, &Created::Exists)?;
    expect_stored(&store, &key, now, Some(tombstone)).await
}

/// After a delete, a session can be created under the key again.
pub async fn create_succeeds_again_after_delete(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    store.delete(&key, now).await?;
    let second = session(now);
    let answer = store.create(&key, live(&second), now).await?;
    expect("create after delete", &answer, &Created::Created)?;
    expect_stored(&store, &key, now, Some(live(&second))).await
}

/// Two keys with one different bit are different keys, and every byte is allowed.
pub async fn keys_of_any_bytes_stay_distinct(store: Store) -> Outcome {
    let now = now();
    let base: [u8; SessionKey::LEN] = random();
    let mut keys = vec![base];
    for bit in 0..8 * SessionKey::LEN {
        let mut key = base;
        key[bit / 8] ^= 1 << (bit % 8);
        keys.push(key);
    }
    for byte in *b"\0\n\r {}[]*?:\\/'\"%\x7f\x80\xff" {
        for range in [0..8, 8..16] {
            let mut key = random();
            key[range].fill(byte);
            keys.push(key);
        }
    }
    let mut sessions = Vec::new();
    for key in keys.into_iter().map(SessionKey::from_bytes) {
        let record = session(now);
        let answer = store.create(&key, live(&record), now).await?;
        expect("create under a fresh key", &answer, &Created::Created)?;
        sessions.push((key, record));
    }
    for (key, record) in &sessions {
        expect_stored(&store, key, now, Some(live(record))).await?;
    }
    for (key, record) in sessions {
        expect("delete", &store.delete(&key, now).await?, &Some(live(&record)))?;
    }
    Ok(())
}
