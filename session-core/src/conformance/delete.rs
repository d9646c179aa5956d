use super::{fixture::*, report::Outcome};

/// The answer is the record of the last commit.
pub async fn delete_returns_the_session(store: Store) -> Outcome {
    let now = now();
    let first = session(now);
    let second = next(&first, now);
    let key = stored(&store, &first, now).await?;
    store.commit(&key, (&first).into(), live(&second), now).await?;
    let answer = store.delete(&key, now).await?;
    expect("delete", &answer, &Some(live(&second)))?;
    expect_stored(&store, &key, now, None).await
}

/// If the session has another key, the request receives that key. If the answer was lost, the
/// request receives the key again (I4).
pub async fn delete_returns_a_tombstone_and_leaves_it(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    for tombstone in [tombstone(&record, now), renewal(&record, now)] {
        let key = stored(&store, &record, now).await?;
        store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
        let answer = store.delete(&key, now).await?;
        expect("delete", &answer, &Some(moved(&tombstone)))?;
        expect_stored(&store, &key, now, Some(moved(&tombstone))).await?;
        let answer = store.delete(&key, now).await?;
        expect("second delete", &answer, &Some(moved(&tombstone)))?;
    }
    Ok(())
}

/// Deleting under an empty key succeeds.
pub async fn delete_is_idempotent(store: Store) -> Outcome {
    let now = now();
    let key = stored(&store, &session(now), now).await?;
    store.delete(&key, now).await?;
    expect("second delete", &store.delete(&key, now).await?, &None)?;
    let key = fresh_key();
    expect("delete of nothing", &store.delete(&key, now).await?, &None)?;
    expect_stored(&store, &key, now, None).await
}

/// An unreadable record is deleted like a session.
pub async fn delete_removes_an_unreadable_record(store: Store) -> Outcome {
    let now = now();
    let record = unreadable(now);
    let key = stored(&store, &record, now).await?;
    let answer = store.delete(&key, now).await?;
    ensure(answer.is_none() || answer == Some(live(&record)), || {
        format!("delete of an unreadable record: came {}", text(&answer))
    })?;
    expect_stored(&store, &key, now, None).await
}

/// A delete changes only the named key.
pub async fn delete_leaves_other_keys_alone(store: Store) -> Outcome {
    let now = now();
    let (left, right) = (session(now), session(now));
    let left_key = stored(&store, &left, now).await?;
    let right_key = stored(&store, &right, now).await?;
    store.delete(&left_key, now).await?;
    expect_stored(&store, &right_key, now, Some(live(&right))).await
}
