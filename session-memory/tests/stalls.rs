//! An account with many sessions makes no stranger wait (I13).

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{
    Clock as _, CookieChange, Entry, Family, IndexEntry, Key, ManualClock, OwnerIndex as _,
    OwnerKey, SessionId, SessionKey, SessionStore as _, Sessions, Timestamp, envelope,
    testing::end_marker,
};
use session_memory::MemoryStore;

fn index_entry(key: SessionKey, until: Timestamp) -> IndexEntry {
    IndexEntry::new(key, Family::from_u64(1), until)
}

const TEXT: Key<String> = Key::new("text");

const OWNER: OwnerKey = OwnerKey::from_bytes([1; OwnerKey::LEN]);

/// The number of the owner's sessions.
const MANY: u64 = 20_000;

/// The longest that a load may take, in a build that is not optimized. If each ending goes through
/// all sessions of the owner, a load takes longer.
const SOON: Duration = Duration::from_millis(50);

struct World {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    sessions: Sessions,
    /// A session of nobody, which does not expire with the others.
    stranger: SessionId,
}

impl World {
    async fn new() -> Self {
        let store = MemoryStore::with_capacity(1 << 30).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions =
            Sessions::builder(store.clone()).with_clock(Arc::clone(&clock)).build().unwrap();
        let session = sessions.open([]).await.unwrap();
        session.set(TEXT, "text".to_owned()).unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
        Self { store, clock, sessions, stranger: id }
    }

    /// Creates sessions of the owner that expire within half an hour.
    async fn create(&self, count: u64) -> Vec<SessionKey> {
        let end = self.clock.now() + Duration::from_secs(1_800);
        let keys: Vec<_> = (0..count).map(key).collect();
        for key in &keys {
            let entry = self.entry(end);
            let now = self.clock.now();
            let index_entry = index_entry(*key, end);
            self.store.create_entered(&OWNER, index_entry, entry, now).await.unwrap();
        }
        keys
    }

    fn entry(&self, end: Timestamp) -> Entry {
        let now = self.clock.now();
        let mut bytes = vec![envelope::VERSION, envelope::LIVE];
        bytes.extend(envelope::u48(0));
        bytes.extend([0; 8]);
        bytes.extend(envelope::u48(now.as_millis()));
        bytes.extend(envelope::u48(u64::try_from(end.since(now).as_millis()).unwrap()));
        bytes.extend(envelope::u48(end.as_millis()));
        bytes.extend(envelope::u48(now.as_millis()));
        bytes.push(0x80);
        Entry::decode(bytes).unwrap()
    }

    /// Does some work beside loads of the stranger's session on the same thread.
    async fn load_beside(&self, work: impl Future<Output = ()> + Send + 'static) -> Times {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let (sessions, stranger) = (self.sessions.clone(), self.stranger.clone());
        // The first load is under way when the work begins.
        let loads = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                let session = sessions.open([stranger.expose().as_bytes()]).await.unwrap();
                assert!(session.key().is_some());
                tokio::task::yield_now().await;
                longest = longest.max(start.elapsed());
            }
            longest
        });
        let work = tokio::spawn(async move {
            let start = Instant::now();
            work.await;
            ends.store(true, Ordering::Relaxed);
            start.elapsed()
        });
        Times { work: work.await.unwrap(), longest_load: loads.await.unwrap() }
    }
}

struct Times {
    work: Duration,
    longest_load: Duration,
}

fn key(number: u64) -> SessionKey {
    let mut bits = [0; 32];
    bits[..8].copy_from_slice(&number.to_le_bytes());
    SessionId::from_random_bits(bits).key()
}

/// Returns `true` if one of a few attempts succeeds, as the machine may be busy with other work.
async fn in_some_attempt<F: Future<Output = bool>>(attempt: impl Fn() -> F) -> bool {
    for _ in 0..5 {
        if attempt().await {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn endings_of_one_owners_sessions_delay_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new().await;
        world.create(MANY).await;
        let (store, now) = (world.store.clone(), world.clock.now());
        let marker = end_marker(now + Duration::from_secs(1));
        let times = world.load_beside(async move {
            let entries = store.entries(&OWNER, now).await.unwrap();
            let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
            for keys in keys.chunks(100) {
                store.delete_or_block(keys, marker.clone(), now).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let times = times.await;
        assert_eq!((world.store.len(), world.store.approximate_owners()), (1, 0));
        times.longest_load < SOON
    });
    assert!(is_short.await);
}

#[tokio::test]
async fn one_call_for_all_sessions_of_an_owner_delays_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new().await;
        let keys = world.create(MANY).await;
        let (store, now) = (world.store.clone(), world.clock.now());
        let marker = end_marker(now + Duration::from_secs(1));
        let times = world.load_beside(async move {
            assert_eq!(store.load_many(&keys, now).await.unwrap().len(), keys.len());
            assert_eq!(store.delete_or_block(&keys, marker, now).await.unwrap().len(), keys.len());
        });
        let times = times.await;
        times.longest_load < times.work / 5
    });
    assert!(is_short.await);
}

#[tokio::test]
async fn expiry_of_one_owners_sessions_delays_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new().await;
        world.create(MANY).await;
        world.clock.advance(Duration::from_secs(1_800));
        let (store, now) = (world.store.clone(), world.clock.now());
        let mut left = store.len();
        let times = world.load_beside(async move {
            let mut number = MANY;
            while store.approximate_owners() > 0 {
                store.delete(&key(number), now).await.unwrap();
                let removed = left - store.len();
                assert!((1..=32).contains(&removed), "{removed}");
                left -= removed;
                number += 1;
                tokio::task::yield_now().await;
            }
        });
        let times = times.await;
        assert_eq!(world.store.len(), 1);
        times.longest_load < SOON
    });
    assert!(is_short.await);
}

/// The time per session does not depend on how many the owner has.
#[tokio::test]
async fn entering_and_ending_take_the_same_time_in_a_large_list() {
    let is_linear = in_some_attempt(|| async {
        let mut times = Vec::new();
        for others in [0, MANY] {
            let world = World::new().await;
            let keys = world.create(others + 1_000).await;
            let now = world.clock.now();
            let marker = end_marker(now + Duration::from_secs(1));
            let start = Instant::now();
            for key in &keys[..1_000] {
                let key = std::slice::from_ref(key);
                world.store.delete_or_block(key, marker.clone(), now).await.unwrap();
            }
            let end = now + Duration::from_secs(1);
            for key in &keys[..1_000] {
                world.store.enter(&OWNER, index_entry(*key, end), now).await.unwrap();
            }
            times.push(start.elapsed());
        }
        times[1] < 5 * times[0]
    });
    assert!(is_linear.await);
}
