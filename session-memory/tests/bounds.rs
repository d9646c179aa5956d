//! What the store does with its memory.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{sync::Arc, time::Duration};

use session_core::{Key, Lifetime, ManualClock, SessionId, Sessions, SystemClock, Timestamp};
use session_memory::MemoryStore;

const TEXT: Key<String> = Key::new("text");

const MIB: u64 = 1024 * 1024;

fn sessions(store: &MemoryStore) -> Arc<Sessions> {
    Arc::new(Sessions::new(store.clone()))
}

/// Stores a new session with a text of so many bytes, and gives back its ID.
async fn sign_in(sessions: &Arc<Sessions>, bytes: usize) -> SessionId {
    let session = sessions.open([]).await.unwrap();
    session.set(TEXT, &"x".repeat(bytes)).unwrap();
    match session.finish().await.unwrap() {
        session_core::CookieChange::Set { id, .. } => id,
        change => panic!("{change:?}"),
    }
}

async fn is_live(sessions: &Arc<Sessions>, id: &SessionId) -> bool {
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.key().is_some()
}

#[tokio::test]
async fn a_full_store_admits_every_new_session_and_evicts_the_least_used() {
    let store = MemoryStore::with_capacity(MIB).unwrap();
    let sessions = sessions(&store);
    // The old ones are used often: a policy that weighs use against use would keep them.
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
        store.run_pending_tasks();
        assert!(is_live(&sessions, &id).await, "a login that does not take");
        assert!(store.approximate_bytes() <= MIB, "{} bytes", store.approximate_bytes());
    }
    for id in &often {
        assert!(!is_live(&sessions, id).await);
    }
}

#[tokio::test]
async fn a_session_that_grows_in_place_is_weighed_again() {
    let store = MemoryStore::with_capacity(MIB).unwrap();
    let sessions = sessions(&store);
    let mut weights = Vec::new();
    for _ in 0..100 {
        let id = sign_in(&sessions, 10).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, &"x".repeat(60_000)).unwrap();
        let _ = session.finish().await.unwrap();
        store.run_pending_tasks();
        weights.push(store.approximate_bytes());
        assert!(store.approximate_bytes() <= MIB, "{} bytes", store.approximate_bytes());
        assert!(is_live(&sessions, &id).await);
    }
    assert!(weights[0] > 60_000, "{weights:?}");
    assert!((10..=17).contains(&store.approximate_len()), "{}", store.approximate_len());
}

#[tokio::test]
async fn what_ended_leaves_the_memory_by_itself() {
    let store = MemoryStore::default();
    let lifetime = Lifetime::new(Duration::from_secs(2), Duration::from_secs(4)).unwrap();
    let short = Arc::new(Sessions::new(store.clone()).with_lifetime(lifetime));
    for _ in 0..100 {
        sign_in(&short, 100).await;
    }
    store.run_pending_tasks();
    assert_eq!(store.approximate_len(), 100);

    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while store.approximate_len() > 0 {
        assert!(std::time::Instant::now() < deadline, "{} are left", store.approximate_len());
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.run_pending_tasks();
    }
    assert_eq!(store.approximate_bytes(), 0);
}

#[tokio::test]
async fn a_lifetime_that_grows_keeps_the_session_in_memory() {
    let store = MemoryStore::default();
    let short = Lifetime::new(Duration::from_secs(2), Duration::from_secs(2)).unwrap();
    // The clock stands still, so that only the cache's own time passes.
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions =
        Arc::new(Sessions::new(store.clone()).with_lifetime(short).with_clock(clock.clone()));
    let (forgotten, remembered) = (sign_in(&sessions, 10).await, sign_in(&sessions, 10).await);
    let session = sessions.open([remembered.expose().as_bytes()]).await.unwrap();
    session.set_lifetime(Lifetime::aal1()).unwrap();
    let _ = session.finish().await.unwrap();

    store.run_pending_tasks();
    assert_eq!(store.approximate_len(), 2);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while store.approximate_len() > 1 {
        assert!(std::time::Instant::now() < deadline, "{} are left", store.approximate_len());
        tokio::time::sleep(Duration::from_millis(20)).await;
        store.run_pending_tasks();
    }
    assert!(is_live(&sessions, &remembered).await);
    assert!(!is_live(&sessions, &forgotten).await);
}

#[test]
fn a_capacity_too_small_to_be_meant_is_refused() {
    let error = MemoryStore::with_capacity(0).unwrap_err();
    assert_eq!(error.to_string(), "a memory store of 0 bytes is smaller than 1048576 bytes");
    assert!(MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).is_ok());
}

#[test]
fn the_store_can_be_shared() {
    fn check<T: Send + Sync + Clone + 'static>(_: T) {}
    check(MemoryStore::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_from_many_threads_all_count() {
    const COUNT: Key<u64> = Key::new("count");
    let sessions = Arc::new(Sessions::new(MemoryStore::default()).with_clock(SystemClock));
    let id = sign_in(&sessions, 10).await;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (sessions, id) = (Arc::clone(&sessions), id.clone());
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
async fn asking_for_a_dead_session_does_not_keep_it() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Arc::new(Sessions::new(store.clone()).with_clock(clock.clone()));
    let id = sign_in(&sessions, 10).await;
    store.run_pending_tasks();
    assert_eq!(store.approximate_len(), 1);
    clock.advance(Duration::from_secs(3600));
    assert!(!is_live(&sessions, &id).await);
    store.run_pending_tasks();
    assert_eq!(store.approximate_len(), 0);
}
