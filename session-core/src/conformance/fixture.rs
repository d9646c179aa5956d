//! The records, checks and helpers of the cases.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::report::{Outcome, Violation};
use crate::{
    Backend, Clock as _, Created, Entry, Expected, Family, IndexEntry, Lifetime, Nonce, Record,
    Revision, SessionKey, StoreError, StoreErrorKind, SystemClock, Timestamp, Tombstone,
    record::{Cause, IdUse, SealedId, UnknownFields},
};

pub(super) type Store = Arc<dyn Backend>;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);

/// Returns the present instant of the system's clock. A store may pass spans from now to a server
/// with another clock.
pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

/// Returns the instant a span before another instant.
pub(super) fn before(at: Timestamp, span: Duration) -> Timestamp {
    let millis = u64::try_from(span.as_millis()).expect("cases use short spans");
    Timestamp::from_millis(at.as_millis() - millis)
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Returns a new key.
pub(super) fn fresh_key() -> SessionKey {
    SessionKey::from_bytes(random())
}

pub(super) fn fresh_nonce() -> Nonce {
    Nonce(u64::from_be_bytes(random()))
}

pub(super) fn lifetime(idle: Duration, absolute: Duration) -> Lifetime {
    Lifetime::new(idle, absolute).expect("cases use lifetimes that are possible")
}

/// Returns a session with one value, like the first record by the protocol.
pub(super) fn session(now: Timestamp) -> Record {
    let mut record = Record::new(now, lifetime(HOUR, 24 * HOUR));
    record.revision = Revision(1);
    record.nonce = fresh_nonce();
    record.family = fresh_family();
    record.values.set("visits", &random::<8>());
    record
}

/// Returns a session whose bytes are unreadable: the body lacks a field that its head claims. A
/// store of bytes returns an error for it, a store of entries can return it.
pub(super) fn unreadable(now: Timestamp) -> Record {
    let unknown = UnknownFields { count: 1, bytes: Bytes::new() };
    Record { unknown, ..session(now) }
}

/// Returns the session after one more commit.
pub(super) fn next(record: &Record, now: Timestamp) -> Record {
    let mut next = record.seen(now);
    next.revision = record.revision.next();
    next.nonce = fresh_nonce();
    next.values.set("visits", &random::<8>());
    next
}

/// Returns the expectation of a commit on another revision of the record.
pub(super) fn at(revision: Revision, record: &Record) -> Expected {
    Expected { revision, ..record.into() }
}

/// Returns the tombstone left by a login in place of the session.
pub(super) fn tombstone(record: &Record, now: Timestamp) -> Tombstone {
    Tombstone {
        revision: record.revision.next(),
        nonce: fresh_nonce(),
        family: record.family,
        cause: Cause::Rotated { successor: fresh_key(), sealed_id: None, changes_user: false },
        id_use: IdUse::Original,
        expires_at: now + 5 * MINUTE,
    }
}

/// Returns the tombstone left by a renewal in place of the session.
pub(super) fn renewal(record: &Record, now: Timestamp) -> Tombstone {
    let sealed_id = SealedId::from_stored(Bytes::copy_from_slice(&random::<43>()));
    Tombstone {
        cause: Cause::Renewed { successor: fresh_key(), sealed_id },
        id_use: IdUse::Presented(now),
        ..tombstone(record, now)
    }
}

pub(super) fn marker(now: Timestamp) -> Tombstone {
    Tombstone::end_marker(fresh_nonce(), now + 5 * MINUTE)
}

pub(super) fn fresh_family() -> Family {
    Family(u64::from_be_bytes(random()))
}

/// Returns the index entry of another session.
pub(super) fn fresh_entry(until: Timestamp) -> IndexEntry {
    IndexEntry { key: fresh_key(), family: fresh_family(), until }
}

pub(super) fn live(record: &Record) -> Entry {
    Entry::Session(Arc::new(record.clone()))
}

pub(super) fn moved(tombstone: &Tombstone) -> Entry {
    Entry::Tombstone(Arc::new(tombstone.clone()))
}

/// Stores a session under a fresh key.
pub(super) async fn stored(
    store: &Store,
    record: &Record,
    now: Timestamp,
) -> Result<SessionKey, Violation> {
    let key = fresh_key();
    let answer = store.create(&key, live(record), now).await?;
    expect("create under a fresh key", &answer, &Created::Created)?;
    Ok(key)
}

/// Checks the entry under a key.
pub(super) async fn expect_stored(
    store: &Store,
    key: &SessionKey,
    now: Timestamp,
    entry: Option<Entry>,
) -> Outcome {
    expect("load", &store.load(key, now).await?, &entry)
}

/// Checks that a load of an unreadable record returned the error, or the record if the store can
/// read it.
pub(super) fn expect_unreadable(
    verb: &str,
    answer: &Result<Option<Entry>, StoreError>,
    record: &Record,
) -> Outcome {
    let holds = match answer {
        Ok(entry) => *entry == Some(live(record)),
        Err(error) => error.kind() == StoreErrorKind::Corrupt,
    };
    ensure(holds, || {
        format!("{verb} of an unreadable record: expected `Corrupt`, came {}", text(answer))
    })
}

/// Checks an answer.
pub(super) fn expect<T: fmt::Debug + PartialEq>(what: &str, came: &T, expected: &T) -> Outcome {
    ensure(came == expected, || format!("{what}: expected {}, came {}", text(expected), text(came)))
}

/// Checks a condition.
pub(super) fn ensure(holds: bool, text: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(Violation::new(text())) }
}

/// Returns the answer of a request in its own task.
pub(super) async fn joined<T>(task: JoinHandle<Result<T, StoreError>>) -> Result<T, Violation> {
    match task.await {
        Ok(answer) => Ok(answer?),
        Err(panic) => Err(Violation::new(format!("the store panicked: {panic}"))),
    }
}

/// Returns the beginning of the `Debug` text.
pub(super) fn text(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

/// More keys than fit into one round trip of any store.
pub(super) const MANY: usize = 205;

const MAX_TEXT: usize = 800;
