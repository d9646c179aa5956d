use std::sync::Arc;

use bytes::Bytes;

use super::{fixture::*, report::Outcome};
use crate::{
    Committed, CookieLifetime, IndexKey, Lifetime, Limits, Nonce, Owner, Record, Revision,
    Timestamp, Tombstone,
    record::{Cause, IdUse, Lease, Links, SealedId, UnknownFields},
};

/// A load of an unused key returns `None`.
pub async fn load_returns_none_for_an_unused_key(store: Store) -> Outcome {
    expect_stored(&store, &fresh_key(), now(), None).await
}

/// A store that answers says so.
pub async fn ping_succeeds(store: Store) -> Outcome {
    Ok(store.ping(now()).await?)
}

/// A `load` leaves the deadline as it is.
pub async fn load_changes_nothing(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let key = stored(&store, &record, now).await?;
    for minutes in [0, 30, 59, 1] {
        let later = now + minutes * MINUTE;
        expect_stored(&store, &key, later, Some(live(&record))).await?;
    }
    expect_stored(&store, &key, now + HOUR, None).await
}

/// A load returns every field, of any bytes, after `create` and after `commit`.
pub async fn load_returns_the_stored_session_bit_for_bit(store: Store) -> Outcome {
    let now = now();
    let full = everything_set(now);
    let least = Record { values: Default::default(), ..session(now) };
    let key = stored(&store, &full, now).await?;
    expect_stored(&store, &key, now, Some(live(&full))).await?;
    let key = stored(&store, &least, now).await?;
    expect_stored(&store, &key, now, Some(live(&least))).await?;
    let answer = store.commit(&key, (&least).into(), live(&full), now).await?;
    expect("commit", &answer, &Committed::Committed)?;
    expect_stored(&store, &key, now, Some(live(&full))).await
}

/// An unreadable record is an error, different from a missing session.
pub async fn load_reports_an_unreadable_record(store: Store) -> Outcome {
    let now = now();
    let record = unreadable(now);
    let key = stored(&store, &record, now).await?;
    for _ in 0..2 {
        expect_unreadable("load", &store.load(&key, now).await, &record)?;
    }
    Ok(())
}

/// A load returns the largest session within the default [`Limits`].
pub async fn load_returns_values_up_to_the_limits(store: Store) -> Outcome {
    let now = now();
    let limits = Limits::default();
    let mut record = session(now);
    record.values.clear();
    let names = ["a", "b", "c", "d"];
    let each = (limits.session_bytes / names.len() - 1).min(limits.value_bytes + 1);
    for name in names {
        let mut value = vec![0; each];
        getrandom::fill(&mut value).expect("the operating system gives random bytes");
        record.values.set(name, &value);
    }
    let mut one = session(now);
    one.values.set("big", &vec![0xff; limits.value_bytes + 1]);
    for record in [record, one] {
        let key = stored(&store, &record, now).await?;
        expect_stored(&store, &key, now, Some(live(&record))).await?;
        let later = next(&record, now);
        let answer = store.commit(&key, (&record).into(), live(&later), now).await?;
        expect("commit", &answer, &Committed::Committed)?;
        expect_stored(&store, &key, now, Some(live(&later))).await?;
        store.delete(&key, now).await?;
    }
    Ok(())
}

/// A load returns the largest number of values within the default [`Limits`].
pub async fn load_returns_1024_values(store: Store) -> Outcome {
    let now = now();
    let mut record = session(now);
    record.values.clear();
    for number in 0..Limits::default().values {
        let value = Bytes::copy_from_slice(&number.to_be_bytes());
        record.values.set(&format!("value {number}"), &value);
    }
    let key = stored(&store, &record, now).await?;
    expect_stored(&store, &key, now, Some(live(&record))).await
}

/// A load returns all kinds of tombstone.
pub async fn load_returns_a_tombstone_bit_for_bit(store: Store) -> Outcome {
    let now = now();
    let record = session(now);
    let login = tombstone(&record, now);
    let sealed_id = Some(SealedId::from_stored(Bytes::copy_from_slice(&random::<43>())));
    let first_login = Tombstone {
        cause: Cause::Rotated { successor: fresh_key(), sealed_id, changes_user: true },
        id_use: IdUse::Renewed,
        ..login.clone()
    };
    for tombstone in [login, first_login, renewal(&record, now), marker(now)] {
        let key = stored(&store, &record, now).await?;
        let answer = store.commit(&key, (&record).into(), moved(&tombstone), now).await?;
        expect("commit of a tombstone", &answer, &Committed::Committed)?;
        expect_stored(&store, &key, now, Some(moved(&tombstone))).await?;
    }
    Ok(())
}

/// Returns a record whose fields all differ from their defaults.
fn everything_set(now: Timestamp) -> Record {
    let lifetime = Lifetime::aal1()
        .with_renew_after(7 * MINUTE + MILLISECOND)
        .expect("seven minutes are possible")
        .with_cookie(CookieLifetime::Persistent);
    let all_bytes: Vec<u8> = (0..=255).collect();
    let mut record = Record {
        revision: Revision((1 << 48) - 2),
        nonce: Nonce(u64::MAX - 1),
        created_at: before(now, HOUR),
        last_seen_at: before(now, MILLISECOND),
        issued_at: before(now, MINUTE),
        lifetime,
        family: fresh_family(),
        id_use: IdUse::Presented(before(now, MINUTE)),
        ends_by: Some(now + 20 * HOUR),
        owner: Some(Owner::from(&all_bytes[..])),
        actor: Some(Arc::new(Record { owner: Some("actor".into()), ..session(now) })),
        links: Links::default(),
        authenticated_at: Some(before(now, 59 * MINUTE)),
        lease: Some(Lease { token: fresh_nonce(), until: now, span: MINUTE }),
        values: Default::default(),
        // The integer 7 under the name "z".
        unknown: UnknownFields { count: 1, bytes: Bytes::from_static(b"\xa1z\x07") },
    };
    for name in ["", "\0", "a", "é ☃ 🦀", "{}", "\"\\\r\n", &"n".repeat(128)] {
        record.values.set(name, &all_bytes);
    }
    record.values.set("empty", b"");
    record.links.add(IndexKey::from_bytes(random()));
    record.links.add(IndexKey::from_bytes(random()));
    record
}
