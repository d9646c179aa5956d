use std::{
    collections::HashMap,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use session_core::StoreErrorKind;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Value {
    number: u64,
    bytes: usize,
    end: Option<Timestamp>,
}

impl Held for Value {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn expires_at(&self) -> Option<Timestamp> {
        self.end
    }
}

fn value(bytes: usize) -> Value {
    Value { number: 0, bytes, end: None }
}

fn key(number: u64) -> SessionKey {
    let mut bytes = [0; SessionKey::LEN];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    SessionKey::from_bytes(bytes)
}

fn table(capacity: u64) -> EvictingTable<Value> {
    EvictingTable::new(capacity, |_, _| {})
}

/// A table whose moka never evicts.
fn table_with_idle_moka(capacity: u64) -> EvictingTable<Value> {
    EvictingTable::with_order(capacity, u64::MAX, Box::new(|_, _| {}))
}

fn number_at(table: &EvictingTable<Value>, number: u64, now: Timestamp) -> Option<u64> {
    table.find(&key(number), now, |value| value.is_live(now).then_some(value.number))
}

/// Checks the rules that hold between operations, without a call of moka.
fn check_counts(table: &EvictingTable<Value>) {
    let (mut bytes, mut dated, mut len) = (0, 0, 0);
    for slot in table.shelf.slots.pin().values() {
        let state = slot.lock();
        let live = state.as_ref().expect("no dead slot is left");
        assert!(live.is_queued, "moka has a ticket of each value");
        assert!(live.weight as usize >= live.value.bytes);
        bytes += u64::from(live.weight);
        dated += usize::from(live.due != Due::NEVER);
        len += 1;
    }
    assert_eq!(table.bytes(), bytes);
    assert_eq!(table.len(), len);
    assert_eq!(table.shelf.deadlines.len(), dated);
    assert!(bytes <= table.capacity(), "{bytes} bytes");
    assert_eq!(table.shelf.under_way.load(Ordering::Relaxed), 0);
}

/// Checks that moka, once it has caught up, counts the same.
fn check_order(table: &EvictingTable<Value>) {
    check_counts(table);
    assert_eq!(table.order.counts(), (table.bytes(), table.len() as u64));
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);
const CAPACITY: u64 = 64 * 1024;

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u64, bytes: usize, seconds: Option<u64> },
    Update { key: u64, bytes: usize, seconds: Option<u64> },
    Refuse { key: u64 },
    Remove { key: u64 },
    Find { key: u64 },
    RemoveExpired,
    Pass { millis: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || 0_u64..40;
    let bytes = || prop_oneof![4 => 1_usize..2_000, 1 => 2_000_usize..70_000];
    let seconds = || prop_oneof![Just(None), (1_u64..100).prop_map(Some)];
    let step = prop_oneof![
        6 => (key(), bytes(), seconds())
            .prop_map(|(key, bytes, seconds)| Step::Insert { key, bytes, seconds }),
        6 => (key(), bytes(), seconds())
            .prop_map(|(key, bytes, seconds)| Step::Update { key, bytes, seconds }),
        1 => key().prop_map(|key| Step::Refuse { key }),
        3 => key().prop_map(|key| Step::Remove { key }),
        3 => key().prop_map(|key| Step::Find { key }),
        1 => Just(Step::RemoveExpired),
        2 => (0_u64..40_000).prop_map(|millis| Step::Pass { millis }),
    ];
    prop::collection::vec(step, 1..400)
}

/// Takes steps, and compares each value found with a model: the last value written.
fn walk(table: &EvictingTable<Value>, steps: Vec<Step>) {
    let mut written = HashMap::<u64, Value>::new();
    let mut now = NOW;
    let end = |now: Timestamp, seconds: Option<u64>| {
        seconds.map(|seconds| now + Duration::from_secs(seconds))
    };
    for (number, step) in steps.into_iter().enumerate() {
        let number = number as u64;
        match step {
            Step::Insert { key: place, bytes, seconds } => {
                let value = Value { number, bytes, end: end(now, seconds) };
                match table.insert(&key(place), value, now) {
                    Ok(true) => {
                        written.insert(place, value);
                        assert_eq!(
                            number_at(table, place, now),
                            Some(number),
                            "a new one is there"
                        );
                    }
                    Ok(false) => assert!(written[&place].is_live(now)),
                    Err(_) => assert!(bytes > 60_000),
                }
            }
            Step::Update { key: place, bytes, seconds } => {
                let value = Value { number, bytes, end: end(now, seconds) };
                match table.update(&key(place), now, |_| Ok::<_, ()>(value)) {
                    Ok(Updated::Updated) => {
                        written.insert(place, value);
                        assert_eq!(number_at(table, place, now), Some(number));
                    }
                    Ok(_) => {}
                    Err(_) => assert!(bytes > 60_000),
                }
            }
            Step::Refuse { key: place } => {
                let before = table.bytes();
                let _ = table.update(&key(place), now, |_| Err(()));
                let removed = table.remove(&key(place), now, |_| Some(()));
                assert!(!matches!(removed, Removed::Removed(_)));
                assert!(table.bytes() <= before);
            }
            Step::Remove { key: place } => {
                if let Removed::Removed(value) = table.remove(&key(place), now, |_| None::<()>) {
                    assert_eq!(written.remove(&place), Some(value));
                }
                assert_eq!(number_at(table, place, now), None);
            }
            Step::Find { key: place } => {
                if let Some(found) = number_at(table, place, now) {
                    assert_eq!(found, written[&place].number);
                }
            }
            Step::RemoveExpired => {
                while table.remove_expired(now) > 0 {}
                for slot in table.shelf.slots.pin().values() {
                    assert!(slot.lock().as_ref().unwrap().value.is_live(now));
                }
            }
            Step::Pass { millis } => now = now + Duration::from_millis(millis),
        }
        check_counts(table);
    }
}

proptest! {
    #[test]
    fn counts_are_exact_after_any_steps(steps in steps()) {
        let table = table(CAPACITY);
        walk(&table, steps);
        check_order(&table);
    }

    #[test]
    fn counts_are_exact_without_help_of_moka(steps in steps()) {
        let table = table_with_idle_moka(CAPACITY);
        walk(&table, steps);
        check_order(&table);
    }
}

/// A small random number generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// Does what requests do, on four threads, to a table that is full all the time.
fn crowd(table: &EvictingTable<Value>, round: u64, steps: u64) {
    let (clock, added) = (AtomicU64::new(NOW.as_millis()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (table, clock, added) = (table, &clock, &added);
            scope.spawn(move || {
                let mut numbers = Numbers(thread);
                for step in 0..steps {
                    let now = Timestamp::from_millis(clock.fetch_add(3, Ordering::Relaxed));
                    let place = numbers.below(300);
                    let bytes = 1 + usize::try_from(numbers.below(2_000)).unwrap();
                    let end = Some(now + Duration::from_millis(numbers.below(5_000)));
                    let value = Value { number: step, bytes, end };
                    let added_before = added.fetch_add(bytes as u64, Ordering::Relaxed);
                    match numbers.below(5) {
                        0 => drop(table.insert(&key(place), value, now)),
                        1 => drop(table.update(&key(place), now, |_| Ok::<_, ()>(value))),
                        2 => drop(table.remove(&key(place), now, |_| None::<()>)),
                        3 => {
                            let fresh = 1_000 + (4 * round + thread) * steps + step;
                            let value = Value { end: None, ..value };
                            assert!(table.insert(&key(fresh), value, now).unwrap());
                            // Unless others have filled the table while this thread was waiting.
                            let is_found = number_at(table, fresh, now) == Some(step);
                            let since = added.load(Ordering::Relaxed) - added_before;
                            assert!(is_found || since > table.capacity() / 2, "{since} bytes");
                        }
                        _ => drop(number_at(table, place, now)),
                    }
                }
            });
        }
    });
}

#[test]
fn counts_are_exact_after_four_threads() {
    let table = table(16 * CAPACITY);
    for round in 0..10 {
        crowd(&table, round, 4_000);
        check_counts(&table);
        assert!(table.bytes() > 14 * CAPACITY, "the table is full: {} bytes", table.bytes());
    }
    check_order(&table);
}

#[test]
fn four_threads_keep_the_bound_without_help_of_moka() {
    let table = table_with_idle_moka(CAPACITY);
    for _ in 0..10 {
        crowd_of_writers(&table, 1_000);
        check_counts(&table);
    }
    check_order(&table);
}

/// Each insertion sees the other under way, and either has to make room.
#[test]
fn concurrent_insertions_keep_the_bound_without_help_of_moka() {
    let table = table_with_idle_moka(4_096);
    let turn = Barrier::new(2);
    let insert = |thread: u64| {
        for round in 0..2_000 {
            turn.wait();
            assert!(table.insert(&key(2 * round + thread), value(1_024), NOW).unwrap());
            turn.wait();
            assert!(table.bytes() <= 4_096, "{} bytes", table.bytes());
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| insert(0));
        scope.spawn(|| insert(1));
    });
    check_order(&table);
}

fn crowd_of_writers(table: &EvictingTable<Value>, steps: u64) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut numbers = Numbers(thread);
                for _ in 0..steps {
                    let place = numbers.below(300);
                    let value = value(1 + usize::try_from(numbers.below(2_000)).unwrap());
                    let _ = table.insert(&key(place), value, NOW);
                    let _ = table.update(&key(place), NOW, |_| Ok::<_, ()>(value));
                }
            });
        }
    });
}

/// Each acknowledged change is in the value that a later removal returns (I6).
#[test]
fn changes_are_in_the_value_that_leaves() {
    let table = table(CAPACITY);
    let is_over = AtomicBool::new(false);
    let start = Barrier::new(3);
    let (changed, left) = (AtomicU64::new(0), AtomicU64::new(0));
    let collect = || {
        if let Removed::Removed(value) = table.remove(&key(1), NOW, |_| None::<()>) {
            left.fetch_add(value.number, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                while !is_over.load(Ordering::Relaxed) {
                    let plus =
                        |value: &Value| Ok::<_, ()>(Value { number: value.number + 1, ..*value });
                    if table.update(&key(1), NOW, plus).unwrap() == Updated::Updated {
                        changed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        start.wait();
        for _ in 0..50_000 {
            let _ = table.insert(&key(1), value(100), NOW);
            collect();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    collect();
    assert_eq!(changed.into_inner(), left.into_inner());
    check_order(&table);
}

/// Or a change of a request that had looked the value up before would be acknowledged and lost (I2,
/// I6).
#[test]
fn slot_is_dead_after_its_value_was_evicted() {
    let table = table(1_024);
    table.insert(&key(1), value(1_000), NOW).unwrap();
    let slots = table.shelf.slots.pin();
    let slot = slots.get(&key(1)).unwrap();
    table.insert(&key(2), value(1_000), NOW).unwrap();
    assert!(slot.lock().is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn eviction_of_a_former_weighing_leaves_the_value() {
    let table = table(CAPACITY);
    table.insert(&key(1), value(100), NOW).unwrap();
    table.order.catch_up();
    // As if another thread were about to tell moka.
    let ticket = table.order.ticket();
    table
        .shelf
        .slots
        .pin()
        .get(&key(1))
        .unwrap()
        .lock()
        .as_mut()
        .unwrap()
        .reweigh(ticket, 128, NOW);
    table.order.insert(table.order.ticket(), key(2), 65_500);
    assert_eq!(table.order.counts(), (65_500, 1), "the former ticket is evicted");
    assert_eq!(number_at(&table, 1, NOW), Some(0));
}

#[test]
fn value_larger_than_the_table_is_refused() {
    let table = table(1_024);
    let error = table.insert(&key(1), value(1_025), NOW).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    assert!(table.insert(&key(1), value(1_024), NOW).unwrap());
    let error = table.update(&key(1), NOW, |_| Ok::<_, ()>(value(2_000))).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::TooLarge);
    assert_eq!(number_at(&table, 1, NOW), Some(0), "the former one is still there");
    assert!(table.insert(&key(2), value(1_024), NOW).unwrap(), "the other makes room");
    check_order(&table);
}

#[test]
fn expired_values_make_room_before_others() {
    let table = table(CAPACITY);
    let now = NOW + Duration::from_secs(2);
    table.insert(&key(0), value(1_000), NOW).unwrap();
    for number in 1..60 {
        let end = Some(NOW + Duration::from_secs(1));
        table.insert(&key(number), Value { number, bytes: 1_000, end }, NOW).unwrap();
    }
    table.insert(&key(100), value(60_000), now).unwrap();
    assert_eq!(number_at(&table, 0, now), Some(0), "it is the least recently used one");
}

/// Each value was used since, and its new deadline has not passed.
#[test]
fn full_table_looks_at_a_few_deadlines_that_were_put_off() {
    let table = table(CAPACITY);
    let end = |seconds| Some(NOW + Duration::from_secs(seconds));
    for number in 0..1_000 {
        table.insert(&key(number), Value { number, bytes: 64, end: end(1) }, NOW).unwrap();
        let used = Value { number, bytes: 64, end: end(100) };
        table.update(&key(number), NOW, |_| Ok::<_, ()>(used)).unwrap();
    }
    let later = NOW + Duration::from_secs(10);
    table.insert(&key(5_000), value(10_000), later).unwrap();
    let mut left = 0;
    while table.remove_expired(later) > 0 {
        left += 1;
    }
    assert!(left > 30, "{left} turns were left");
    check_order(&table);
}

#[test]
fn each_operation_removes_a_few_expired_values() {
    let table = table(16 * CAPACITY);
    let end = Some(NOW + Duration::from_secs(1));
    for number in 0..1_000 {
        table.insert(&key(number), Value { number, bytes: 100, end }, NOW).unwrap();
    }
    let later = NOW + Duration::from_secs(1);
    let mut left = table.len();
    assert_eq!(left, 1_000);
    while left > 0 {
        let _ = table.remove(&key(5_000), later, |_| None::<()>);
        let removed = left - table.len();
        assert!((1..=16).contains(&removed), "{removed}");
        left -= removed;
        check_counts(&table);
    }
}

#[test]
fn value_with_a_moved_deadline_leaves_at_the_new_one() {
    let seconds = |seconds| NOW + Duration::from_secs(seconds);
    for (first, second) in [(10, 100), (100, 10)] {
        let table = table(CAPACITY);
        let value = |end| Value { number: 1, bytes: 100, end: Some(seconds(end)) };
        table.insert(&key(1), value(first), NOW).unwrap();
        table.update(&key(1), NOW, |_| Ok::<_, ()>(value(second))).unwrap();
        while table.remove_expired(seconds(second - 1)) > 0 {}
        assert_eq!(table.len(), 1, "{first}, {second}");
        while table.remove_expired(seconds(second)) > 0 {}
        assert_eq!(table.len(), 0, "{first}, {second}");
        check_order(&table);
    }
}

#[test]
fn used_value_stays_while_others_come_and_go() {
    let table = table(CAPACITY);
    table.insert(&key(0), value(1_000), NOW).unwrap();
    table.insert(&key(1), value(1_000), NOW).unwrap();
    for second in 1..100 {
        let now = NOW + Duration::from_secs(second);
        for number in 0..20 {
            table.insert(&key(100 * second + number), value(1_000), now).unwrap();
        }
        assert_eq!(number_at(&table, 0, now), Some(0), "{second}");
        // As it does within a third of a second.
        table.order.catch_up();
    }
    assert_eq!(number_at(&table, 1, NOW), None);
}

#[test]
fn table_reports_each_value_that_leaves() {
    let left = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&left);
    let table = EvictingTable::new(CAPACITY, move |_, value: &Value| {
        sum.fetch_add(value.number, Ordering::Relaxed);
    });
    let end = Some(NOW + Duration::from_secs(1));
    for number in 1..=1_000 {
        let end = end.filter(|_| number % 2 == 0);
        table.insert(&key(number), Value { number, bytes: 1_000, end }, NOW).unwrap();
    }
    while table.remove_expired(NOW + Duration::from_secs(1)) > 0 {}
    for number in 1..=1_000 {
        let _ = table.remove(&key(number), NOW, |_| None::<()>);
    }
    assert_eq!(left.load(Ordering::Relaxed), 1_000 * 1_001 / 2);
    check_order(&table);
}

#[test]
fn table_is_shared_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: &T) {}
    check(&table(CAPACITY));
}
