//! The index of each owner holds the live sessions, and only them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use session_core::{
    AtLimit, Clock as _, CookieChange, Key, Lifetime, ManualClock, SessionId, SessionLimit,
    Sessions, Timestamp,
};
use session_memory::MemoryStore;

const TEXT: Key<String> = Key::new("text");

fn sessions(store: &MemoryStore) -> Sessions {
    Sessions::new(store.clone())
}

async fn sign_in(sessions: &Sessions, owner: u64) -> SessionId {
    let session = sessions.open([]).await.unwrap();
    session.authenticate(owner).unwrap();
    match session.finish().await.unwrap() {
        CookieChange::Set { id, .. } => id,
        change => panic!("{change:?}"),
    }
}

async fn sign_out(sessions: &Sessions, id: &SessionId) {
    let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
    session.destroy().unwrap();
    let _ = session.finish().await.unwrap();
}

/// Removes the expired sessions, and checks that the store is empty.
fn check_empty(store: &MemoryStore, clock: &ManualClock) {
    while store.remove_expired(clock.now()) > 0 {}
    assert_eq!((store.len(), store.approximate_indexes(), store.bytes()), (0, 0, 0));
}

#[tokio::test]
async fn logins_and_logouts_and_expiries_leave_nothing() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let sessions = Sessions::builder(store.clone()).with_clock(clock.clone()).build().unwrap();
    let soon = Lifetime::new(Duration::from_secs(2), Duration::from_secs(4)).unwrap();
    let short = Sessions::builder(store.clone())
        .with_clock(clock.clone())
        .with_lifetime(soon)
        .build()
        .unwrap();
    let short = Arc::new(short);
    for round in 0..50 {
        for owner in 0..1_000 {
            let id = sign_in(&sessions, owner).await;
            sign_in(&short, owner).await;
            if round % 2 == 0 {
                sign_out(&sessions, &id).await;
            } else {
                assert!(sessions.revoke(owner, id.key()).await.unwrap());
            }
        }
        assert!(store.approximate_indexes() <= 1_000);
        clock.advance(Duration::from_millis(100));
    }
    assert!(store.len() > 1_000);
    clock.advance(Duration::from_secs(3600));
    check_empty(&store, &clock);
}

#[tokio::test]
async fn idle_session_leaves_the_index_before_its_absolute_end() {
    let store = MemoryStore::default();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let idle = Lifetime::new(Duration::from_secs(2), Duration::from_secs(24 * 3600)).unwrap();
    let sessions = Sessions::builder(store.clone())
        .with_lifetime(idle)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let sessions = Arc::new(sessions);
    for owner in 0..1_000 {
        sign_in(&sessions, owner).await;
    }
    assert_eq!(store.approximate_indexes(), 1_000);
    clock.advance(Duration::from_secs(2));
    check_empty(&store, &clock);
}

#[tokio::test]
async fn evicted_session_leaves_the_index() {
    let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
    let sessions = sessions(&store);
    for owner in 0..5_000 {
        let id = sign_in(&sessions, owner % 2_500).await;
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        session.set(TEXT, "x".repeat(1_000)).unwrap();
        let _ = session.finish().await.unwrap();
    }
    let mut listed = 0;
    for owner in 0..2_500_u64 {
        listed += sessions.list(owner).await.unwrap().len();
    }
    let left = store.len();
    assert!((100..1_000).contains(&left), "{left} are left");
    assert_eq!(listed, left);
    assert!(store.approximate_indexes() <= left);
}

/// The table is full all the time, so that sessions are evicted as well (I8, I9).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn index_holds_each_session_after_four_threads() {
    const OWNERS: u64 = 50;
    let store = MemoryStore::with_capacity(MemoryStore::MIN_CAPACITY).unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
    let soon = Lifetime::new(Duration::from_secs(2), Duration::from_secs(4)).unwrap();
    let sessions = Sessions::builder(store.clone())
        .with_lifetime(soon)
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let tasks: Vec<_> = (0..4_u64)
        .map(|thread| {
            let (sessions, clock) = (sessions.clone(), Arc::clone(&clock));
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for step in 0..1_500 {
                    clock.advance(Duration::from_millis(1));
                    let owner = (7 * step + thread) % OWNERS;
                    ids.push((owner, sign_in(&sessions, owner).await));
                    let (_, id) = &ids[usize::try_from(step / 2).unwrap()];
                    sign_out(&sessions, id).await;
                    for back in [1, 10, 100].map(|back| ids.len().saturating_sub(back)) {
                        let (_, id) = &ids[back];
                        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
                        if session.key().is_some() {
                            let bytes = usize::try_from(step * 37 % 4_000).unwrap();
                            session.set(TEXT, "x".repeat(bytes)).unwrap();
                            // Another thread may have revoked or evicted the session.
                            drop(session.finish().await);
                        }
                    }
                    if step % 100 == 99 {
                        sessions.revoke_all(owner).await.unwrap();
                    }
                }
                ids
            })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap());
    }
    assert!(store.bytes() <= MemoryStore::MIN_CAPACITY, "{} bytes", store.bytes());
    let mut listed = HashSet::new();
    for owner in 0..OWNERS {
        listed.extend(sessions.list(owner).await.unwrap().iter().map(|info| (owner, info.key())));
    }
    assert!((100..ids.len() / 2).contains(&listed.len()), "{} are listed", listed.len());
    let mut live = HashSet::new();
    for (owner, id) in &ids {
        let session = sessions.open([id.expose().as_bytes()]).await.unwrap();
        live.extend(session.key().map(|key| (*owner, key)));
    }
    assert_eq!(listed, live);
    clock.advance(Duration::from_secs(3600));
    check_empty(&store, &clock);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_logins_never_leave_more_than_the_limit() {
    for at_limit in [AtLimit::Reject, AtLimit::EvictOldest, AtLimit::EvictLeastRecent] {
        let store = MemoryStore::default();
        let limit = SessionLimit::new(3, at_limit).unwrap();
        let processes = [(); 3]
            .map(|()| Sessions::builder(store.clone()).with_session_limit(limit).build().unwrap());
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let sessions = processes[number % 3].clone();
                tokio::spawn(async move {
                    let session = sessions.open([]).await.unwrap();
                    session.authenticate("ada").unwrap();
                    session.finish().await.is_ok()
                })
            })
            .collect();
        let mut accepted = 0;
        for task in tasks {
            accepted += usize::from(task.await.unwrap());
        }
        // Concurrent logins may all be refused, but never too few.
        let left = processes[0].list("ada").await.unwrap().len();
        assert!(left <= 3, "{left}");
        assert!(accepted >= left, "{accepted} were accepted, {left} are left");
        // An order of logins that is known leaves as many as the limit.
        for _ in 0..3 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            let session = processes[1].open([]).await.unwrap();
            session.authenticate("ada").unwrap();
            let is_accepted = session.finish().await.is_ok();
            let had_room = processes[0].list("ada").await.unwrap().len() <= 3;
            assert!(had_room && (is_accepted || at_limit == AtLimit::Reject));
        }
        assert_eq!(processes[0].list("ada").await.unwrap().len(), 3);
    }
}
