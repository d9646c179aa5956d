//! I6, I9: threads lose no change, keep the capacity, and leave an exact count of bytes.

use std::sync::{Barrier, atomic::AtomicBool};

use super::*;

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
