//! I9: the count of bytes is exact after any steps of one thread.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

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
