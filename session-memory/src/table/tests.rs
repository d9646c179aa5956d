//! I9: the table stays within its capacity, and evicts the least recently used values first.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use session_core::StoreErrorKind;

use super::*;

mod expiry;
mod steps;
mod threads;

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
