//! The requests of an account with many sessions delay others by less than 50 ms (I13).

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use session_core::{
    AtLimit, Clock as _, CookieChange, Entry, Family, IndexEntry, IndexKey, Key, ManualClock,
    Owner, SessionError, SessionId, SessionIndex as _, SessionKey, SessionLimit, SessionStore as _,
    Sessions, Timestamp, envelope, testing::end_marker,
};
use session_memory::MemoryStore;
use tokio::{runtime, task::yield_now};

const TEXT: Key<String> = Key::new("text");

const OWNER: &str = "ada";

/// The number of the owner's sessions.
const MANY: u64 = 100_000;

/// The longest that another request may wait, in a build without optimizations.
const SOON: Duration = Duration::from_millis(50);

struct World {
    store: MemoryStore,
    clock: Arc<ManualClock>,
    sessions: Sessions,
    /// A session without an owner, which does not expire with the others.
    stranger: SessionId,
}

impl World {
    /// Creates sessions of the owner that expire within half an hour.
    async fn new(count: u64) -> Self {
        let store = MemoryStore::with_capacity(1 << 30).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let sessions =
            Sessions::builder(store.clone()).with_clock(Arc::clone(&clock)).build().unwrap();
        let session = sessions.open([]).await.unwrap();
        session.set(TEXT, "text".to_owned()).unwrap();
        let CookieChange::Set { id, .. } = session.finish().await.unwrap() else { panic!() };
        let world = Self { store, clock, sessions, stranger: id };
        let (now, end) = (world.clock.now(), world.end());
        for number in 0..count {
            let index_entry = index_entry(number, end);
            let entry = entry(index_entry.family, now, end);
            world.store.create_entered(&[owner()], index_entry, entry, now).await.unwrap();
        }
        world
    }

    fn end(&self) -> Timestamp {
        self.clock.now() + Duration::from_secs(1_800)
    }

    /// Returns sessions in the same store, of which each owner may have so many.
    fn limited(&self, max: usize, at_limit: AtLimit) -> Sessions {
        Sessions::builder(self.store.clone())
            .with_clock(Arc::clone(&self.clock))
            .with_session_limit(SessionLimit::new(max, at_limit).unwrap())
            .build()
            .unwrap()
    }

    /// Does some work, and measures the longest load of the stranger's session on the same thread.
    async fn load_beside(&self, work: impl Future<Output = ()> + Send + 'static) -> Duration {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let (sessions, stranger) = (self.sessions.clone(), self.stranger.clone());
        // The first load is under way when the work begins.
        let loads = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                let start = Stopwatch::new();
                let session = sessions.open([stranger.expose().as_bytes()]).await.unwrap();
                assert!(session.key().is_some());
                yield_now().await;
                longest = longest.max(start.elapsed());
            }
            longest
        });
        let work = tokio::spawn(async move {
            work.await;
            ends.store(true, Ordering::Relaxed);
        });
        work.await.unwrap();
        loads.await.unwrap()
    }
}

/// Measures the time of a thread without its waits for a processor, where the system reports them:
/// the load by other programs does not count.
struct Stopwatch {
    start: Instant,
    delay: Duration,
}

impl Stopwatch {
    fn new() -> Self {
        Self { start: Instant::now(), delay: thread_times(THIS_THREAD).delay }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed().saturating_sub(self.delay())
    }

    fn delay(&self) -> Duration {
        thread_times(THIS_THREAD).delay - self.delay
    }
}

/// The time of a thread on a processor, and the time in which it was ready and waited for one. Zero
/// where the system does not report them.
struct ThreadTimes {
    run: Duration,
    delay: Duration,
}

fn thread_times(thread: impl AsRef<Path>) -> ThreadTimes {
    let text = fs::read_to_string(thread.as_ref().join("schedstat")).unwrap_or_default();
    let mut nanos = text.split_whitespace().map(|nanos| nanos.parse().unwrap());
    let mut next = || Duration::from_nanos(nanos.next().unwrap_or(0));
    ThreadTimes { run: next(), delay: next() }
}

const THIS_THREAD: &str = "/proc/thread-self";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn owner() -> IndexKey {
    Owner::from(OWNER).key()
}

fn key(number: u64) -> SessionKey {
    let mut bytes = [0; SessionKey::LEN];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    SessionKey::from_bytes(bytes)
}

/// An entry in the index, of a random family.
fn index_entry(number: u64, until: Timestamp) -> IndexEntry {
    let key = key(number);
    let family = u64::from_le_bytes(*key.as_bytes().first_chunk().unwrap());
    IndexEntry::new(key, Family::from_u64(family), until)
}

fn entry(family: Family, now: Timestamp, end: Timestamp) -> Entry {
    let mut bytes = vec![envelope::VERSION, envelope::LIVE];
    bytes.extend(envelope::u48(0));
    bytes.extend([0; 8]);
    bytes.extend(envelope::u48(now.as_millis()));
    bytes.extend(envelope::u48(u64::try_from(end.since(now).as_millis()).unwrap()));
    bytes.extend(envelope::u48(end.as_millis()));
    bytes.extend(envelope::u48(now.as_millis()));
    // A map in MessagePack that holds the family and the owner.
    bytes.extend([0x82, 0xa1, b'f', 0xcf]);
    bytes.extend(family.as_u64().to_be_bytes());
    bytes.extend([0xa1, b'o', 0xc4, u8::try_from(OWNER.len()).unwrap()]);
    bytes.extend(OWNER.as_bytes());
    Entry::decode(bytes).unwrap()
}

async fn sign_in(sessions: &Sessions, owner: impl Into<Owner>) -> Result<(), SessionError> {
    let session = sessions.open([]).await?;
    session.authenticate(owner)?;
    session.finish().await.map(drop)
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

fn are_soon(longest: &[Duration]) -> bool {
    println!("{longest:?}");
    longest.iter().all(|longest| *longest < SOON)
}

#[tokio::test]
async fn lists_and_logins_of_one_owner_delay_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new(MANY).await;
        let sessions = world.sessions.clone();
        let list = world.load_beside(async move {
            assert_eq!(sessions.list(OWNER).await.unwrap().len() as u64, MANY);
        });
        let list = list.await;
        let rejecting = world.limited(1_000, AtLimit::Reject);
        let rejection = world.load_beside(async move {
            let error = sign_in(&rejecting, OWNER).await.unwrap_err();
            assert!(matches!(error, SessionError::TooManySessions { .. }));
        });
        let rejection = rejection.await;
        world.clock.advance(Duration::from_secs(1));
        let evicting = world.limited(1_000, AtLimit::EvictOldest);
        let eviction =
            world.load_beside(async move { sign_in(&evicting, OWNER).await.unwrap() }).await;
        assert_eq!(world.store.len(), 1_001);
        are_soon(&[list, rejection, eviction])
    });
    assert!(is_short.await);
}

#[tokio::test]
async fn revocation_of_one_owners_sessions_delays_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new(MANY).await;
        let sessions = world.sessions.clone();
        let longest = world.load_beside(async move {
            assert_eq!(sessions.revoke_all(OWNER).await.unwrap() as u64, MANY);
        });
        let longest = longest.await;
        assert_eq!((world.store.len(), world.store.approximate_indexes()), (1, 0));
        are_soon(&[longest])
    });
    assert!(is_short.await);
}

#[tokio::test]
async fn expiry_of_one_owners_sessions_delays_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new(MANY).await;
        world.clock.advance(Duration::from_secs(1_800));
        let (sessions, store) = (world.sessions.clone(), world.store.clone());
        let longest = world.load_beside(async move {
            let mut left = store.len();
            while store.approximate_indexes() > 0 {
                assert_eq!(sessions.list("bob").await.unwrap().len(), 0);
                sign_in(&sessions, "bob").await.unwrap();
                sessions.revoke_all("bob").await.unwrap();
                let removed = left - store.len();
                assert!((1..=500).contains(&removed), "{removed}");
                left -= removed;
                yield_now().await;
            }
        });
        let longest = longest.await;
        assert_eq!(world.store.len(), 1);
        are_soon(&[longest])
    });
    assert!(is_short.await);
}

/// The owner shares a lock with some of the other owners. The test counts the time for which the
/// list's thread runs while another thread waits: pauses of the list's thread do not count.
#[tokio::test]
async fn list_of_one_owners_entries_delays_no_other_thread() {
    let store = &MemoryStore::default();
    let (now, end) = (Timestamp::from_millis(0), Timestamp::from_millis(1));
    for number in 0..3 * MANY {
        store.enter(&owner(), index_entry(number, end), now).await.unwrap();
    }
    let is_short = in_some_attempt(|| async {
        let (is_over, end_of_threads) = (&AtomicBool::new(false), &Barrier::new(2));
        let (send_thread, receive_thread) = mpsc::channel();
        let longest = thread::scope(|scope| {
            scope.spawn(move || {
                send_thread.send(fs::canonicalize(THIS_THREAD).unwrap_or_default()).unwrap();
                let entries = block_on(store.entries(&owner(), now)).unwrap();
                is_over.store(true, Ordering::Relaxed);
                // The times of a thread end with it.
                end_of_threads.wait();
                assert!(entries.len() as u64 >= 3 * MANY);
            });
            let enter = async move {
                let of_list = receive_thread.recv().unwrap();
                let mut longest = Duration::ZERO;
                for number in (0_u64..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    let owner = Owner::from(number % 1_000).key();
                    let (start, run) = (Stopwatch::new(), thread_times(&of_list).run);
                    store.enter(&owner, index_entry(number, end), now).await.unwrap();
                    let run = thread_times(&of_list).run.saturating_sub(run);
                    longest = longest.max(start.elapsed().min(run.saturating_sub(start.delay())));
                }
                end_of_threads.wait();
                longest
            };
            scope.spawn(move || block_on(enter)).join().unwrap()
        });
        println!("{longest:?}");
        longest < SOON / 10
    });
    assert!(is_short.await);
}

#[tokio::test]
async fn one_call_for_all_sessions_of_an_owner_delays_no_load() {
    let is_short = in_some_attempt(|| async {
        let world = World::new(MANY / 5).await;
        let (store, now) = (world.store.clone(), world.clock.now());
        let marker = end_marker(now + Duration::from_secs(1));
        let longest = world.load_beside(async move {
            let entries = store.entries(&owner(), now).await.unwrap();
            let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
            assert_eq!(store.load_many(&keys, now).await.unwrap().len(), keys.len());
            assert_eq!(store.delete_or_block(&keys, marker, now).await.unwrap().len(), keys.len());
            store.leave(&owner(), &entries, now).await.unwrap();
        });
        are_soon(&[longest.await])
    });
    assert!(is_short.await);
}

/// The time per session does not depend on how many the owner has.
#[tokio::test]
async fn entering_and_ending_take_the_same_time_in_a_large_list() {
    let is_linear = in_some_attempt(|| async {
        let mut times = Vec::new();
        for others in [0, MANY / 5] {
            let world = World::new(others + 1_000).await;
            let now = world.clock.now();
            let marker = end_marker(now + Duration::from_secs(1));
            let start = Stopwatch::new();
            for number in 0..1_000 {
                world.store.delete_or_block(&[key(number)], marker.clone(), now).await.unwrap();
            }
            let end = now + Duration::from_secs(1);
            for number in 0..1_000 {
                world.store.enter(&owner(), index_entry(number, end), now).await.unwrap();
            }
            times.push(start.elapsed());
        }
        times[1] < 5 * times[0]
    });
    assert!(is_linear.await);
}
