use std::sync::{Arc, atomic::AtomicBool};

use futures_util::FutureExt as _;
use session_core::{
    CookieChange, Key, Limits, ManualClock, SessionId, SessionStore as _, Sessions, envelope,
};
use session_memory::MemoryStore;

use super::*;

/// A cache, and the freshness of a connection that has just been proved.
struct World {
    copies: NearCopies,
    begin: Instant,
    freshness: Arc<ConnectionFreshness>,
}

impl World {
    fn new() -> Self {
        let begin = Instant::now();
        let copies = NearCopies::new(1024 * 1024, STALENESS);
        Self { copies, begin, freshness: ConnectionFreshness::new(begin) }
    }

    /// Reads over the connection, with an immediate reply.
    fn read(&self, revision: u64) {
        let fetch = self.copies.fetch(&key());
        fetch.keep(&entry(revision), &self.freshness.mark(self.begin));
    }

    fn revision_after(&self, span: Duration) -> Option<u64> {
        let found = self.copies.find(&key(), self.begin + span, NOW)?;
        Some(found.entry.revision().as_u64())
    }

    fn revision(&self) -> Option<u64> {
        self.revision_after(Duration::ZERO)
    }
}

fn key() -> SessionKey {
    SessionId::from_random_bits([7; 32]).key()
}

/// A session without values, with a lifetime of an hour.
fn entry(revision: u64) -> Entry {
    let mut bytes = vec![envelope::VERSION, envelope::LIVE];
    bytes.extend(envelope::u48(revision));
    bytes.extend([0; 8]);
    bytes.extend(envelope::u48(NOW.as_millis()));
    bytes.extend(envelope::u48(3_600_000));
    bytes.extend(envelope::u48(NOW.as_millis() + 3_600_000));
    bytes.extend(envelope::u48(NOW.as_millis()));
    bytes.push(0x80);
    Entry::decode(bytes).unwrap()
}

/// A session with a value of `bytes` bytes.
fn large_entry(bytes: usize) -> Entry {
    const TEXT: Key<String> = Key::new("text");

    let store = MemoryStore::with_capacity(1 << 30).unwrap();
    let clock = Arc::new(ManualClock::new(NOW));
    let limits = Limits::default().with_value_bytes(1 << 30).with_session_bytes(1 << 30);
    let sessions =
        Sessions::builder(store.clone()).with_clock(clock).with_limits(limits).build().unwrap();
    let sessions = Arc::new(sessions);
    let commit = async {
        let session = sessions.open([]).await.unwrap();
        session.set(TEXT, "x".repeat(bytes)).unwrap();
        let change = session.finish().await.unwrap();
        let CookieChange::Set { id, .. } = change else { panic!("{change:?}") };
        store.load(&id.key(), NOW).await.unwrap().unwrap()
    };
    commit.now_or_never().expect("memory is at hand")
}

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const STALENESS: Duration = Duration::from_secs(2);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn what_was_read_is_found_until_it_is_changed() {
    let world = World::new();
    assert_eq!(world.revision(), None);
    world.read(1);
    assert_eq!(world.revision(), Some(1));
    world.copies.invalidate(&key());
    assert_eq!(world.revision(), None);
    let stats = world.copies.stats();
    assert_eq!((stats.hits, stats.misses, stats.invalidations), (1, 2, 1));
}

/// The server reports a change to the process that made it, too.
#[test]
fn report_of_an_own_change_keeps_the_place_of_the_next_copy() {
    let world = World::new();
    world.read(1);
    drop(world.copies.changing(&[key()]));
    assert_eq!(world.copies.stats().entries, 1);
    world.copies.invalidate(&key());
    assert_eq!((world.copies.stats().entries, world.revision()), (1, None));
}

#[test]
fn an_answer_that_an_invalidation_overtook_is_not_kept() {
    let world = World::new();
    let (fetch, mark) = (world.copies.fetch(&key()), world.freshness.mark(world.begin));
    world.copies.invalidate(&key());
    fetch.keep(&entry(1), &mark);
    assert_eq!(world.revision(), None);
}

/// The later read is announced after the change, and returns the changed session.
#[test]
fn of_two_reads_the_one_after_the_change_is_kept() {
    for earlier_ends_first in [true, false] {
        let world = World::new();
        let mark = world.freshness.mark(world.begin);
        let earlier = world.copies.fetch(&key());
        world.copies.invalidate(&key());
        let later = world.copies.fetch(&key());
        if earlier_ends_first {
            earlier.keep(&entry(1), &mark);
            later.keep(&entry(2), &mark);
        } else {
            later.keep(&entry(2), &mark);
            earlier.keep(&entry(1), &mark);
        }
        assert_eq!(world.revision(), Some(2), "{earlier_ends_first}");
    }
}

/// The bound for a server whose replies prove nothing about other keys.
#[test]
fn copy_is_read_again_after_eight_times_the_staleness() {
    let world = World::new();
    world.read(1);
    let prove = |at: Duration| world.freshness.prove(world.begin + at);
    prove(8 * STALENESS);
    assert_eq!(world.revision_after(8 * STALENESS), Some(1));
    prove(8 * STALENESS + MILLISECOND);
    assert_eq!(world.revision_after(8 * STALENESS + MILLISECOND), None);
}

/// The session with the most requests needs its copy most.
#[test]
fn of_reads_that_overlap_without_end_one_is_kept() {
    let world = World::new();
    let mark = world.freshness.mark(world.begin);
    let mut earlier = world.copies.fetch(&key());
    for _ in 0..10 {
        let later = world.copies.fetch(&key());
        let _ = earlier.keep(&entry(1), &mark);
        earlier = later;
    }
    assert_eq!(world.revision(), Some(1));
    // A joined read loses its announcement as well.
    let (first, second) = (world.copies.fetch(&key()), world.copies.fetch(&key()));
    world.copies.invalidate(&key());
    let _ = (first.keep(&entry(1), &mark), second.keep(&entry(1), &mark));
    assert_eq!(world.revision(), None);
}

#[test]
fn a_read_that_came_to_nothing_leaves_no_trace() {
    let world = World::new();
    drop(world.copies.fetch(&key()));
    assert!(world.copies.fetches(&key()).is_empty());
    world.read(1);
    assert!(world.copies.fetches(&key()).is_empty());
}

/// Between the change on the server and the reply in this process, a read may return the old or the
/// new session.
#[test]
fn what_this_process_changes_is_forgotten_before_and_after() {
    let world = World::new();
    world.read(1);
    let keys = [key()];
    let changing = world.copies.changing(&keys);
    assert_eq!(world.revision(), None);
    world.read(1);
    let (fetch, mark) = (world.copies.fetch(&key()), world.freshness.mark(world.begin));
    drop(changing);
    assert_eq!(world.revision(), None);
    fetch.keep(&entry(1), &mark);
    assert_eq!(world.revision(), None);
}

#[test]
fn place_of_a_changed_session_is_kept_and_of_an_ended_one_given_up() {
    let world = World::new();
    let keys = [key()];
    let places = || (world.copies.stats().entries, world.copies.stats().bytes > 0);
    world.read(1);
    drop(world.copies.changing(&keys));
    assert_eq!((world.revision(), places()), (None, (1, true)));
    world.read(2);
    assert_eq!((world.revision(), places()), (Some(2), (1, true)));
    drop(world.copies.ending(&keys));
    assert_eq!((world.revision(), places()), (None, (0, false)));
}

#[test]
fn a_copy_is_used_only_while_its_connection_proves_itself() {
    let world = World::new();
    world.read(1);
    assert_eq!(world.revision_after(STALENESS), Some(1));
    assert_eq!(world.revision_after(STALENESS + MILLISECOND), None);
    world.freshness.prove(world.begin + MILLISECOND);
    assert_eq!(world.revision_after(STALENESS + MILLISECOND), Some(1));
    // A late reply to an early command proves only the time of sending.
    world.freshness.prove(world.begin);
    assert_eq!(world.revision_after(STALENESS + MILLISECOND), Some(1));
    assert_eq!(world.revision_after(STALENESS + 2 * MILLISECOND), None);
}

#[test]
fn a_proof_is_asked_for_in_time_and_not_by_all() {
    let world = World::new();
    world.read(1);
    let asked = |span| world.copies.find(&key(), world.begin + span, NOW).unwrap().wants_proof;
    assert!(!asked(STALENESS / 2));
    let late = STALENESS / 2 + MILLISECOND;
    assert_eq!([asked(late), asked(late), asked(late)], [true, false, false]);
    // The request for the first proof may have failed.
    let later = late + STALENESS / 8;
    assert_eq!([asked(later), asked(later)], [true, false]);
}

#[test]
fn a_copy_ends_with_its_session() {
    let world = World::new();
    world.read(1);
    let find = |now| world.copies.find(&key(), world.begin, now).is_some();
    let end = entry(1).expires_at();
    assert!(find(Timestamp::from_millis(end.as_millis() - 1)));
    assert!(!find(end));
}

#[test]
fn what_was_read_over_a_lost_connection_is_gone() {
    let world = World::new();
    world.read(1);
    let (fetch, mark) = (world.copies.fetch(&key()), world.freshness.mark(world.begin));
    world.copies.disconnect(&world.freshness);
    assert_eq!(world.revision(), None);
    fetch.keep(&entry(1), &mark);
    assert_eq!(world.revision(), None);
    // A lost connection cannot add or prove copies any more.
    world.read(1);
    world.freshness.prove(world.begin + MILLISECOND);
    assert_eq!(world.revision(), None);
    world.copies.disconnect(&world.freshness);
    world.copies.flush(&world.freshness);
    assert_eq!(world.copies.stats().flushes, 1, "it was lost once");
}

#[test]
fn a_flush_gives_up_what_was_read_before_it_and_no_more() {
    let world = World::new();
    world.read(1);
    let (fetch, mark) = (world.copies.fetch(&key()), world.freshness.mark(world.begin));
    let other = ConnectionFreshness::new(world.begin);
    let other_key = SessionId::from_random_bits([8; 32]).key();
    world.copies.fetch(&other_key).keep(&entry(5), &other.mark(world.begin));
    world.copies.flush(&world.freshness);
    fetch.keep(&entry(1), &mark);
    assert_eq!(world.revision(), None);
    world.read(2);
    assert_eq!(world.revision(), Some(2));
    assert!(world.copies.find(&other_key, world.begin, NOW).is_some(), "another connection's");
    assert_eq!(world.copies.stats().flushes, 1);
}

#[test]
fn copies_take_no_more_than_they_may() {
    let world = World::new();
    for number in 0..20_000_u16 {
        let mut bits = [0; 32];
        bits[..2].copy_from_slice(&number.to_le_bytes());
        let key = SessionId::from_random_bits(bits).key();
        world.copies.fetch(&key).keep(&entry(1), &world.freshness.mark(world.begin));
    }
    let stats = world.copies.stats();
    assert!(stats.bytes <= 1024 * 1024 && stats.entries > 1_000, "{stats:?}");
}

/// Copies in use stay, and unused copies are evicted.
#[test]
fn a_copy_that_is_used_stays_while_others_come_and_go() {
    let world = World::new();
    let keep = |number: u32| {
        let mut bits = [0; 32];
        bits[..4].copy_from_slice(&number.to_le_bytes());
        let key = SessionId::from_random_bits(bits).key();
        let _ = world.copies.fetch(&key).keep(&entry(1), &world.freshness.mark(world.begin));
        key
    };
    let (used, unused) = (keep(0), keep(1));
    let is_found = |key, second| {
        world.copies.find(key, world.begin, NOW + Duration::from_secs(second)).is_some()
    };
    for second in 0..40 {
        for number in 0..200 {
            keep(1_000 + 200 * second + number);
        }
        assert!(is_found(&used, second.into()), "{second}");
    }
    assert!(!is_found(&unused, 0));
}

/// The copy changes its size and is forgotten before moka has drained its queue.
#[test]
fn bytes_are_those_of_the_copies_after_they_changed_their_size() {
    let world = World::new();
    let keep =
        |entry: &Entry| world.copies.fetch(&key()).keep(entry, &world.freshness.mark(world.begin));
    let other = SessionId::from_random_bits([8; 32]).key();
    let _ = world.copies.fetch(&other).keep(&entry(1), &world.freshness.mark(world.begin));
    let bytes = world.copies.stats().bytes;
    let large = large_entry(50_000);
    for _ in 0..100 {
        assert!(keep(&entry(1)) && keep(&large));
        world.copies.forget(&key());
        assert!(keep(&large) && keep(&entry(1)));
        assert_eq!(world.copies.stats().bytes, 2 * bytes);
        world.copies.forget(&key());
        assert_eq!(world.copies.stats().bytes, bytes);
    }
}

#[test]
fn session_larger_than_the_cache_is_not_kept() {
    let world = World::new();
    world.read(1);
    assert!(
        !world
            .copies
            .fetch(&key())
            .keep(&large_entry(2_000_000), &world.freshness.mark(world.begin))
    );
    assert_eq!(world.revision(), None, "nor is the copy of what was before");
}

#[test]
fn threads_leave_no_more_than_the_capacity() {
    let world = World::new();
    let entries = [0, 500, 5_000, 50_000].map(large_entry);
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let (world, entries) = (&world, &entries);
            scope.spawn(move || {
                for step in 0..5_000_u32 {
                    let mut bits = [0; 32];
                    let number = step.wrapping_mul(2_654_435_761).wrapping_add(thread) % 4_000;
                    bits[..4].copy_from_slice(&number.to_le_bytes());
                    let key = SessionId::from_random_bits(bits).key();
                    if step % 5 == 0 {
                        world.copies.invalidate(&key);
                    } else {
                        let mark = world.freshness.mark(world.begin);
                        let entry = &entries[step.trailing_zeros().min(3) as usize];
                        let _ = world.copies.fetch(&key).keep(entry, &mark);
                        let _ = world.copies.find(&key, world.begin, NOW);
                    }
                }
            });
        }
    });
    let stats = world.copies.stats();
    assert!(stats.bytes <= 1024 * 1024 && stats.entries > 100, "{stats:?}");
    for number in 0..4_000_u32 {
        let mut bits = [0; 32];
        bits[..4].copy_from_slice(&number.to_le_bytes());
        world.copies.forget(&SessionId::from_random_bits(bits).key());
    }
    let stats = world.copies.stats();
    assert_eq!((stats.entries, stats.bytes), (0, 0));
}

/// A thread never finds an entry older than the last complete change of this process.
#[test]
fn threads_find_nothing_older_than_the_last_change() {
    let world = World::new();
    let (stored, told) = (AtomicU64::new(1), AtomicU64::new(1));
    let is_over = AtomicBool::new(false);
    let reader = || {
        while !is_over.load(Ordering::Relaxed) {
            let least = told.load(Ordering::SeqCst);
            if let Some(found) = world.revision() {
                assert!(found >= least, "{found} after {least}");
            }
            let (fetch, mark) = (world.copies.fetch(&key()), world.freshness.mark(world.begin));
            // The session on the server at some instant after the announcement.
            let answer = stored.load(Ordering::SeqCst);
            std::thread::yield_now();
            fetch.keep(&entry(answer), &mark);
        }
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(reader)).collect();
        let keys = [key()];
        for revision in 2..20_000 {
            let changing = world.copies.changing(&keys);
            stored.store(revision, Ordering::SeqCst);
            drop(changing);
            told.store(revision, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}
