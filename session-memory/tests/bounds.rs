//! The store keeps within its capacity, and gives memory back.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use session_core::{
    Clock as _, Key, Lifetime, Limits, ManualClock, SessionError, SessionId, Sessions,
    StoreErrorKind, SystemClock, Timestamp,
};
use session_memory::MemoryStore;

const TEXT: Key<String> = Key::new("text");

const MIB: u64 = 1024 * 1024;

fn sessions(store: &MemoryStore) -> Sessions {
    Sessions::new(store.clone())
}

/// Stores a new session with a text of so many bytes, and gives back its ID.
async fn sign_in(sessions: &Sessions, bytes: usize) -> SessionId {
    let session = sessions.open([]).await.unwrap();
    session.set(TEXT, "x".repeat(bytes)).unwrap();
    match session.finish().await.unwrap() {
        session_core::CookieChange::Set { id, .. } => id,
        change => panic!("{change:?}"),
    }
}

async fn is_live(sessions: &Sessions, id: &SessionId) -> bool {
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.key().is_some()
}

/// Replaces the text of a session.
async fn write(sessions: &Sessions, id: &SessionId, bytes: usize) {
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.set(TEXT, "x".repeat(bytes)).unwrap();
    let _ = session.finish().await.unwrap();
}

async fn log_out(sessions: &Sessions, id: &SessionId) {
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
}

async fn count_live(sessions: &Sessions, ids: &[SessionId]) -> usize {
    let mut live = 0;
    for id in ids {
        live += usize::from(is_live(sessions, id).await);
    }
    live
}

#[tokio::test]
async fn full_store_admits_each_new_session_and_evicts_the_least_used() {
    let store = MemoryStore::with_capacity(MIB).unwrap();
    assert_eq!(store.capacity(), MIB);
    let sessions = sessions(&store);
    // The old sessions are used often: a policy by frequency would keep them.
    let mut often = Vec::new();
    for _ in 0..100 {
        often.push(sign_in(&sessions, 4_000).await);
    }
    for _ in 0..20 {
        for id in &often {
            assert!(is_live(&sessions, id).await);
        }
    }
    for _ in 0..2_000 {
        let id = sign_in(&sessions, 4_000).await;
        assert!(is_live(&sessions, &id).await, "a login that does not take");
        assert!(store.bytes() <= MIB, "{} bytes", store.bytes());
    }
    for id in &often {
        assert!(!is_live(&sessions, id).await);
    }
}

#[tokio::test]
async fn session_that_grows_in_place_is_weighed_again() {
    let store = MemoryStore::with_capacity(MIB).unwrap();
    let sessions = sessions(&store);
    for number in 0..100 {
        let id = sign_in(&sessions, 10).await;
        let before = store.bytes();
        write(&sessions, &id, 60_000).await;
        assert!(number > 0 || store.bytes() - before > 60_000);
        assert!(store.bytes() <= MIB, "{} bytes", store.bytes());
        assert!(is_live(&sessions, &id).await);
    }
    assert!((10..=17).contains(&store.len()), "{}", store.len());
}

/// Fills a store with 500 sessions, and returns the sessions and the bytes counted.
async fn five_hundred(store: &MemoryStore) -> (Sessions, Vec<SessionId>, u64) {
    let sessions = sessions(store);
    let mut others = Vec::new();
    for _ in 0..500 {
        others.push(sign_in(&sessions, 900).await);
    }
    let bytes = store.bytes();
    assert!((500 * 900..MIB).contains(&bytes), "{bytes}");
    (sessions, others, bytes)
}

/// Makes moka drain its queue, as it does after 300 ms or 64 operations.
async fn let_moka_catch_up(sessions: &Sessions) {
    for _ in 0..32 {
        let id = sign_in(sessions, 10).await;
        log_out(sessions, &id).await;
    }
}

#[tokio::test]
async fn sessions_that_grow_and_end_leave_the_count_as_it_was() {
    let store = MemoryStore::with_capacity(2 * MIB).unwrap();
    let (sessions, others, bytes) = five_hundred(&store).await;
    for _ in 0..20 {
        let id = sign_in(&sessions, 10).await;
        let_moka_catch_up(&sessions).await;
        write(&sessions, &id, 60_000).await;
        log_out(&sessions, &id).await;
        assert_eq!(store.bytes(), bytes);
    }
    assert_eq!((count_live(&sessions, &others).await, store.len()), (500, 500));
    for _ in 0..5_000 {
        sign_in(&sessions, 900).await;
        assert!(store.bytes() <= 2 * MIB);
    }
    assert!((500..2_500).contains(&store.len()), "{} sessions", store.len());
}

#[tokio::test]
async fn sessions_that_shrink_and_end_leave_the_count_as_it_was() {
    let store = MemoryStore::with_capacity(2 * MIB).unwrap();
    let (sessions, others, bytes) = five_hundred(&store).await;
    for _ in 0..20 {
        let id = sign_in(&sessions, 60_000).await;
        let_moka_catch_up(&sessions).await;
        write(&sessions, &id, 10).await;
        log_out(&sessions, &id).await;
        assert_eq!(store.bytes(), bytes);
    }
    assert_eq!((count_live(&sessions, &others).await, store.len()), (500, 500));
    let mut new = Vec::new();
    for _ in 0..100 {
        new.push(sign_in(&sessions, 100).await);
    }
    assert_eq!(count_live(&sessions, &new).await, 100);
    assert_eq!(count_live(&sessions, &others).await, 500);
}

#[tokio::test]
async fn session_larger_than_the_store_is_refused_and_evicts_none() {
    let store = MemoryStore::with_capacity(MIB).unwrap();
    let limits = Limits::default().with_session_bytes(4 << 20).with_value_bytes(4 << 20);
    let sessions = Sessions::builder(store.clone()).with_limits(limits).build().unwrap();
    let id = sign_in(&sessions, 10).await;
    for is_new in [true, false] {
        let cookie = (!is_new).then(|| id.expose().as_bytes());
        let session = sessions.open(cookie).await.unwrap();
        session.set(TEXT, "x".repeat(2 << 20)).unwrap();
        let error = session.finish().await.unwrap_err();
        let SessionError::Store(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    }
    assert!(is_live(&sessions, &id).await);
    assert_eq!(store.len(), 1);
}

#[tokio::test]
async fn expired_sessions_leave_the_memory_as_the_store_is_used() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Sessions::builder(store.clone()).with_clock(clock.clone()).build().unwrap();
    for _ in 0..100 {
        sign_in(&sessions, 100).await;
    }
    assert_eq!(store.len(), 100);
    clock.advance(Duration::from_secs(3600));
    for _ in 0..20 {
        sign_in(&sessions, 100).await;
    }
    assert_eq!(store.len(), 20);
}

#[tokio::test]
async fn expired_sessions_leave_the_memory_on_request() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Sessions::builder(store.clone()).with_clock(clock.clone()).build().unwrap();
    for _ in 0..100 {
        sign_in(&sessions, 100).await;
    }
    let end = clock.now() + Duration::from_secs(3600);
    while store.remove_expired(Timestamp::from_millis(end.as_millis() - 1)) > 0 {}
    assert_eq!(store.len(), 100);
    while store.remove_expired(end) > 0 {}
    assert_eq!((store.len(), store.bytes(), store.is_empty()), (0, 0, true));
}

#[tokio::test]
async fn session_with_a_longer_lifetime_stays_in_memory() {
    let store = MemoryStore::default();
    let short = Lifetime::new(Duration::from_secs(2), Duration::from_secs(2)).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Sessions::builder(store.clone())
        .with_lifetime(short)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let (forgotten, remembered) = (sign_in(&sessions, 10).await, sign_in(&sessions, 10).await);
    let session = sessions.open([remembered.expose().as_bytes()]).await.unwrap();
    session.set_lifetime(Lifetime::aal1()).unwrap();
    let _ = session.finish().await.unwrap();
    clock.advance(Duration::from_secs(3));
    while store.remove_expired(clock.now()) > 0 {}
    assert_eq!(store.len(), 1);
    assert!(is_live(&sessions, &remembered).await);
    assert!(!is_live(&sessions, &forgotten).await);
}

#[test]
fn capacity_below_the_minimum_is_refused() {
    let error = MemoryStore::with_capacity(0).unwrap_err();
    assert_eq!(error.to_string(), "a memory store of 0 bytes is smaller than 1048576 bytes");
    assert!(MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).is_ok());
}

#[test]
fn store_is_shared_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: T) {}
    check(MemoryStore::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_from_many_threads_all_count() {
    const COUNT: Key<u64> = Key::new("count");
    let sessions =
        Sessions::builder(MemoryStore::default()).with_clock(SystemClock).build().unwrap();
    let id = sign_in(&sessions, 10).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (sessions, id) = (sessions.clone(), id.clone());
            tokio::spawn(async move {
                for _ in 0..50 {
                    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
                    session.update(COUNT, |count| *count += 1).unwrap();
                    let _ = session.finish().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    assert_eq!(session.get(COUNT), Some(64 * 50));
}

#[tokio::test]
async fn load_of_an_expired_session_removes_it() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Sessions::builder(store.clone()).with_clock(clock.clone()).build().unwrap();
    let id = sign_in(&sessions, 10).await;
    assert_eq!(store.len(), 1);
    clock.advance(Duration::from_secs(3600));
    assert!(!is_live(&sessions, &id).await);
    assert_eq!(store.len(), 0);
}
