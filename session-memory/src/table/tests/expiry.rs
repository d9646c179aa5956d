//! Expired values leave at their deadlines, a few with each operation.

use super::*;

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
